//! `outbox recover`: publishes from the table what its stream forgot before a function of Lambda got it. A relay does so by
//! itself; functions cannot tell what they were not handed.

use outbox::{Filter, RouteName, bookkeeping::Replay};
use outbox_aws::dynamodb::{DynamoBookkeeping, Loss, TableSource};
use serde_json::json;

use crate::{
    commands::{self, replay},
    config::Config,
    exit::{Exit, Failure, Outcome},
    output::{Output, plain},
    wiring::{self, Stores},
};

/// Of which route, and since when.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The keeper carries it out as a replay, with a share of the table's read capacity, and goes on where it was if it is \
interrupted; `outbox replay list` shows it. What was published already is a duplicate to an inbox; what was not comes in \
its turn.")]
pub(crate) struct Args {
    /// The route
    #[arg(long, value_name = "NAME")]
    route: String,
    /// What was recorded at this time or later: RFC 3339, a date, or how long ago, as `26h` [default: as the alarm says, which
    /// stays if this is later]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Do it, rather than show what would be done
    #[arg(long)]
    yes: bool,
    /// Do not wait until the keeper has done it
    #[arg(long, requires = "yes")]
    no_wait: bool,
    /// Nothing is missing: end the alarm, and publish nothing
    #[arg(long, conflicts_with_all = ["since", "yes"])]
    dismiss: bool,
}

/// Shows what would be published; with `--yes` has it done.
pub(crate) async fn run(config: Config, out: Output, args: &Args) -> Outcome {
    let Some(watermarks) = wiring::watermarks(&config).await? else {
        return Err(Failure::usage("no functions publish: a relay recovers by itself")
            .help("`outbox status` shows whether one is under way; `outbox replay` publishes history again"));
    };
    let stores = commands::stores(&config).await?;
    let registration = replay::registered(&stores, std::slice::from_ref(&args.route)).await?.remove(0);
    let route = registration.route.clone();
    let loss = watermarks.watermark(&route).await?.loss;
    if args.dismiss {
        return dismiss(&watermarks, out, &route, loss.as_ref()).await;
    }
    let since = match (replay::time("--since", args.since.as_deref())?, &loss) {
        (Some(since), _) => since,
        (None, Some(loss)) => loss.since,
        (None, None) => {
            return Err(Failure::not_found(format!("nothing is known to be missing of route `{route}`"))
                .help("publish what was recorded since some time by `--since`"));
        }
    };
    let mut plan = replay::plan(&stores, registration, &Filter::default(), None, Some(since), None).await?;
    // All of the table, also where no keeper has run yet to say that the route is published elsewhere.
    let end = TableSource::published_elsewhere();
    plan.replay.ends = vec![(end.partition, end.position)];
    // What is older than that stays missing, and so does the alarm.
    let alarm = loss.as_ref().filter(|loss| since <= loss.since);
    let asked = under_way(&stores, loss.as_ref()).await?.filter(|_| args.since.is_none());
    let found = match &asked {
        Some(asked) => {
            plan.replay = asked.clone();
            None
        }
        None => Some(replay::count(&stores, out, &plan).await?),
    };
    if !args.yes {
        match found {
            Some(found) => replay::show(out, &[found], false),
            None => show_under_way(out, &plan.replay),
        }
        return Ok(Exit::Ok);
    }
    // Where nothing is left, nothing is to be asked for.
    let left = found.as_ref().is_none_or(|found| found.events > 0);
    if left && asked.is_none() {
        // First the replay, then who cares for the alarm: what is asked for twice is published twice, and never not at all.
        stores.bookkeeping.put_replay(&plan.replay).await?;
        if let Some(alarm) = alarm {
            warn_unless(watermarks.note_recovering(&route, alarm, &plan.replay.id).await?, &route);
        }
    }
    if left && !args.no_wait {
        replay::wait(&config, &stores, out, &[&plan]).await?;
    }
    if let Some(alarm) = alarm.filter(|_| !left) {
        warn_unless(watermarks.forget_loss(&route, alarm).await?, &route);
    } else if alarm.is_some() && !args.no_wait {
        // What was found since is not made good by it.
        let now = watermarks.watermark(&route).await?.loss;
        if let Some(now) = now.filter(|now| now.replay.as_ref() == Some(&plan.replay.id)) {
            warn_unless(watermarks.forget_loss(&route, &now).await?, &route);
        }
    }
    match found {
        Some(found) if left => replay::show(out, &[found.of(&plan.replay)], true),
        Some(found) => replay::show(out, &[found], true),
        None => show_under_way(out, &plan.replay),
    }
    Ok(Exit::Ok)
}

/// More was found missing while this was at it.
fn warn_unless(as_read: bool, route: &RouteName) {
    if !as_read {
        tracing::warn!(%route, "more was found missing meanwhile, and the alarm stays: recover it by the same command again");
    }
}

fn show_under_way(out: Output, replay: &Replay) {
    if out.json {
        out.value(&json!({ "replay": replay.id }));
    } else {
        out.line(format!("replay {} publishes it: `outbox status` shows how far it is", plain(&replay.id)));
    }
}

/// The replay that publishes it already.
async fn under_way(stores: &Stores, loss: Option<&Loss>) -> Result<Option<Replay>, Failure> {
    let Some(asked) = loss.and_then(|loss| loss.replay.as_ref()) else { return Ok(None) };
    let replays = stores.bookkeeping.replays().await?;
    Ok(replays.into_iter().find(|replay| replay.id == *asked && !replay.finished))
}

async fn dismiss(watermarks: &DynamoBookkeeping, out: Output, route: &RouteName, loss: Option<&Loss>) -> Outcome {
    let Some(loss) = loss else {
        return Err(Failure::not_found(format!("nothing is known to be missing of route `{route}`")));
    };
    if !watermarks.forget_loss(route, loss).await? {
        return Err(Failure::new(format!("more of route `{route}` was found missing meanwhile, and the alarm stays"))
            .help("`outbox status` shows it; dismiss that, if nothing is missing"));
    }
    if out.json {
        out.value(&json!({ "dismissed": route.as_str() }));
    } else {
        out.line(format!("{route}: the alarm is dismissed, and nothing was published"));
    }
    Ok(Exit::Ok)
}

//! `outbox replay`: publishes history again.

use std::time::Duration;

use indicatif::ProgressBar;
use jiff::Timestamp;
use outbox::{
    Clock as _, Entropy as _, Filter, System,
    bookkeeping::{Checkpoint, Replay},
    filter::Matcher,
    store::Registration,
};
use serde_json::json;

use crate::{
    commands::{self, listed, standing, without_relay},
    config::{Config, units},
    exit::{Exit, Failure, Outcome},
    output::{Output, counted, number, plain, size},
    wiring::Stores,
};

mod count;

pub(super) use count::{Found, count};

/// Which events, to which route.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("to").required(true).args(["route", "all"]),
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "\
Everything up to where the route stands that its filter takes and that is not purged is replayed, in \
order, beside what the route publishes now: also what it keeps as a dead letter or parked, and what was \
discarded. Events carry `replayid`. A consumer with an inbox in order takes them for duplicates unless it was rewound \
first: `outbox inbox rewind`."
)]
pub(crate) struct Args {
    /// What to do with replays that were asked for
    #[command(subcommand)]
    command: Option<Command>,
    /// To this route; may be given several times
    #[arg(long, value_name = "NAME")]
    route: Vec<String>,
    /// To all routes
    #[arg(long)]
    all: bool,
    /// Only what was recorded at this time or later: RFC 3339, a date, or how long ago, as `2h`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was recorded before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only keys that match this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    key: Vec<String>,
    /// Only types that match this glob; may be given several times
    #[arg(long = "type", value_name = "GLOB")]
    kind: Vec<String>,
    /// Only the event with this id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Do it, rather than show what would be done
    #[arg(long)]
    yes: bool,
    /// Do not wait until a relay has done it
    #[arg(long, requires = "yes")]
    no_wait: bool,
}

/// What to do with replays that were asked for.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List those that are not finished, and those that keep events
    List,
    /// End one before it is done, so that retention no longer waits for it; no relay may run
    Cancel {
        /// The replay, as `list` shows it
        #[arg(value_name = "ID")]
        replay: String,
    },
}

/// A replay to be, and how its events are recognised.
pub(super) struct Plan {
    pub(super) replay: Replay,
    registration: Registration,
    wanted: Matcher,
    routed: Matcher,
}

/// Shows what would be replayed; with `--yes` has it done.
pub(crate) async fn run(config: Config, out: Output, args: Args) -> Outcome {
    let stores = commands::stores(&config).await?;
    match &args.command {
        Some(Command::List) => return list(&stores, out).await,
        Some(Command::Cancel { replay }) => return cancel(&config, &stores, out, replay).await,
        None => {}
    }
    let (since, until) = (time("--since", args.since.as_deref())?, time("--until", args.until.as_deref())?);
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(Failure::usage(format!("--since {since} is not before --until {until}")).help("exchange them"));
    }
    let filter = Filter { types: args.kind.clone(), keys: args.key.clone(), ..Filter::default() };
    let mut plans = Vec::new();
    for registration in routes(&stores, &args).await? {
        plans.push(plan(&stores, registration, &filter, args.id.clone(), since, until).await?);
    }
    let mut found = Vec::new();
    for plan in &plans {
        found.push(count(&stores, out, plan).await?);
    }
    if found.iter().all(|found| found.events == 0) {
        return Err(Failure::not_found("nothing matches up to where the route stands; nothing was done")
            .help("`outbox status` shows what a route has yet to publish; purged entries are gone"));
    }
    if !args.yes {
        show(out, &found, false);
        return Ok(Exit::Ok);
    }
    for (plan, found) in plans.iter().zip(&mut found).filter(|(_, found)| found.events > 0) {
        stores.bookkeeping.put_replay(&plan.replay).await?;
        found.replay = Some(plan.replay.id.clone());
    }
    if !args.no_wait {
        let asked: Vec<_> =
            plans.iter().zip(&found).filter(|(_, found)| found.replay.is_some()).map(|(plan, _)| plan).collect();
        wait(&config, &stores, out, &asked).await?;
    }
    show(out, &found, true);
    Ok(Exit::Ok)
}

async fn list(stores: &Stores, out: Output) -> Outcome {
    let mut list = Vec::new();
    for replay in stores.bookkeeping.replays().await? {
        let kept = stores.bookkeeping.kept_counts(&replay.route.replay(&replay.id)).await?;
        if !replay.finished || kept.lanes > 0 {
            list.push((replay, kept.retrying + kept.dead + kept.parked));
        }
    }
    if out.json {
        let shown = |(replay, kept): &(Replay, u64)| json!({ "id": replay.id, "route": replay.route.as_str(), "finished": replay.finished, "kept": kept });
        out.value(&json!({ "replays": list.iter().map(shown).collect::<Vec<_>>() }));
        return Ok(Exit::Ok);
    }
    for (replay, kept) in &list {
        let state = if replay.finished { "finished" } else { "under way" };
        let kept = counted(*kept, "kept event", "kept events");
        out.line(format!("{} to {}: {state}, {kept}", plain(&replay.id), replay.route));
    }
    if list.is_empty() {
        out.line("no replay is under way");
    }
    Ok(Exit::Ok)
}

/// Without a relay, for one that still reads for the replay would miss what is purged then.
async fn cancel(config: &Config, stores: &Stores, out: Output, id: &str) -> Outcome {
    let replay = stores.bookkeeping.replays().await?.into_iter().find(|replay| replay.id == id && !replay.finished);
    let Some(replay) = replay else {
        return Err(Failure::not_found(format!("no replay `{id}` is under way"))
            .help("`outbox replay list` shows those there are"));
    };
    without_relay(config, stores, out, "outbox replay cancel", async |_| {
        Ok(stores.bookkeeping.put_replay(&Replay { finished: true, ..replay }).await?)
    })
    .await?;
    if out.json {
        out.value(&json!({ "cancelled": id }));
    } else {
        out.line(format!("replay {} is cancelled; retention no longer waits for it", plain(id)));
    }
    Ok(Exit::Ok)
}

pub(super) fn time(option: &str, text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let parsed = text.map(|text| units::time(text, System.wall()).map_err(|wrong| (text, wrong))).transpose();
    parsed.map_err(|(text, wrong)| Failure::usage(format!("{option}: `{text}` {wrong}")))
}

async fn routes(stores: &Stores, args: &Args) -> Result<Vec<Registration>, Failure> {
    if args.all {
        return Ok(stores.business.routes().await?);
    }
    registered(stores, &args.route).await
}

/// The routes of these names.
pub(super) async fn registered(stores: &Stores, names: &[String]) -> Result<Vec<Registration>, Failure> {
    let registrations = stores.business.routes().await?;
    let pick = |wanted: &String| {
        let found = registrations.iter().find(|registration| registration.route.as_str() == wanted);
        found.cloned().ok_or_else(|| {
            let known = listed(registrations.iter().map(|registration| registration.route.as_str()));
            Failure::not_found(format!("route `{wanted}` is not registered: no relay has published to it"))
                .help(format!("registered: {known}"))
        })
    };
    names.iter().map(pick).collect()
}

pub(super) async fn plan(
    stores: &Stores,
    registration: Registration,
    filter: &Filter,
    event: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Plan, Failure> {
    let checkpoints = stores.bookkeeping.checkpoints(&registration.route).await?;
    let checkpoints = checkpoints.into_iter().filter(|checkpoint| !checkpoint.partition.is_recovery());
    let listed = stores.source.partitions().await?;
    let is_listed = |checkpoint: &Checkpoint| listed.iter().any(|listed| listed.id == checkpoint.partition);
    let (there, gone): (Vec<_>, Vec<_>) = checkpoints.partition(is_listed);
    // What was read in partitions that are all gone is in the table.
    let ends = if there.is_empty() { gone } else { there }.into_iter();
    let replay = Replay {
        id: new_id(),
        route: registration.route.clone(),
        filter: filter.clone(),
        event,
        since,
        until,
        ends: ends.map(|checkpoint| (checkpoint.partition, checkpoint.position)).collect(),
        finished: false,
    };
    let (wanted, routed) = (filter.compile(), registration.filter.compile());
    Ok(Plan { replay, registration, wanted, routed })
}

/// The time, for people, and something random, lest two are the same.
fn new_id() -> String {
    let random = System.seed() & 0xffff;
    format!("{}-{random:04x}", System.wall().strftime("%Y%m%dT%H%M%SZ"))
}

/// Waits until a relay has carried out all of `plans`.
pub(super) async fn wait(config: &Config, stores: &Stores, out: Output, plans: &[&Plan]) -> Result<(), Failure> {
    let mut total = 0;
    for plan in plans {
        total += standing::left_of_replay(stores, &plan.registration, &plan.replay).await?;
    }
    let bar: ProgressBar = out.progress(total, "replaying");
    if stores.bookkeeping.lease(&config.relay.name).await?.released && !out.json {
        let who = if config.forwarders.is_empty() {
            "no relay runs: it begins once one does"
        } else {
            "the keeper carries it out: it begins with its next invocation"
        };
        bar.suspend(|| eprintln!("{who} (Ctrl-C leaves it to that)"));
    }
    loop {
        let unfinished: Vec<_> = stores
            .bookkeeping
            .replays()
            .await?
            .into_iter()
            .filter(|replay| !replay.finished)
            .map(|replay| replay.id)
            .collect();
        let mut left = 0;
        let mut waiting = false;
        for plan in plans.iter().filter(|plan| unfinished.contains(&plan.replay.id)) {
            waiting = true;
            left += standing::left_of_replay(stores, &plan.registration, &plan.replay).await?;
        }
        if !waiting {
            bar.finish_and_clear();
            return nothing_was_cancelled(stores, plans).await;
        }
        bar.set_position(total.saturating_sub(left));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// A replay that somebody cancelled is finished, too, but not to its end.
async fn nothing_was_cancelled(stores: &Stores, plans: &[&Plan]) -> Result<(), Failure> {
    for plan in plans {
        let left = standing::left_of_replay(stores, &plan.registration, &plan.replay).await?;
        if left > 0 {
            let entries = counted(left, "entry", "entries");
            return Err(Failure::new(format!("replay {} was cancelled, {entries} before its end", plan.replay.id))
                .help("ask for it again to publish the rest, or all of it"));
        }
    }
    Ok(())
}

pub(super) fn show(out: Output, found: &[Found], asked: bool) {
    if out.json {
        out.value(&json!({ "dry_run": !asked, "routes": found }));
        return;
    }
    for one in found {
        let range = match (one.first, one.last) {
            (Some(first), Some(last)) => format!("\n  recorded {first:.0} to {last:.0}"),
            _ => String::new(),
        };
        let id = one.replay.as_ref().map_or_else(String::new, |id| format!("\n  replay {id}"));
        let events = counted(one.events, "event", "events");
        let table =
            if one.table { "\n  read from the table, up to now: the stream does not remember all of it" } else { "" };
        out.line(format!("{}: {events}, {} of payload{range}{table}{id}", one.route, size(one.bytes)));
    }
    if !asked {
        let sum = number(found.iter().map(|found| found.events).sum());
        out.line(out.paint.faint(&format!("\nnothing was done; --yes publishes these {sum} again")));
    }
}

//! `outbox purge`: removes what is published, or what is kept of a key.

use outbox::{Clock as _, Key, System, relay::passed_by_all, store::Retention};
use serde_json::json;

use crate::{
    commands,
    config::{self, Config, units},
    exit::{Exit, Failure, Outcome},
    output::{Output, counted, number},
    wiring::Stores,
};

/// What to remove.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only entries that every registered route and every unfinished replay are past are removed, in small \
batches that delay a writer by milliseconds at most. Without options the configuration's `store.retention` decides.")]
pub(crate) struct Args {
    /// Published entries older than this, as `7d`
    #[arg(long, value_name = "AGE", conflicts_with_all = ["keep", "key"])]
    older_than: Option<String>,
    /// With --yes: all published entries but the newest so many
    #[arg(long, value_name = "N", conflicts_with = "key")]
    keep: Option<u64>,
    /// Erase every event of this key that a route keeps (retrying, dead letter, parked), as for a request to be forgotten
    #[arg(long, value_name = "KEY", requires = "yes")]
    key: Option<String>,
    /// With --keep or --key: really
    #[arg(long)]
    yes: bool,
}

/// Removes what `args` say.
pub(crate) async fn run(config: Config, out: Output, args: Args) -> Outcome {
    let stores = commands::stores(&config).await?;
    if let Some(key) = &args.key {
        return erase(&stores, out, key).await;
    }
    #[cfg(feature = "aws")]
    if let config::DatabaseConfig::Dynamo(_) = &config.store.database {
        return Err(Failure::usage("DynamoDB deletes entries itself, when they expire: there is nothing to purge")
            .help("`retention_seconds` of the item `store` says how long entries live; --key erases what routes keep of a key"));
    }
    let retention = retention(&config, &args)?;
    if let (Some(newest), false) = (args.keep, args.yes) {
        let what = format!("this removes all published entries but the newest {}", number(newest));
        return Err(Failure::usage(format!("{what}, and they cannot be replayed any more; nothing was done"))
            .help("--yes does it"));
    }
    let bar = out.waiting("purging");
    let mut removed = 0;
    let mut needed = true;
    for partition in stores.source.partitions().await? {
        let (store, source, bookkeeping) = (&*stores.business, &*stores.source, &*stores.bookkeeping);
        while let Some(passed) = passed_by_all(store, source, bookkeeping, &partition.id).await? {
            needed = false;
            let purged = stores.business.purge(&passed, retention).await?;
            removed += purged.entries;
            bar.set_message(format!("purging: {}", counted(removed, "entry", "entries")));
            if !purged.more {
                break;
            }
            // Let writers in between batches.
            tokio::task::yield_now().await;
        }
    }
    if needed {
        bar.finish_and_clear();
        done(out, 0, Some("a route or a replay has not published anything yet, so everything is still needed"));
        return Ok(Exit::Ok);
    }
    bar.finish_and_clear();
    done(out, removed, None);
    Ok(Exit::Ok)
}

fn done(out: Output, removed: u64, why: Option<&str>) {
    if out.json {
        out.value(&json!({ "entries": removed }));
    } else {
        out.line(format!("{} removed", counted(removed, "entry", "entries")));
        if let Some(why) = why {
            out.line(out.paint.faint(why));
        }
    }
}

fn retention(config: &Config, args: &Args) -> Result<Retention, Failure> {
    let age = |age: std::time::Duration| {
        System
            .wall()
            .checked_sub(age)
            .map(Retention::Before)
            .map_err(|_| Failure::usage("that is longer ago than time goes back"))
    };
    match (&args.older_than, args.keep) {
        (Some(text), _) => {
            age(units::duration(text).map_err(|wrong| Failure::usage(format!("--older-than: `{text}` {wrong}")))?)
        }
        (None, Some(newest)) => Ok(Retention::Newest(newest)),
        (None, None) => match config.store.retention {
            config::Retention::Age(duration) => age(duration),
            config::Retention::Newest(newest) => Ok(Retention::Newest(newest)),
            config::Retention::Off => Err(Failure::usage("what to purge is not said, and `store.retention` is off")
                .help("say --older-than 7d or --keep 100000 --yes, or set `store.retention`")),
        },
    }
}

async fn erase(stores: &Stores, out: Output, key: &str) -> Outcome {
    let key = Key::new(key).map_err(|error| Failure::usage(format!("--key: {error}")))?;
    let erased = stores.bookkeeping.erase(&key).await?;
    if out.json {
        out.value(&json!({ "erased": erased }));
    } else if erased > 0 {
        out.line(format!("{} of `{key}` erased", counted(erased, "kept event", "kept events")));
    }
    if erased == 0 {
        return Err(Failure::not_found(format!("no route keeps anything of `{key}`")));
    }
    Ok(Exit::Ok)
}

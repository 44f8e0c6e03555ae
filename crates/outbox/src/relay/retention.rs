//! Purging entries that every route is past.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{builder::Parts, lease::Guard, metric};
use crate::{
    bookkeeping::{Operator, Replay},
    entry::Position,
    error::{ErrorKind, StoreError},
    source::{PartitionId, Source},
    store::{BusinessStore, Retention},
};

/// How long published entries are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetentionPolicy {
    /// For ever.
    #[default]
    Off,
    /// For this long after they were recorded.
    Age(Duration),
    /// The newest so many.
    Newest(u64),
}

/// How often the owner looks for something to purge.
const ROUND: Duration = Duration::from_secs(60);
/// The pause between two batches of a round, so that writers get their turn.
const BETWEEN_BATCHES: Duration = Duration::from_millis(50);

pub(super) async fn run(parts: Arc<Parts>, guard: Guard) -> Result<(), StoreError> {
    tokio::try_join!(purging(&parts, &guard), keeping_status(&parts, &guard)).map(|((), ())| ())
}

/// Tells the store what every route is past, where others look at it.
async fn keeping_status(parts: &Parts, guard: &Guard) -> Result<(), StoreError> {
    let Some(interval) = parts.store.status_interval() else { return std::future::pending().await };
    loop {
        let (mut more, mut pause) = (true, interval);
        while more && guard.holds() {
            more = match keep_status(parts).await {
                Ok(more) => more,
                Err(error) => match error.kind() {
                    ErrorKind::Fenced | ErrorKind::HistoryChanged | ErrorKind::Ownership => return Err(error),
                    // Nothing depends on it but who looks at it, so publishing goes on.
                    ErrorKind::Unavailable
                    | ErrorKind::Full
                    | ErrorKind::Trimmed
                    | ErrorKind::Incompatible
                    | ErrorKind::NotPermitted
                    | ErrorKind::Invalid => {
                        tracing::warn!(%error, "the status of published rows could not be kept; trying again in a minute");
                        pause = ROUND;
                        false
                    }
                },
            };
        }
        sleep(pause).await;
    }
}

/// One batch. Gives whether there is more.
async fn keep_status(parts: &Parts) -> Result<bool, StoreError> {
    let mut more = false;
    for partition in parts.source.partitions().await? {
        if let Some(passed) = passed_by_all(&*parts.store, &*parts.source, &*parts.bookkeeping, &partition.id).await? {
            more |= parts.store.keep_status(&passed).await?;
        }
    }
    Ok(more)
}

async fn purging(parts: &Parts, guard: &Guard) -> Result<(), StoreError> {
    let retention = |parts: &Parts| match parts.retention {
        RetentionPolicy::Off => Retention::Off,
        RetentionPolicy::Age(age) => Retention::Before(parts.clock.wall().saturating_sub(age).unwrap_or_default()),
        RetentionPolicy::Newest(entries) => Retention::Newest(entries),
    };
    if parts.retention == RetentionPolicy::Off {
        return std::future::pending().await;
    }
    loop {
        let mut more = true;
        while more && guard.holds() {
            more = match purge(parts, retention(parts)).await {
                Ok(more) => more,
                Err(error) if error.kind().retry() => {
                    tracing::warn!(%error, "purging failed; trying again later");
                    false
                }
                Err(error) => return Err(error.context("purging")),
            };
            sleep(BETWEEN_BATCHES).await;
        }
        sleep(ROUND).await;
    }
}

/// Removes one batch. Gives whether there is more.
async fn purge(parts: &Parts, retention: Retention) -> Result<bool, StoreError> {
    for partition in parts.source.partitions().await? {
        if let Some(passed) = passed_by_all(&*parts.store, &*parts.source, &*parts.bookkeeping, &partition.id).await? {
            let purged = parts.store.purge(&passed, retention).await?;
            metrics::counter!(metric::PURGED).increment(purged.entries);
            if purged.more {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The position of `partition` that every registered route is past, configured or not, and every replay that is not
/// finished and reads it; `None` if one of them has no checkpoint yet or has to read the table again first, or if there is
/// no route. Entries up to it may be purged.
///
/// # Errors
/// As the stores gave them.
pub async fn passed_by_all(
    store: &dyn BusinessStore,
    source: &dyn Source,
    bookkeeping: &dyn Operator,
    partition: &PartitionId,
) -> Result<Option<Position>, StoreError> {
    let mut names: Vec<_> = store.routes().await?.into_iter().map(|registration| registration.route).collect();
    let replays = bookkeeping.replays().await?;
    let replayed = |replay: &&Replay| !replay.finished && replay.ends.iter().any(|(read, _)| read == partition);
    names.extend(replays.iter().filter(replayed).map(|replay| replay.route.replay(&replay.id)));
    let mut passed: Option<Position> = None;
    for name in names {
        let checkpoints = bookkeeping.checkpoints(&name).await?;
        if checkpoints.iter().any(|checkpoint| checkpoint.partition.is_recovery() && !checkpoint.finished) {
            return Ok(None);
        }
        let Some(checkpoint) = checkpoints.into_iter().find(|checkpoint| checkpoint.partition == *partition) else {
            return Ok(None);
        };
        passed = Some(match passed {
            Some(passed) => source.passed_by_both(&passed, &checkpoint.position),
            None => checkpoint.position,
        });
    }
    Ok(passed)
}

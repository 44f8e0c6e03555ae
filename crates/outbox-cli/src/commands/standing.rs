//! How far routes are, and what lies behind them.

use jiff::Timestamp;
use outbox::{PartitionId, Position, Start, StoreError, bookkeeping::Replay, source::Backlog, store::Registration};

use crate::{config::RouteConfig, wiring::Stores};

/// Where a route stands in a partition.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// The partition.
    pub partition: PartitionId,
    /// Its checkpoint, or where it would start.
    pub position: Position,
    /// Whether it has a checkpoint.
    pub stored: bool,
}

/// Where the route of `registration` stands in every partition.
pub(crate) async fn standings(stores: &Stores, registration: &Registration) -> Result<Vec<Standing>, StoreError> {
    let checkpoints = stores.bookkeeping.checkpoints(&registration.route).await?;
    let mut standings = Vec::new();
    for partition in stores.source.partitions().await? {
        let found = checkpoints.iter().find(|checkpoint| checkpoint.partition == partition.id);
        let read = |parent: &PartitionId| checkpoints.iter().any(|known| known.partition == *parent && known.finished);
        let position = match found {
            Some(checkpoint) => checkpoint.position.clone(),
            // As the relay begins: a partition whose parents were read at its own beginning.
            None if !partition.parents.is_empty() && partition.parents.iter().all(read) => {
                stores.source.beginning(&partition.id).await?
            }
            None => stores.source.start(&partition.id, registration).await?,
        };
        standings.push(Standing { partition: partition.id, position, stored: found.is_some() });
    }
    Ok(standings)
}

/// What lies behind all of `standings`.
pub(crate) async fn backlog(stores: &Stores, standings: &[Standing]) -> Result<Backlog, StoreError> {
    let mut sum = Backlog { entries: 0, exact: true, oldest: None };
    for standing in standings {
        let one = stores.source.backlog(&standing.partition, &standing.position).await?;
        sum.entries += one.entries;
        sum.exact &= one.exact;
        sum.oldest = [sum.oldest, one.oldest].into_iter().flatten().min();
    }
    Ok(sum)
}

/// The registration that `route` would get now.
pub(crate) fn would_be(route: &RouteConfig, now: Timestamp) -> Registration {
    let settings = &route.settings;
    Registration {
        route: settings.name.clone(),
        filter: settings.filter.clone(),
        start: settings.start,
        start_position: None,
        max_event_bytes: u64::MAX >> 1,
        gapless: settings.filter.keeps_keys_whole(),
        registered: now,
    }
}

/// Entries that `replay` still has to read.
pub(crate) async fn left_of_replay(
    stores: &Stores,
    registration: &Registration,
    replay: &Replay,
) -> Result<u64, StoreError> {
    let progress = stores.bookkeeping.checkpoints(&replay.route.replay(&replay.id)).await?;
    let from_start = Registration { start: Start::Beginning, start_position: None, ..registration.clone() };
    let mut left = 0;
    for (partition, end) in &replay.ends {
        let found = progress.iter().find(|checkpoint| checkpoint.partition == *partition);
        let position = match found {
            Some(checkpoint) => checkpoint.position.clone(),
            None => stores.source.start(partition, &from_start).await?,
        };
        let behind = stores.source.backlog(partition, &position).await?.entries;
        left += behind.saturating_sub(stores.source.backlog(partition, end).await?.entries);
    }
    Ok(left)
}

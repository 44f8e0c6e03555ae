//! How far routes are, and what lies behind them.

use jiff::Timestamp;
use outbox::{
    ErrorKind, Partition, PartitionId, Position, Start, StoreError,
    bookkeeping::{Checkpoint, Replay},
    source::Backlog,
    store::Registration,
};

use crate::{config::RouteConfig, wiring::Stores};

/// Where a route stands in a partition.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// The partition.
    pub partition: PartitionId,
    /// Its checkpoint, or where it would start; none where nobody can tell yet.
    pub position: Option<Position>,
    /// Whether it has a checkpoint.
    pub stored: bool,
}

/// How far a route is.
#[derive(Clone, Debug)]
pub(crate) struct Behind {
    /// Where it stands in each partition.
    pub standings: Vec<Standing>,
    /// What lies behind all of these.
    pub backlog: Backlog,
    /// What the source says where it does not remember what comes next, so that the table has to be read again.
    pub forgotten: Option<String>,
}

/// A route, as it is looked at.
struct Looked<'a> {
    stores: &'a Stores,
    registration: &'a Registration,
    checkpoints: Vec<Checkpoint>,
    listed: Vec<Partition>,
}

/// How far the route of `registration` is.
pub(crate) async fn behind(stores: &Stores, registration: &Registration) -> Result<Behind, StoreError> {
    let checkpoints = stores.bookkeeping.checkpoints(&registration.route).await?;
    let listed = stores.source.partitions().await?;
    let looked = Looked { stores, registration, checkpoints, listed };
    let backlog = Backlog { entries: 0, exact: true, oldest: None };
    let mut behind = Behind { standings: Vec::new(), backlog, forgotten: None };
    // As long as the table is read again, nothing else is.
    if let Some(recovery) = looked.checkpoints.iter().rfind(|known| known.partition.is_recovery() && !known.finished) {
        looked.add(&recovery.partition, Ok(recovery.position.clone()), false, &mut behind).await?;
        return Ok(behind);
    }
    for partition in &looked.listed {
        let waits = looked.waits(partition);
        let position = looked.position_in(partition, waits).await;
        looked.add(&partition.id, position, waits, &mut behind).await?;
    }
    for gone in looked.checkpoints.iter().filter(|known| !known.finished && !looked.is_listed(&known.partition)) {
        match looked.add(&gone.partition, Ok(gone.position.clone()), false, &mut behind).await {
            // It is of another source, which read for the route before.
            Err(error) if error.kind() == ErrorKind::Invalid => {}
            added => added?,
        }
    }
    Ok(behind)
}

impl Looked<'_> {
    fn checkpoint(&self, partition: &PartitionId) -> Option<&Checkpoint> {
        self.checkpoints.iter().find(|known| known.partition == *partition)
    }

    fn is_listed(&self, partition: &PartitionId) -> bool {
        self.listed.iter().any(|listed| listed.id == *partition)
    }

    /// Whether others have to be read to their end before a partition is begun.
    fn waits(&self, partition: &Partition) -> bool {
        let is_open = |parent: &PartitionId| {
            self.checkpoint(parent).map_or_else(|| self.is_listed(parent), |known| !known.finished)
        };
        self.checkpoint(&partition.id).is_none() && partition.parents.iter().any(is_open)
    }

    /// Where the route stands, or begins as a relay would have it.
    async fn position_in(&self, partition: &Partition, waits: bool) -> Result<Position, StoreError> {
        if let Some(known) = self.checkpoint(&partition.id) {
            return Ok(known.position.clone());
        }
        let (source, parents) = (&self.stores.source, &partition.parents);
        let is_read = |parent: &PartitionId| self.checkpoint(parent).is_some_and(|known| known.finished);
        if waits || (!parents.is_empty() && parents.iter().all(is_read)) {
            return source.beginning(&partition.id).await;
        }
        source.start(&partition.id, self.registration).await
    }

    /// Adds what lies behind a position. What the source does not remember of a partition that `waits` it may once those
    /// before it were read.
    async fn add(
        &self,
        partition: &PartitionId,
        position: Result<Position, StoreError>,
        waits: bool,
        behind: &mut Behind,
    ) -> Result<(), StoreError> {
        let (stored, finished) = self.checkpoint(partition).map_or((false, false), |known| (true, known.finished));
        let nothing = Backlog { entries: 0, exact: true, oldest: None };
        let (position, found) = match position {
            Ok(position) if finished => (Some(position), Ok(nothing)),
            Ok(position) => {
                let found = self.stores.source.backlog(partition, &position).await;
                (Some(position), found)
            }
            Err(error) => (None, Err(error)),
        };
        let sum = &mut behind.backlog;
        match found {
            Ok(one) => {
                sum.entries += one.entries;
                sum.exact &= one.exact;
                sum.oldest = [sum.oldest, one.oldest].into_iter().flatten().min();
            }
            Err(error) if error.kind() == ErrorKind::Trimmed => {
                sum.exact = false;
                if !waits {
                    behind.forgotten.get_or_insert_with(|| error.to_string());
                }
            }
            Err(error) => return Err(error),
        }
        behind.standings.push(Standing { partition: partition.clone(), position, stored });
        Ok(())
    }
}

/// About how many entries a relay would read again of the table; none if the source cannot do that.
///
/// # Errors
/// What the relay would stop with.
pub(crate) async fn in_table(stores: &Stores, registration: &Registration) -> Result<Option<u64>, StoreError> {
    let checkpoints = stores.bookkeeping.checkpoints(&registration.route).await?;
    let Some(recovery) = stores.source.recovery(registration, &checkpoints).await? else { return Ok(None) };
    Ok(Some(stores.source.backlog(&recovery.partition, &recovery.position).await?.entries))
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

/// The route `registration` as `replay` reads for it.
pub(crate) fn replaying(registration: &Registration, replay: &Replay) -> Registration {
    let start = replay.since.map_or(Start::Beginning, Start::Time);
    Registration { start, start_position: None, ..registration.clone() }
}

/// Where `replay` begins in a partition in which it goes to `end`.
pub(crate) async fn start_of_replay(
    stores: &Stores,
    registration: &Registration,
    replay: &Replay,
    (partition, end): &(PartitionId, Position),
) -> Result<Position, StoreError> {
    let start = stores.source.start(partition, &replaying(registration, replay)).await?;
    Ok(stores.source.leading_to(&start, end))
}

/// Entries that `replay` still has to read.
pub(crate) async fn left_of_replay(
    stores: &Stores,
    registration: &Registration,
    replay: &Replay,
) -> Result<u64, StoreError> {
    let source = &stores.source;
    let progress = stores.bookkeeping.checkpoints(&replay.route.replay(&replay.id)).await?;
    if let Some(recovery) = progress.iter().rfind(|known| known.partition.is_recovery() && !known.finished) {
        return Ok(source.backlog(&recovery.partition, &recovery.position).await?.entries);
    }
    let mut left = 0;
    for read in &replay.ends {
        match left_in(stores, registration, replay, &progress, read).await {
            // The relay reads the table then.
            Err(error) if error.kind() == ErrorKind::Trimmed => {
                let replaying = replaying(registration, replay);
                let Some(recovery) = source.recovery(&replaying, &progress).await? else { return Err(error) };
                return Ok(source.backlog(&recovery.partition, &recovery.position).await?.entries);
            }
            one => left += one?,
        }
    }
    Ok(left)
}

/// What it has to read of one partition.
async fn left_in(
    stores: &Stores,
    registration: &Registration,
    replay: &Replay,
    progress: &[Checkpoint],
    read: &(PartitionId, Position),
) -> Result<u64, StoreError> {
    let ((partition, end), source) = (read, &stores.source);
    let found = progress.iter().find(|checkpoint| checkpoint.partition == *partition);
    let position = match found {
        Some(checkpoint) => checkpoint.position.clone(),
        None => start_of_replay(stores, registration, replay, read).await?,
    };
    if found.is_some_and(|checkpoint| checkpoint.finished) || source.order(&position, end).is_ge() {
        return Ok(0);
    }
    let behind = source.backlog(partition, &position).await?.entries;
    Ok(behind.saturating_sub(source.backlog(partition, end).await?.entries).max(1))
}

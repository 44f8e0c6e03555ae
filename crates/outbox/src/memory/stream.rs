//! A stream of a store's commits in memory, in shards that split, merge, roll over and forget.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use self::{
    position::{Cursor, InScan, InShard},
    scan::Scan,
    shards::{Shard, Shards},
};
use super::{MemoryStore, lock, store::Data};
use crate::{
    bookkeeping::Checkpoint,
    entry::{Position, Record},
    error::{ErrorKind, StoreError},
    event::Key,
    source::{Backlog, KeyOrder, Limit, Page, Partition, PartitionId, Recovery, Source},
    store::Registration,
};

mod habits;
mod position;
mod scan;
mod shards;
#[cfg(test)]
mod tests;

pub use habits::Habits;

/// What a [`MemoryStream`] is like.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// The shards that it begins with; at least one.
    pub shards: u32,
    /// The most that one page holds.
    pub page: Limit,
    /// By how much a recovery goes back behind what was read last, and shards behind a recovery's start: longer than any
    /// transaction takes.
    pub slack: Duration,
    /// What it does that nobody would wish for.
    pub habits: Habits,
}

impl Default for StreamSettings {
    /// One shard, pages of 1,000 events or 1 MiB, a slack of an hour, no habits.
    fn default() -> Self {
        Self {
            shards: 1,
            page: Limit { events: 1000, bytes: 1 << 20 },
            slack: Duration::from_secs(3600),
            habits: Habits::default(),
        }
    }
}

/// A [`Source`] that hands out the commits of a [`MemoryStore`] as a table's change stream does: by shards, each for some
/// of the keys.
///
/// What was committed before the stream was made is only in the table. Shards are split, merged, rolled over and trimmed
/// by hand; a route whose checkpoint is older than what is left recovers from the store's entries. When the store is put
/// back to an older copy, the stream forgets what is not in it. Time and randomness are the store's and the settings': the
/// same commits and calls give the same records. It keeps a note of every commit for ever: it is for tests.
///
/// A clone is the same handle; [`on`](Self::on) gives one that reads by the claims of another handle of the store. The
/// store purges by its own positions only: leave a relay's retention off.
#[derive(Clone)]
pub struct MemoryStream {
    store: MemoryStore,
    shards: Arc<Mutex<Shards>>,
    settings: StreamSettings,
}

impl MemoryStream {
    /// A stream of what is committed to `store` from now on.
    pub fn new(store: &MemoryStore, settings: StreamSettings) -> Self {
        let shards = Shards::new(&lock(&store.shared.data), &settings, store.shared.clock.wall());
        Self { store: store.clone(), shards: Arc::new(Mutex::new(shards)), settings }
    }

    /// The same stream, read under the claims of `store`, a handle of the same store.
    pub fn on(&self, store: &MemoryStore) -> Self {
        Self { store: store.clone(), ..self.clone() }
    }

    /// The shards that take commits now.
    pub fn open_shards(&self) -> Vec<PartitionId> {
        self.caught_up(&self.data()).open().map(Shard::id).collect()
    }

    /// The shard that takes the commits of `key` now.
    pub fn shard_of(&self, key: &Key) -> PartitionId {
        self.caught_up(&self.data()).shard_of(key.as_str())
    }

    /// The number of the latest record: what [`trim_to`](Self::trim_to) takes.
    pub fn latest(&self) -> u64 {
        self.caught_up(&self.data()).latest()
    }

    /// Closes a shard; two children take half of its keys each.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is not an open shard.
    pub fn split(&self, shard: &PartitionId) -> Result<[PartitionId; 2], StoreError> {
        let wall = self.store.shared.clock.wall();
        let split = self.caught_up(&self.data()).split(shard, wall);
        self.wake();
        split
    }

    /// Closes two shards; a child takes the keys of both.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if they are not two open shards.
    pub fn merge(&self, one: &PartitionId, other: &PartitionId) -> Result<PartitionId, StoreError> {
        let wall = self.store.shared.clock.wall();
        let merged = self.caught_up(&self.data()).merge(one, other, wall);
        self.wake();
        merged
    }

    /// Closes a shard; a child takes its keys.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is not an open shard.
    pub fn roll(&self, shard: &PartitionId) -> Result<PartitionId, StoreError> {
        let wall = self.store.shared.clock.wall();
        let rolled = self.caught_up(&self.data()).roll(shard, wall);
        self.wake();
        rolled
    }

    /// Forgets what was recorded before `time`, and closed shards of which nothing is left. Gives how many records.
    pub fn trim_before(&self, time: Timestamp) -> u64 {
        let trimmed = self.caught_up(&self.data()).trim(|recorded, _| recorded < time.as_millisecond());
        self.wake();
        trimmed
    }

    /// Forgets the records up to number `latest`, and closed shards of which nothing is left. Gives how many records.
    pub fn trim_to(&self, latest: u64) -> u64 {
        let trimmed = self.caught_up(&self.data()).trim(|_, sequence| sequence <= latest);
        self.wake();
        trimmed
    }

    /// Readers that wait look again: a shard that was closed has an end.
    fn wake(&self) {
        self.store.shared.note_commit();
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.store.shared.data)
    }

    /// The shards with all that is committed.
    fn caught_up(&self, data: &Data) -> MutexGuard<'_, Shards> {
        let mut shards = lock(&self.shards);
        shards.catch_up(data);
        shards
    }

    fn slack(&self) -> i64 {
        i64::try_from(self.settings.slack.as_millis()).unwrap_or(i64::MAX)
    }

    fn limit(&self, asked: Limit) -> Limit {
        let page = self.settings.page;
        Limit { events: asked.events.min(page.events), bytes: asked.bytes.min(page.bytes) }
    }
}

fn invalid(message: String) -> StoreError {
    StoreError::new(ErrorKind::Invalid, message)
}

fn trimmed(message: String) -> StoreError {
    StoreError::new(ErrorKind::Trimmed, message)
}

#[async_trait]
impl Source for MemoryStream {
    fn key_order(&self) -> KeyOrder {
        if self.settings.habits.reordering { KeyOrder::Observed } else { KeyOrder::Promised }
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        // What is passed over is no part of where it stands: a replay that begins at the end of an empty shard is done.
        let place = |position| Cursor::parse(position).map(Cursor::without_skip);
        place(left).cmp(&place(right))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(self.caught_up(&self.data()).listed())
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.caught_up(&self.data()).start(partition, registration)
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        let data = self.data();
        self.store.check_claim(&data)?;
        if partition.is_recovery() {
            return Ok(Scan::of(&data, &InScan::parse(after)?).page(self.limit(limit)));
        }
        self.caught_up(&data).read(partition, &InShard::parse(after)?, self.limit(limit))
    }

    async fn fetch(&self, key: &Key, sequences: &[u64]) -> Result<Vec<Option<Arc<Record>>>, StoreError> {
        self.store.fetch(key, sequences).await
    }

    async fn changed(&self) {
        self.store.changed().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        let data = self.data();
        if partition.is_recovery() {
            return Ok(Scan::of(&data, &InScan::parse(after)?).backlog());
        }
        self.caught_up(&data).backlog(partition, &InShard::parse(after)?)
    }

    async fn beginning(&self, partition: &PartitionId) -> Result<Position, StoreError> {
        self.caught_up(&self.data()).beginning(partition)
    }

    async fn recovery(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<Option<Recovery>, StoreError> {
        let now = self.store.shared.clock.wall().as_millisecond();
        let mut shards = self.caught_up(&self.data());
        let begin = shards.recovers_from(registration, checkpoints)?.saturating_sub(self.slack());
        let partition = scan::partition(now, shards.next_recovery());
        Ok(Some(Recovery { partition, position: InScan::beginning(begin).position() }))
    }

    async fn after_recovery(&self, recovery: &PartitionId, partition: &PartitionId) -> Result<Position, StoreError> {
        let skip = scan::started(recovery)?.saturating_sub(self.slack());
        self.caught_up(&self.data()).after_recovery(partition, skip)
    }
}

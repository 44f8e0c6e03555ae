//! Sources: where a relay reads committed entries.

use std::{cmp::Ordering, fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    entry::{Position, Record},
    error::StoreError,
    store::Registration,
};

/// What a source says about the order of one key's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// Entries of a key come in their order, always.
    Promised,
    /// They have always been seen in order, but no document promises it.
    Observed,
    /// They come in any order, and doubled.
    None,
}

/// The name of a partition: a stream's shard, or the whole of an SQL table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(Arc<str>);

impl PartitionId {
    /// A partition named `name`.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// The partition's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A partition, and those that have to be read out before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub id: PartitionId,
    /// Partitions to be read to their end first. One that is not listed any more counts as read.
    pub parents: Vec<PartitionId>,
}

/// How much to read at most. At least one record is given if there is one, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In events.
    pub events: usize,
    /// In bytes of memory ([`Record::weight`]).
    pub bytes: usize,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Page {
    /// Records in the partition's order.
    pub records: Vec<Arc<Record>>,
    /// Where to go on: behind the last record, or further where there was nothing to hand out.
    pub next: Position,
    /// Whether more can be read at once, without waiting for [`Source::changed`].
    pub more: bool,
    /// Whether the partition is closed and read out: nothing will ever follow.
    pub end: bool,
}

/// What still lies behind a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Entries not yet read; an estimate where `exact` is false.
    pub entries: u64,
    /// Whether `entries` was counted.
    pub exact: bool,
    /// When the oldest of them was recorded.
    pub oldest: Option<Timestamp>,
}

/// Hands committed entries to a relay.
///
/// A source gives only what is committed and durable: nothing that a crash of the store could take back. It writes
/// nothing.
#[async_trait]
pub trait Source: Send + Sync {
    /// The per-key order that this source gives.
    fn key_order(&self) -> KeyOrder;

    /// Which of two positions of one partition comes first.
    fn order(&self, left: &Position, right: &Position) -> Ordering;

    /// The partitions there are now, in no particular order.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    async fn partitions(&self) -> Result<Vec<Partition>, StoreError>;

    /// The position at which a route starts that has no checkpoint in `partition` yet.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError>;

    /// Reads what was committed behind `after`, at once, even if that is nothing.
    ///
    /// *Order*: the partition's; per key as [`key_order`](Self::key_order) says. *Duplicates*: the same position reads
    /// the same records. *Durability*: every record given survives a crash of the store. *Cancellation*: safe; nothing
    /// is consumed by reading.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`](crate::ErrorKind::HistoryChanged) if `after` is not a position of the store's
    /// present history; otherwise as the store gave it.
    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError>;

    /// Waits until something may have been committed since the last call returned. May return without cause; must
    /// return within a bounded time of a commit. *Cancellation*: safe; a wake-up that came is kept for the next call.
    async fn changed(&self);

    /// What lies behind `after`. Cheap enough to ask every few seconds.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError>;
}

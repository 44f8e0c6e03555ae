//! Sources: where a relay reads committed entries.

use std::{cmp::Ordering, fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    bookkeeping::Checkpoint,
    entry::{Position, Record},
    error::{ErrorKind, StoreError},
    event::Key,
    store::Registration,
};

/// What a source says about the order of one key's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// Entries of a key come in their order, always.
    Promised,
    /// They have always been seen in order, but no document promises it. The relay watches it: what comes doubled is
    /// done once, what is overtaken is [fetched](Source::fetch) and goes out first.
    Observed,
    /// They come in any order, and doubled. No relay reads such a source.
    None,
}

/// What the names of the partitions begin with that recoveries read.
const RECOVERY: &str = "recovery/";

/// The name of a partition: a stream's shard, or the whole of an SQL table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(Arc<str>);

impl PartitionId {
    /// A partition named `name`.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// The partition that a recovery reads before all others, told from every other one by `name`. No other partition's
    /// name begins with `recovery/`.
    pub fn recovery(name: impl fmt::Display) -> Self {
        Self(format!("{RECOVERY}{name}").into())
    }

    /// Whether it is one that a recovery reads.
    pub fn is_recovery(&self) -> bool {
        self.0.starts_with(RECOVERY)
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

/// How a route gets back what a stream has forgotten: by reading the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The partition to be read before all others, made by [`PartitionId::recovery`]. It ends. No two recoveries have the
    /// same.
    pub partition: PartitionId,
    /// Where to begin in it.
    pub position: Position,
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

    /// The furthest position that is past nothing which one of two positions of a partition is not past: where routes that
    /// stand at these have all been. The earlier one, unless a source's positions are more than places in a row.
    fn passed_by_both(&self, one: &Position, other: &Position) -> Position {
        if self.order(one, other).is_gt() { other.clone() } else { one.clone() }
    }

    /// Where a route that stands at `position` goes on after history behind `agreed` was lost: the earlier one, unless what
    /// comes after the loss could look as if it had been passed.
    fn after_loss(&self, position: &Position, agreed: &Position) -> Position {
        self.passed_by_both(position, agreed)
    }

    /// Where to begin instead of `from`, a route's start, so that reading comes to `end` and gives nothing before that `end`
    /// is not past, as a replay does: `from` itself, unless what is read from a position depends on when it is read.
    fn leading_to(&self, from: &Position, end: &Position) -> Position {
        let _ = end;
        from.clone()
    }

    /// The partitions there are now, in no particular order. They may change at any time: split, be closed, be trimmed.
    /// The relay looks again every now and then, and when one was read to its end. Recoveries are not among them.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    async fn partitions(&self) -> Result<Vec<Partition>, StoreError>;

    /// The position at which a route starts that has no checkpoint in `partition` yet and has not read its parents.
    ///
    /// # Errors
    /// [`ErrorKind::Trimmed`] if something of what lies behind the route's start was in this
    /// partition, or in those before it, and is not remembered any more; otherwise as the store gave it.
    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError>;

    /// Reads what was committed behind `after`, at once, even if that is nothing.
    ///
    /// *Order*: the partition's; per key as [`key_order`](Self::key_order) says. *Duplicates*: the same position reads
    /// the same records. *Durability*: every record given survives a crash of the store. *Cancellation*: safe; nothing
    /// is consumed by reading.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`] if `after` is not a position of the store's
    /// present history; [`ErrorKind::Trimmed`] if what lies behind it is not remembered any
    /// more, or the partition is not there any more; otherwise as the store gave it.
    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError>;

    /// Reads entries of one key past all partitions, from the table itself: what an `Observed` source has not handed out
    /// though later ones of the key came. For each of `sequences`, which rise, its entry, or `None` if the table has
    /// none with that number.
    ///
    /// *Durability*: as [`read`](Self::read). *Duplicates*: the same entry may come from `read` as well, before or after.
    /// An entry that was committed is found (the read is consistent), a row that cannot be read is given as
    /// undecodable, with the id that `read` gives it. The records' positions are not looked at. *Cancellation*: safe.
    /// *Limits*: 16 sequences a call at most, and four calls at a time for each route and partition. Called
    /// for [`KeyOrder::Observed`] only, which has to implement it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] from a source that cannot, as unless it is implemented: the
    /// relay stops. Otherwise as the store gave it; what may pass is tried again.
    async fn fetch(&self, key: &Key, sequences: &[u64]) -> Result<Vec<Option<Arc<Record>>>, StoreError> {
        let _ = (key, sequences);
        let message = "this source cannot fetch single entries, which one must whose key order is only observed";
        Err(StoreError::new(ErrorKind::Invalid, message))
    }

    /// Waits until something may have been committed since the last call returned. May return without cause, though not
    /// again and again at once, for the relay reads each time; must return within a bounded time of a commit.
    /// *Cancellation*: safe; a wake-up that came is kept for the next call.
    async fn changed(&self);

    /// What lies behind `after`. Cheap enough to ask every few seconds.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError>;

    /// The position before everything that `partition` ever held: where a route goes on that has read all its parents.
    /// Reading there is refused as [`ErrorKind::Trimmed`] if some of it is not remembered any
    /// more.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] from a source none of whose partitions has parents, which need
    /// not implement this; otherwise as the store gave it.
    async fn beginning(&self, partition: &PartitionId) -> Result<Position, StoreError> {
        let message = format!("this source does not say where `{partition}` begins, though it follows others");
        Err(StoreError::new(ErrorKind::Invalid, message))
    }

    /// How a route goes on that has `checkpoints`, some of which are older than what the stream remembers, or that has
    /// never begun and starts there. Reading the recovery's partition to its end gives, each key in its order, every
    /// entry that was committed behind those checkpoints and before this call, and a bounded slack of earlier ones.
    /// `None` if the source cannot do that, as unless it is implemented.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    async fn recovery(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<Option<Recovery>, StoreError> {
        let _ = (registration, checkpoints);
        Ok(None)
    }

    /// Where `partition` goes on for a route that has read `recovery` to its end: behind what was committed, by more
    /// than the slack, before that recovery was asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Trimmed`] if some of that is not remembered any more, as after a recovery
    /// that took too long; otherwise as the store gave it.
    async fn after_recovery(&self, recovery: &PartitionId, partition: &PartitionId) -> Result<Position, StoreError> {
        let message = format!("this source knows of no recovery, and so not where `{partition}` follows `{recovery}`");
        Err(StoreError::new(ErrorKind::Invalid, message))
    }
}

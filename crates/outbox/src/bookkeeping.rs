//! The relay's own state: leases, checkpoints, and the events that routes keep.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    entry::{Position, Undecodable},
    error::StoreError,
    event::{Event, Key},
    route::RouteName,
    source::PartitionId,
    store::Witness,
};

/// What waits together: the events of one key, or one event that has none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// All events of this key.
    Key(Key),
    /// The event with this id, which has no key.
    Event(Arc<str>),
}

impl Lane {
    /// The lane that `event` belongs to.
    pub fn of(event: &Event) -> Self {
        event.key().map_or_else(|| Self::Event(event.id.clone()), |key| Self::Key(key.clone()))
    }

    /// The lane that a row belongs to that could not be read.
    pub fn of_undecodable(row: &Undecodable) -> Self {
        row.key.clone().map_or_else(|| Self::Event(row.id.clone()), Self::Key)
    }

    /// A text that names this lane and no other: `k:` and the key, or `e:` and the event's id.
    pub fn to_text(&self) -> String {
        match self {
            Self::Key(key) => format!("k:{key}"),
            Self::Event(id) => format!("e:{id}"),
        }
    }

    /// Reads back what [`to_text`](Self::to_text) wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_at_checked(2)? {
            ("k:", key) => Key::new(key).ok().map(Self::Key),
            ("e:", id) => Some(Self::Event(id.into())),
            _ => None,
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// The right to write a relay's bookkeeping, for as long as nobody takes the lease away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub name: String,
    /// Rises with each owner. Every write is refused whose epoch is not the current one.
    pub epoch: u64,
}

/// A lease as anybody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The present or last owner's epoch; 0 if there never was one.
    pub epoch: u64,
    /// Rises with each renewal. A challenger watches it stand still for the failover time on its own clock.
    pub beat: u64,
    /// Whether the last owner gave the lease up: it can be taken at once.
    pub released: bool,
    /// Who the owner said it is, for people.
    pub holder: String,
    /// The failover time that the owner works with: a challenger waits at least so long.
    pub duration: Duration,
}

/// How far a route is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub partition: PartitionId,
    /// The end of the contiguous prefix that was accepted, filtered out, or kept.
    pub position: Position,
    /// Whether the partition is closed and done.
    pub finished: bool,
}

/// The number of a kept event in its bookkeeping; rises in the order of keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptId(pub u64);

/// What is kept: a full copy.
#[derive(Clone, Debug, PartialEq)]
pub enum KeptContent {
    /// An event.
    Event(Event),
    /// A row that could not be read.
    Undecodable(Undecodable),
}

impl KeptContent {
    /// The id of the event, or of the row.
    pub fn id(&self) -> &str {
        match self {
            Self::Event(event) => event.id(),
            Self::Undecodable(row) => &row.id,
        }
    }

    /// The lane it belongs to.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Event(event) => Lane::of(event),
            Self::Undecodable(row) => Lane::of_undecodable(row),
        }
    }
}

/// What the front of a lane in trouble waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontState {
    /// Its next attempt, at this time.
    Retrying {
        /// When to try again.
        due: Timestamp,
    },
    /// Somebody: it is a dead letter.
    Dead,
    /// Its removal: somebody discarded it, for this reason.
    Discarded {
        /// Why.
        reason: String,
    },
}

/// How the front of a lane in trouble has fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// What it waits for.
    pub state: FrontState,
    /// Attempts that counted against it.
    pub attempts: u32,
    /// When it failed first.
    pub failed_since: Timestamp,
    /// What was said the last time.
    pub reason: String,
}

/// A lane in trouble: one row, whatever waits in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The lane.
    pub lane: Lane,
    /// Which trouble of this lane it is, in the bookkeeping's life; never reused.
    pub generation: u64,
    /// Its first event.
    pub front: Front,
    /// Events kept in this lane, the front included.
    pub kept: u64,
}

/// A kept event, with the position of its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its number.
    pub id: KeptId,
    /// What it is.
    pub content: KeptContent,
    /// Its partition.
    pub partition: PartitionId,
    /// The position behind its record.
    pub position: Position,
}

/// What a pipeline hands over of one lane: all that it holds of it, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Keep {
    /// The lane.
    pub lane: Lane,
    /// The front's state, if this opens the trouble; `None` to park behind what is kept already.
    pub front: Option<Front>,
    /// The events, each with the position behind its record.
    pub events: Vec<(KeptContent, Position)>,
}

/// What became of a [`Keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepOutcome {
    /// Durable. Events that were kept already stay as they are.
    Stored {
        /// The trouble they belong to.
        generation: u64,
    },
    /// There was nothing to park behind: the lane was released meanwhile. Nothing was stored; publish instead.
    KeyFree,
}

/// What a keeper did with the first events of a lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The lane.
    pub lane: Lane,
    /// The trouble that the keeper knows; if it is another one by now, nothing is done.
    pub generation: u64,
    /// Kept events that are done, from the front.
    pub remove: Vec<KeptId>,
    /// Of these, whether they were discarded rather than published: they leave a tombstone, so that a restart that
    /// reads them again does not publish them.
    pub discarded: bool,
    /// The state of the front that is left, if it changes.
    pub front: Option<Front>,
}

/// What became of a [`Settlement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Nothing is left in the lane: it was released in the same transaction.
    Released,
    /// So many events are left.
    Left(u64),
    /// The trouble that the keeper knew is over, or somebody changed the front's state meanwhile: load it again.
    Changed,
}

/// Which kept events an operator means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Only this kept event.
    pub id: Option<KeptId>,
    /// Only this key.
    pub key: Option<Key>,
    /// Only events of this type.
    pub kind: Option<String>,
}

/// A dead letter as an operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The route that gave up on it.
    pub route: RouteName,
    /// The event.
    pub kept: Kept,
    /// How it fared.
    pub front: Front,
    /// Events of its key that wait behind it.
    pub parked: u64,
}

/// What a route keeps, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptCounts {
    /// Fronts that will be tried again.
    pub retrying: u64,
    /// Fronts that were given up on.
    pub dead: u64,
    /// Events that wait behind a front.
    pub parked: u64,
    /// Lanes in trouble.
    pub lanes: u64,
}

/// How a route is doing, as its relay noted when that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHealth {
    /// Whether events flow, or why not.
    pub state: HealthState,
    /// Since when.
    pub since: Timestamp,
}

/// Whether a route's events flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Events flow, or would if there were any.
    Flowing,
    /// The sink as a whole does not take events; the route tries again, ever more rarely.
    BackingOff {
        /// What the sink said.
        reason: String,
    },
    /// So many keys are in trouble that nothing new is read.
    Overloaded,
    /// The route cannot go on by itself.
    Stopped {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// A replay, as an operator asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its id, which its events carry as `replayid`.
    pub id: String,
    /// The route whose sink gets the events.
    pub route: RouteName,
    /// Only events that pass, besides the route's own filter.
    pub filter: crate::filter::Filter,
    /// Only the event with this id.
    pub event: Option<String>,
    /// Only entries recorded at this time or later.
    pub since: Option<Timestamp>,
    /// Only entries recorded before this time.
    pub until: Option<Timestamp>,
    /// Where it ends, for each partition: the route's checkpoint when it was asked for.
    pub ends: Vec<(PartitionId, Position)>,
    /// Whether it is done.
    pub finished: bool,
}

/// Keeps a relay's leases, checkpoints and kept events.
///
/// Every write that takes a [`Lease`] is refused with [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) unless that
/// lease's epoch is current, in the same transaction. Each method is atomic, and durable when it returns. *Cancellation*:
/// a dropped call may have taken effect; all may be repeated. *Order*: kept events of a lane come back in the order of
/// keeping.
#[async_trait]
pub trait Bookkeeping: Send + Sync {
    /// The bookkeeping's own id, given when it was made. A copy has the same.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) for a layout of another version.
    async fn id(&self) -> Result<String, StoreError>;

    /// The lease `name` as it stands.
    ///
    /// # Errors
    /// As the store gave it.
    async fn lease(&self, name: &str) -> Result<LeaseView, StoreError>;

    /// Takes the lease if it still is as `seen`; `None` if it is not.
    ///
    /// # Errors
    /// As the store gave it.
    async fn take(
        &self,
        name: &str,
        seen: &LeaseView,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError>;

    /// Renews the lease.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if it was taken.
    async fn renew(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Gives the lease up, so that it can be taken at once. Nothing happens if it was taken already.
    ///
    /// # Errors
    /// As the store gave it.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;

    /// The route's checkpoints.
    ///
    /// # Errors
    /// As the store gave it.
    async fn checkpoints(&self, route: &RouteName) -> Result<Vec<Checkpoint>, StoreError>;

    /// Stores a checkpoint, and the witness of the last entry before it, if one was read.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn checkpoint(
        &self,
        lease: &Lease,
        route: &RouteName,
        checkpoint: &Checkpoint,
        witness: Option<&Witness>,
    ) -> Result<(), StoreError>;

    /// What was read of `partition` before, newest first: the latest, and a thinning sample of what came before.
    ///
    /// # Errors
    /// As the store gave it.
    async fn witnesses(&self, partition: &PartitionId) -> Result<Vec<Witness>, StoreError>;

    /// Stores events of one lane of `partition`. An event whose id is kept already is left as it is; an event that
    /// was discarded is not stored.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn keep(
        &self,
        lease: &Lease,
        route: &RouteName,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<KeepOutcome, StoreError>;

    /// The route's lanes in trouble, `limit` of them at most, by lane, behind `after`.
    ///
    /// # Errors
    /// As the store gave it.
    async fn troubles(&self, route: &RouteName, after: Option<&Lane>, limit: usize)
    -> Result<Vec<Trouble>, StoreError>;

    /// One lane in trouble.
    ///
    /// # Errors
    /// As the store gave it.
    async fn trouble(&self, route: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError>;

    /// The first kept events of a lane, `limit` of them at most.
    ///
    /// # Errors
    /// As the store gave it.
    async fn kept(&self, route: &RouteName, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError>;

    /// Removes what is done from the front of a lane, and releases the lane if nothing is left. A front whose state
    /// changes in the store meanwhile (redriven, discarded) is not overwritten.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn settle(
        &self,
        lease: &Lease,
        route: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError>;

    /// Ids of discarded events that a restart may read again, with partition and position.
    ///
    /// # Errors
    /// As the store gave it.
    async fn tombstones(&self, route: &RouteName) -> Result<Vec<(Arc<str>, PartitionId, Position)>, StoreError>;

    /// Forgets tombstones that the checkpoint is past.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn forget_tombstones(&self, lease: &Lease, route: &RouteName, ids: &[Arc<str>]) -> Result<(), StoreError>;

    /// Notes how a route is doing; called only when that changes.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn note_health(&self, lease: &Lease, route: &RouteName, health: &RouteHealth) -> Result<(), StoreError>;

    /// Rises whenever an operator changed something: a running relay looks again when it does. Cheap.
    ///
    /// # Errors
    /// As the store gave it.
    async fn operator_changes(&self) -> Result<u64, StoreError>;

    /// What a route keeps, in numbers.
    ///
    /// # Errors
    /// As the store gave it.
    async fn kept_counts(&self, route: &RouteName) -> Result<KeptCounts, StoreError>;
}

/// What an operator does to a relay's bookkeeping, while a relay runs or not. Each raises
/// [`Bookkeeping::operator_changes`].
#[async_trait]
pub trait Operator: Bookkeeping {
    /// The route's dead letters, by number, behind `after`.
    ///
    /// # Errors
    /// As the store gave it.
    async fn dead_letters(
        &self,
        route: &RouteName,
        selector: &Selector,
        after: Option<KeptId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// Has dead letters published again, front first, with what is parked behind them. Gives how many.
    ///
    /// # Errors
    /// As the store gave it.
    async fn redrive(&self, route: &RouteName, selector: &Selector, now: Timestamp) -> Result<u64, StoreError>;

    /// Gives dead letters up for good, so that what is parked behind them goes on. Gives how many.
    ///
    /// # Errors
    /// As the store gave it.
    async fn discard(&self, route: &RouteName, selector: &Selector, reason: &str) -> Result<u64, StoreError>;

    /// Erases every kept event of a key, in every route. Gives how many.
    ///
    /// # Errors
    /// As the store gave it.
    async fn erase(&self, key: &Key) -> Result<u64, StoreError>;

    /// How the route is doing, as last noted.
    ///
    /// # Errors
    /// As the store gave it.
    async fn health(&self, route: &RouteName) -> Result<Option<RouteHealth>, StoreError>;

    /// Routes that are paused.
    ///
    /// # Errors
    /// As the store gave it.
    async fn paused(&self) -> Result<Vec<RouteName>, StoreError>;

    /// Pauses or resumes a route.
    ///
    /// # Errors
    /// As the store gave it.
    async fn pause(&self, route: &RouteName, paused: bool) -> Result<(), StoreError>;

    /// Replays that were asked for, the finished ones last.
    ///
    /// # Errors
    /// As the store gave it.
    async fn replays(&self) -> Result<Vec<Replay>, StoreError>;

    /// Asks for a replay, or says that it is finished.
    ///
    /// # Errors
    /// As the store gave it.
    async fn put_replay(&self, replay: &Replay) -> Result<(), StoreError>;

    /// Gives everything of a route another route's name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if `to` has anything.
    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError>;

    /// Forgets everything of a route.
    ///
    /// # Errors
    /// As the store gave it.
    async fn forget_route(&self, route: &RouteName) -> Result<(), StoreError>;

    /// Sets a route's checkpoint, whatever it was, and forgets the witnesses behind it. Only while no relay runs.
    ///
    /// # Errors
    /// As the store gave it.
    async fn reset_checkpoint(&self, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError>;
}

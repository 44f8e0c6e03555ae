//! The relay's own state: leases, checkpoints, and the events that routes keep.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    entry::Position,
    error::StoreError,
    route::RouteName,
    source::PartitionId,
    store::{Claim, Witness},
};

mod kept;
mod operator;
mod witness_list;

pub use kept::{
    Apart, Front, FrontState, Keep, KeepOutcome, Kept, KeptContent, KeptCounts, KeptId, Lane, SettleOutcome,
    Settlement, Trouble,
};
pub use operator::{DeadLetter, HealthState, Operator, Replay, RouteHealth, Selector};
pub use witness_list::{ListedWitness, WitnessList};

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

/// A discarded event that a restart may read again: its id, its partition, and the position behind its record.
pub type Tombstone = (Arc<str>, PartitionId, Position);

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

/// Keeps a relay's leases, checkpoints and kept events.
///
/// Every write that takes a [`Lease`] is refused with [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) unless that
/// lease's epoch is current, in the same transaction. Each method is atomic, and durable when it returns. *Cancellation*:
/// a dropped call may have taken effect; all may be repeated. *Order*: kept events of a lane come back in the order of
/// keeping.
#[async_trait]
pub trait Bookkeeping: Send + Sync {
    /// The bookkeeping's own id, given when it was made or by [`Operator::renew_id`] since. A copy has the same.
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

    /// The claims noted under the lease `name`, by epoch.
    ///
    /// # Errors
    /// As the store gave it.
    async fn claims(&self, name: &str) -> Result<Vec<Claim>, StoreError>;

    /// Notes `claims` in place of what was noted under the lease's name before.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn note_claims(&self, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError>;

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

    /// Forgets the route's checkpoints in these partitions, with the witnesses and tombstones that it has of them. Those
    /// that it has no checkpoint in are passed over. What is kept stays.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn forget_checkpoints(
        &self,
        lease: &Lease,
        route: &RouteName,
        partitions: &[PartitionId],
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
    async fn tombstones(&self, route: &RouteName) -> Result<Vec<Tombstone>, StoreError>;

    /// Forgets these tombstones, which the checkpoint is past, and no other of the same event id: a producer may give an
    /// id twice.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn forget_tombstones(&self, lease: &Lease, route: &RouteName, passed: &[Tombstone])
    -> Result<(), StoreError>;

    /// Notes a replay as finished: all of its range has been read. Nothing happens if nobody asked for it, or it was
    /// cancelled meanwhile. No operator's change.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if the lease is lost.
    async fn note_replayed(&self, lease: &Lease, replay: &str) -> Result<(), StoreError>;

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

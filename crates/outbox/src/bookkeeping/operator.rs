//! What an operator sees and does, while a relay runs or not.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Bookkeeping, Checkpoint, Front, Kept, KeptId};
use crate::{entry::Position, error::StoreError, event::Key, route::RouteName, source::PartitionId};

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
    /// The stream does not remember what comes next: the table is read again first.
    Recovering {
        /// Since where, and why.
        reason: String,
    },
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

    /// Has dead letters published again, front first, with a full set of attempts, and what is parked behind them after them.
    /// Gives how many.
    ///
    /// # Errors
    /// As the store gave it.
    async fn redrive(&self, route: &RouteName, selector: &Selector, now: Timestamp) -> Result<u64, StoreError>;

    /// Gives dead letters up for good, so that what is parked behind them goes on. Gives how many.
    ///
    /// # Errors
    /// As the store gave it.
    async fn discard(&self, route: &RouteName, selector: &Selector, reason: &str) -> Result<u64, StoreError>;

    /// Erases every kept event of a key, in every route. Gives how many. They leave tombstones, as discarded ones do, or
    /// a restart that reads them again would keep or publish them anew.
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

    /// Asks for a replay, or ends one: a relay that has done all of it says so by
    /// [`note_replayed`](Bookkeeping::note_replayed).
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

    /// Every name that has a checkpoint, by name: routes, whether they are registered in the business store or not, and
    /// the temporary routes of their replays. Nobody else has witnesses, for these are stored with a checkpoint.
    ///
    /// # Errors
    /// As the store gave it.
    async fn routes(&self) -> Result<Vec<RouteName>, StoreError>;

    /// Gives the bookkeeping another id, one that nothing ever had, and forgets every noted claim, so that each copy of
    /// it is another bookkeeping from then on. Giving the same again forgets the claims again. Only while no relay runs.
    ///
    /// # Errors
    /// As the store gave it.
    async fn renew_id(&self, id: &str) -> Result<(), StoreError>;

    /// Sets a route's checkpoint, whatever it was, and forgets the witnesses behind it. Only while no relay runs.
    ///
    /// # Errors
    /// As the store gave it.
    async fn reset_checkpoint(&self, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError>;
}

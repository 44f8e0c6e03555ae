//! What a running relay says about itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde::Serialize;

use super::metric;
use crate::{
    bookkeeping::HealthState,
    route::{RouteName, RouteSettings},
};

/// A relay as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct RelayStatus {
    /// Whether it owns the source; otherwise it stands by.
    pub owner: bool,
    /// The epoch of its lease, while it owns the source.
    pub epoch: Option<u64>,
    /// Why it has stopped, if it has and was not asked to. It does not go on by itself.
    pub stopped: Option<String>,
    /// Its routes.
    pub routes: Vec<RouteStatus>,
}

/// A route of a running relay.
#[derive(Clone, Debug, Serialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: RouteName,
    /// Whether its events flow.
    pub state: RouteState,
    /// Events accepted since the relay started.
    pub published: u64,
    /// Outcomes and calls that were not accepted since the relay started.
    pub not_accepted: u64,
    /// Events in calls under way.
    pub in_flight: u64,
    /// Lanes in trouble.
    pub troubled: u64,
    /// Events that are published again at most after a crash of the relay: a window of each partition that is read, and
    /// what the keeper has under way.
    pub duplicates_after_crash: u64,
    /// The partitions that it reads or will.
    pub partitions: Vec<PartitionStatus>,
}

/// A partition of the source, as a route reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// Its name.
    pub name: String,
    /// What is done about it.
    #[serde(flatten)]
    pub state: PartitionState,
    /// The route's checkpoint, or where it began; `None` if it has not begun.
    pub position: Option<String>,
    /// Whether it is closed and does not get on, or waits for too long.
    pub stalled: bool,
}

/// What a route does about a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum PartitionState {
    /// It is read.
    Reading,
    /// It is the table, read again because the stream does not remember what comes next.
    Recovering,
    /// It is read after another one.
    Waiting {
        /// That one.
        parent: String,
    },
}

/// Whether a route's events flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RouteState {
    /// They flow, or would.
    Flowing,
    /// An operator paused the route.
    Paused,
    /// The sink as a whole does not take events.
    BackingOff {
        /// What it said.
        reason: String,
    },
    /// So many keys are in trouble that nothing new is read.
    Overloaded,
    /// The stream does not remember what comes next: the table is read again first.
    Recovering {
        /// Since where, and why.
        reason: String,
    },
    /// The relay has stopped and does not go on by itself.
    Stopped {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// A view of a relay while it runs. Cheap to clone.
#[derive(Clone)]
pub struct RelayHandle {
    status: Arc<Status>,
}

impl RelayHandle {
    pub(super) fn new(status: Arc<Status>) -> Self {
        Self { status }
    }

    /// The relay as it is now.
    pub fn status(&self) -> RelayStatus {
        let epoch = self.status.epoch.load(Ordering::Relaxed);
        RelayStatus {
            owner: epoch > 0,
            epoch: (epoch > 0).then_some(epoch),
            stopped: self.status.stopped(),
            routes: self.status.routes.iter().map(|(name, route)| route.view(name)).collect(),
        }
    }

    /// Somebody else, who publishes the route's events beside this relay, had something accepted just now: evidence that its
    /// sink works, as if a pipeline of this relay had brought it.
    pub fn others_accepted(&self, route: &RouteName) {
        self.status.route(route).others_accepted.store(true, Ordering::Relaxed);
    }
}

pub(super) struct Status {
    /// 0 while the relay stands by: epochs start at 1.
    epoch: AtomicU64,
    stopped: Mutex<Option<String>>,
    routes: BTreeMap<RouteName, Arc<RouteCounts>>,
}

impl Status {
    /// Routes with the duplicates that a crash may bring them.
    pub(super) fn new<'a>(routes: impl Iterator<Item = (&'a RouteSettings, u64)>) -> Self {
        let counts = |window: usize, duplicates| {
            Arc::new(RouteCounts { window: window as u64, duplicates, ..RouteCounts::default() })
        };
        Self {
            epoch: AtomicU64::new(0),
            stopped: Mutex::default(),
            routes: routes
                .map(|(route, duplicates)| (route.name.clone(), counts(route.window.events, duplicates)))
                .collect(),
        }
    }

    /// The relay ends because of `reason`, and its routes with it.
    pub(super) fn stop(&self, reason: &str) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        for route in self.routes.values() {
            route.set_state(RouteState::Stopped { reason: reason.to_owned() });
        }
    }

    fn stopped(&self) -> Option<String> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows the relay as the owner until what is given back is dropped, also by dropping the relay.
    pub(super) fn own(&self, epoch: u64) -> Owning<'_> {
        self.epoch.store(epoch, Ordering::Relaxed);
        metrics::gauge!(metric::OWNER).set(1.0);
        Owning(self)
    }

    /// Shows the relay as a standby.
    pub(super) fn stand_by(&self) {
        self.epoch.store(0, Ordering::Relaxed);
        metrics::gauge!(metric::OWNER).set(0.0);
    }

    /// The counts of a route; a replay's temporary route has its own, which nobody sees.
    pub(super) fn route(&self, name: &RouteName) -> Arc<RouteCounts> {
        self.routes.get(name).cloned().unwrap_or_default()
    }
}

/// A relay shown as the owner.
pub(super) struct Owning<'a>(&'a Status);

impl Drop for Owning<'_> {
    fn drop(&mut self) {
        self.0.stand_by();
    }
}

/// A route's counts, shared with its task.
#[derive(Default)]
pub(super) struct RouteCounts {
    pub(super) published: AtomicU64,
    pub(super) not_accepted: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) troubled: AtomicU64,
    /// Whether the oldest unpublished entry has lived for half of its time.
    pub(super) expiring: AtomicBool,
    /// Whether others had something accepted since the keeper was told of it last.
    pub(super) others_accepted: AtomicBool,
    /// The events that the window of one partition holds.
    window: u64,
    /// Events that come again after a crash while one partition is read.
    duplicates: u64,
    state: Mutex<Option<RouteState>>,
    partitions: Mutex<Vec<PartitionStatus>>,
}

impl RouteCounts {
    pub(super) fn set_state(&self, state: RouteState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    pub(super) fn set_partitions(&self, partitions: Vec<PartitionStatus>) {
        *self.partitions.lock().unwrap_or_else(PoisonError::into_inner) = partitions;
    }

    fn view(&self, name: &RouteName) -> RouteStatus {
        let partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_read = |partition: &&PartitionStatus| !matches!(partition.state, PartitionState::Waiting { .. });
        let more = (partitions.iter().filter(is_read).count() as u64).saturating_sub(1);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        RouteStatus {
            name: name.clone(),
            state: state.unwrap_or(RouteState::Flowing),
            published: self.published.load(Ordering::Relaxed),
            not_accepted: self.not_accepted.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            troubled: self.troubled.load(Ordering::Relaxed),
            duplicates_after_crash: self.duplicates.saturating_add(self.window.saturating_mul(more)),
            partitions,
        }
    }
}

impl From<HealthState> for RouteState {
    fn from(health: HealthState) -> Self {
        match health {
            HealthState::Flowing => Self::Flowing,
            HealthState::BackingOff { reason } => Self::BackingOff { reason },
            HealthState::Overloaded => Self::Overloaded,
            HealthState::Recovering { reason } => Self::Recovering { reason },
            HealthState::Stopped { reason } => Self::Stopped { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        memory::{ManualClock, MemoryBookkeeping, MemorySink, MemoryStore, SeededEntropy},
        relay::{Relay, RouteState},
        route::{RouteName, RouteSettings},
        store::BusinessStore as _,
    };

    /// A relay with a bookkeeping of its own.
    fn relay(store: &MemoryStore, seed: u64) -> Relay {
        let settings = RouteSettings::new(RouteName::new("all").unwrap());
        let store = Arc::new(store.reopen());
        Relay::builder()
            .source(store.clone())
            .store(store)
            .bookkeeping(Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(seed))))
            .route(settings, Arc::new(MemorySink::default()))
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn a_relay_that_cannot_go_on_says_so_and_so_do_its_routes() {
        let store =
            MemoryStore::new("/tests", Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1))).unwrap();
        let first = relay(&store, 2);
        let owner = first.handle();
        let owns = async {
            while !(owner.status().owner && store.reopen().identity().await.unwrap().claim.is_some()) {
                tokio::task::yield_now().await;
            }
        };
        first.run(owns).await.unwrap();
        assert_eq!(owner.status().stopped, None, "it was asked to");

        let second = relay(&store, 3);
        let handle = second.handle();
        let error = second.run(std::future::pending()).await.unwrap_err().to_string();
        let status = handle.status();
        assert_eq!((status.owner, status.stopped), (false, Some(error.clone())));
        assert_eq!(status.routes[0].state, RouteState::Stopped { reason: error });
        // The window, and what half of the sink's calls hold.
        assert_eq!(status.routes[0].duplicates_after_crash, 8_192 + 4 * 100);
    }
}

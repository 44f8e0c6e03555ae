//! Stores in memory, relays on them, and sinks with habits, on paused time.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    Batch, Bookkeeping as _, Event, NewEvent, Outcome, Relay, RouteName, RouteSettings, Sink, SinkError, SinkLimits,
    Source as _,
    bookkeeping::KeptCounts,
    memory::{MemoryBookkeeping, MemorySink, MemoryStore, SeededEntropy, TokioClock},
    relay::{RelayBuilder, RelayError},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How long a test waits for what has to happen: paused time, which costs nothing.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(crate) fn route(name: &str) -> RouteName {
    RouteName::new(name).unwrap()
}

pub(crate) fn settings(name: &str) -> RouteSettings {
    RouteSettings::new(route(name))
}

/// A business store and a bookkeeping.
pub(crate) struct Rig {
    pub(crate) store: MemoryStore,
    pub(crate) bookkeeping: Arc<MemoryBookkeeping>,
    pub(crate) clock: Arc<TokioClock>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(TokioClock::default());
        let entropy = Arc::new(SeededEntropy::new(5));
        let store = MemoryStore::new("/orders", clock.clone(), entropy.clone()).unwrap();
        Self { store, bookkeeping: Arc::new(MemoryBookkeeping::new(&*entropy)), clock }
    }

    /// Commits `events` events to each of `keys` keys, in turn, and gives their ids in order.
    pub(crate) fn write(&self, keys: usize, events: usize) -> Vec<String> {
        let numbers = (0..events).flat_map(|_| 0..keys);
        let write = |key| {
            let key = format!("order/{key}");
            let event = NewEvent::builder("order.placed").key(&key).json(&1).build().unwrap();
            let place = self.store.write([event]).unwrap()[0].first.unwrap();
            format!("{key}@{}.{}.0", place.incarnation, place.sequence)
        };
        numbers.map(write).collect()
    }

    /// A relay on both, without routes.
    pub(crate) fn relay(&self) -> RelayBuilder {
        let store = Arc::new(self.store.reopen());
        Relay::builder()
            .source(store.clone())
            .store(store)
            .bookkeeping(self.bookkeeping.clone())
            .clock(self.clock.clone())
            .entropy(Arc::new(SeededEntropy::new(6)))
    }

    pub(crate) fn run(&self, sink: Arc<dyn Sink>) -> Running {
        run(self.relay().route(settings("main"), sink))
    }

    pub(crate) async fn kept(&self) -> KeptCounts {
        self.bookkeeping.kept_counts(&route("main")).await.unwrap()
    }

    /// Waits until route `main` is behind everything.
    pub(crate) async fn caught_up(&self) {
        self.has_caught_up("main").await;
    }

    /// Waits until the route is behind everything.
    pub(crate) async fn has_caught_up(&self, name: &str) {
        let partition = self.store.partitions().await.unwrap().remove(0).id;
        eventually("the route is behind everything", async || {
            let checkpoints = self.bookkeeping.checkpoints(&route(name)).await.unwrap();
            let Some(checkpoint) = checkpoints.first() else { return false };
            self.store.backlog(&partition, &checkpoint.position).await.unwrap().entries == 0
        })
        .await;
    }
}

/// A relay that runs.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RelayError>>,
}

pub(crate) fn run(builder: RelayBuilder) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let relay = builder.build().unwrap();
    let shutdown = async move {
        // A relay that nobody stops ends with its test.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Running { stop, task: tokio::spawn(relay.run(shutdown)) }
}

impl Running {
    /// Asks it to drain, and gives its end to wait for.
    pub(crate) fn ask_to_stop(self) -> JoinHandle<Result<(), RelayError>> {
        self.stop.send(()).unwrap();
        self.task
    }

    pub(crate) async fn stop(self) {
        soon("the relay drains", self.ask_to_stop()).await.unwrap().unwrap();
    }

    /// How it ends by itself.
    pub(crate) async fn end(self) -> Result<(), RelayError> {
        soon("the relay ends", self.task).await.unwrap()
    }
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    soon(what, async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A sink that refuses events by name as often as it is told to, and accepts all else.
pub(crate) struct Picky {
    pub(crate) inner: Arc<MemorySink>,
    refusals: Mutex<BTreeMap<String, u32>>,
    permanent: bool,
    pub(crate) checks: AtomicU64,
}

impl Picky {
    /// Refuses each event as often as `refusals` says, in a way that may pass or not.
    pub(crate) fn new(permanent: bool, refusals: impl IntoIterator<Item = (String, u32)>) -> Arc<Self> {
        let refusals = Mutex::new(refusals.into_iter().collect());
        Arc::new(Self { inner: Arc::default(), refusals, permanent, checks: AtomicU64::new(0) })
    }

    /// Accepts everything from now on.
    pub(crate) fn mend(&self) {
        self.refusals.lock().unwrap().clear();
    }

    /// The ids of what was accepted, sorted, duplicates included.
    pub(crate) fn accepted(&self) -> Vec<String> {
        let mut ids = self.inner.ids();
        ids.sort();
        ids
    }

    fn refuses(&self, event: &Event) -> bool {
        match self.refusals.lock().unwrap().get_mut(event.id()) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[async_trait]
impl Sink for Picky {
    fn limits(&self) -> SinkLimits {
        // One event of a key in a call: a refusal then has nothing of its key behind it.
        SinkLimits { ordered_calls: false, ..self.inner.limits() }
    }

    fn size(&self, event: &Event) -> usize {
        self.inner.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        self.inner.check().await
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let refused: Vec<_> = batch.events.iter().map(|event| self.refuses(event)).collect();
        let taken = batch.events.iter().zip(&refused).filter(|(_, refused)| !**refused);
        let rest = Batch { events: taken.map(|(event, _)| event.clone()).collect(), ..batch.clone() };
        if !rest.events.is_empty() {
            self.inner.publish(&rest).await?;
        }
        let no = Outcome::Refused { permanent: self.permanent, reason: "not this one".to_owned() };
        let outcome = |refused| if refused { no.clone() } else { Outcome::Accepted };
        Ok(refused.into_iter().map(outcome).collect())
    }
}

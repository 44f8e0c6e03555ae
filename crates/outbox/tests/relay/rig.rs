//! What the tests of the relay work with: a business store, a bookkeeping, relays on them, and waiting that ends.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use outbox::{
    Bookkeeping as _, Fault, Key, NewEvent, Operator, Position, Relay, RouteName, RouteSettings, Sink, Source,
    bookkeeping::{DeadLetter, KeptCounts, Selector},
    clock::Clock,
    memory::{MemoryBookkeeping, MemorySink, MemoryStore, PARTITION, SeededEntropy, TokioClock},
    relay::{RelayBuilder, RelayError, RelayHandle, RouteStatus},
    store::BusinessStore,
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How long a test waits for what has to happen: paused time, which costs nothing.
const LIMIT: Duration = Duration::from_secs(3600);

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn route(name: &str) -> RouteName {
    RouteName::new(name).unwrap()
}

pub(crate) fn settings(name: &str) -> RouteSettings {
    RouteSettings::new(route(name))
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

pub(crate) fn event(key: &str) -> NewEvent {
    NewEvent::builder("test.happened").key(key).json(&1).build().unwrap()
}

pub(crate) fn keyless() -> NewEvent {
    NewEvent::builder("test.happened").json(&1).build().unwrap()
}

/// A sink that was told to fail as a whole.
pub(crate) fn broken_sink() -> Arc<MemorySink> {
    let sink = Arc::new(MemorySink::default());
    sink.break_down(Fault::Sink, "nobody listens");
    sink
}

/// One business store and one bookkeeping, on paused time.
pub(crate) struct Rig {
    pub(crate) store: MemoryStore,
    pub(crate) bookkeeping: Arc<MemoryBookkeeping>,
    pub(crate) clock: Arc<TokioClock>,
    /// No two relays draw the same random bytes.
    seed: AtomicU64,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(TokioClock::default());
        let entropy = Arc::new(SeededEntropy::new(11));
        let store = MemoryStore::new("/tests", clock.clone(), entropy.clone()).unwrap();
        Self { store, bookkeeping: Arc::new(MemoryBookkeeping::new(&*entropy)), clock, seed: AtomicU64::new(12) }
    }

    /// A relay without routes, in a process of its own.
    pub(crate) fn relay(&self) -> RelayBuilder {
        let store = Arc::new(self.store.reopen());
        self.relay_on(store.clone(), store)
    }

    /// The same with another source and store.
    pub(crate) fn relay_on(&self, source: Arc<dyn Source>, store: Arc<dyn BusinessStore>) -> RelayBuilder {
        Relay::builder()
            .source(source)
            .store(store)
            .bookkeeping(self.bookkeeping.clone())
            .clock(self.clock.clone())
            .entropy(Arc::new(SeededEntropy::new(self.seed.fetch_add(1, Ordering::Relaxed))))
    }

    /// A running relay with one route, `all`, to `sink`.
    pub(crate) fn run(&self, sink: Arc<dyn Sink>) -> Running {
        run(self.relay().route(settings("all"), sink))
    }

    /// Writes `count` events of `key`, each by a commit of its own, and gives the ids that they have.
    pub(crate) fn write(&self, key: &str, count: u64) -> Vec<String> {
        let first = self.store.sequence(&self::key(key)) + 1;
        (first..first + count)
            .map(|sequence| {
                self.store.write([event(key)]).unwrap();
                format!("{key}@1.{sequence}.0")
            })
            .collect()
    }

    /// Where the store ends now.
    pub(crate) async fn end(&self) -> Position {
        let limit = outbox::source::Limit { events: usize::MAX, bytes: usize::MAX };
        let page = self.store.reopen().read(&partition(), &Position::new("0"), limit).await.unwrap();
        page.next
    }

    /// The checkpoint of a route, if it has one.
    pub(crate) async fn checkpoint(&self, route: &RouteName) -> Option<Position> {
        self.bookkeeping.checkpoints(route).await.unwrap().pop().map(|checkpoint| checkpoint.position)
    }

    /// Waits until the route's checkpoint is where the store ends.
    pub(crate) async fn caught_up(&self, name: &str) {
        let name = route(name);
        eventually("the checkpoint is at the store's end", async || {
            self.checkpoint(&name).await == Some(self.end().await)
        })
        .await;
    }

    pub(crate) async fn kept(&self, name: &str) -> KeptCounts {
        self.bookkeeping.kept_counts(&route(name)).await.unwrap()
    }

    /// Waits until the route has so many dead letters, and so many events parked behind them.
    pub(crate) async fn keeps(&self, name: &str, dead: u64, parked: u64) {
        eventually("the route keeps that much", async || {
            let kept = self.kept(name).await;
            (kept.dead, kept.parked) == (dead, parked)
        })
        .await;
    }

    pub(crate) async fn dead_letters(&self, name: &str) -> Vec<DeadLetter> {
        self.bookkeeping.dead_letters(&route(name), &Selector::default(), None, 100).await.unwrap()
    }

    pub(crate) async fn redrive(&self, name: &str) {
        let redriven = self.bookkeeping.redrive(&route(name), &Selector::default(), self.clock.wall()).await.unwrap();
        assert!(redriven > 0, "there is something to redrive");
    }
}

pub(crate) fn partition() -> outbox::PartitionId {
    outbox::PartitionId::new(PARTITION)
}

/// A relay that runs until it is stopped or killed.
pub(crate) struct Running {
    pub(crate) handle: RelayHandle,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RelayError>>,
}

/// Builds the relay and runs it.
pub(crate) fn run(builder: RelayBuilder) -> Running {
    let relay = builder.build().unwrap();
    let handle = relay.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    Running { handle, stop: Some(stop), task: tokio::spawn(relay.run(shutdown)) }
}

impl Running {
    /// Asks it to stop, and goes on at once.
    pub(crate) fn ask_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Stops it in order.
    pub(crate) async fn stop(mut self) {
        self.ask_to_stop();
        self.ended().await.unwrap();
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled(), "it ran until it was killed");
    }

    /// How it ends by itself.
    pub(crate) async fn ended(self) -> Result<(), RelayError> {
        soon("the relay ends", self.task).await.unwrap()
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.handle.status().owner
    }

    pub(crate) async fn owns(&self) {
        eventually("the relay owns the source", async || self.is_owner()).await;
    }

    pub(crate) fn route(&self, name: &str) -> RouteStatus {
        let status = self.handle.status();
        status.routes.into_iter().find(|status| status.name == route(name)).unwrap()
    }
}

/// Awaits what has to happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits until `holds`, looking every few milliseconds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    soon(what, async {
        while !holds().await {
            sleep(millis(5)).await;
        }
    })
    .await;
}

/// Waits until the sink has accepted so many events, duplicates included.
pub(crate) async fn arrived(sink: &MemorySink, count: usize) {
    timeout(LIMIT, sink.accepted_at_least(count))
        .await
        .unwrap_or_else(|_| panic!("{count} events never arrived, only {:?}", sink.ids()));
}

/// Nothing was published against a promise.
pub(crate) fn no_breach(sink: &MemorySink) {
    assert_eq!(sink.breaches(), Vec::<String>::new());
}

/// The operator's hand on the rig's bookkeeping.
pub(crate) fn operator(rig: &Rig) -> &dyn Operator {
    &*rig.bookkeeping
}

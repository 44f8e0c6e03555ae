//! A scripted stream, relays on it, and waiting that ends.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use outbox::{
    Bookkeeping as _, BusinessStore, Clock, Moment, Page, PartitionId, Position, Relay, RouteName, RouteSettings, Sink,
    Source, StoreError, System,
    bookkeeping::Checkpoint,
    filter::Filter,
    memory::{MemoryBookkeeping, MemorySink, MemoryStore, SeededEntropy},
    relay::{RelayBuilder, RelayError},
    route::Start,
    source::Limit,
    store::{Agreement, Claim, Purged, Registration, Retention, StoreIdentity, Witness},
};
use outbox_aws::{
    dynamodb::{DynamoStore, SourceOptions, StoreOptions, StreamsSource, Tables},
    testing::streams::StreamServer,
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{clients, fixture::unused_prefix, server};

/// How long a test waits for what has to happen.
const LIMIT: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const PLENTY: Limit = Limit { events: 10_000, bytes: 64 << 20 };

/// The machine's clock, and what a test says has passed besides.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<Duration>);

impl Ahead {
    pub(crate) fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for Ahead {
    fn moment(&self) -> Moment {
        System.moment() + *self.0.lock().unwrap()
    }

    fn wall(&self) -> Timestamp {
        System.wall() + *self.0.lock().unwrap()
    }
}

/// A scripted stream, and what relays on it share.
pub(crate) struct Rig {
    pub(crate) server: StreamServer,
    pub(crate) clock: Arc<Ahead>,
    pub(crate) bookkeeping: Arc<MemoryBookkeeping>,
    books: MemoryStore,
    seed: AtomicU64,
    written: Mutex<Vec<String>>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(Ahead::default());
        let server = StreamServer::start(&unused_prefix(), clock.clone()).await.unwrap();
        let entropy = Arc::new(SeededEntropy::new(11));
        let books = MemoryStore::new("/carts", clock.clone(), entropy.clone()).unwrap();
        let bookkeeping = Arc::new(MemoryBookkeeping::new(&*entropy));
        Self { server, clock, bookkeeping, books, seed: AtomicU64::new(12), written: Mutex::default() }
    }

    /// Writes the entries of `key` with these numbers.
    pub(crate) fn write(&self, key: &str, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.server.put(&self.server.entry(key, number));
            self.wrote(key, number);
        }
    }

    /// It was written, however.
    pub(crate) fn wrote(&self, key: &str, number: u64) {
        self.written.lock().unwrap().push(id(key, number));
    }

    pub(crate) fn written(&self) -> Vec<String> {
        self.written.lock().unwrap().clone()
    }

    pub(crate) async fn source(&self) -> StreamsSource {
        self.source_with(SourceOptions::default()).await
    }

    /// A source as another process has it.
    pub(crate) async fn source_with(&self, options: SourceOptions) -> StreamsSource {
        let client = server::client_at(Some(self.server.url())).await;
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let opened = StoreOptions {
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            ..StoreOptions::default()
        };
        let store = DynamoStore::open(&client, &Tables::with_prefix(self.server.prefix()), opened).await.unwrap();
        let streams = clients::streams_at(Some(self.server.url())).await;
        StreamsSource::open(&store, &streams, options).await.unwrap()
    }

    /// A relay without routes, in a process of its own.
    pub(crate) fn relay_on(&self, source: Arc<dyn Source>) -> RelayBuilder {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        Relay::builder()
            .source(source)
            .store(Arc::new(Books(self.books.reopen())))
            .bookkeeping(self.bookkeeping.clone())
            .clock(self.clock.clone())
            .entropy(Arc::new(SeededEntropy::new(seed)))
            .partitions_every(Duration::from_millis(200))
            .failover(Duration::from_millis(500))
    }

    /// A running relay with one route, `all`, to `sink`.
    pub(crate) async fn run(&self, sink: &Arc<MemorySink>) -> Running {
        let source = Arc::new(self.source().await);
        run(self.relay_on(source).route(all(), sink.clone() as Arc<dyn Sink>))
    }

    pub(crate) async fn checkpoints(&self) -> Vec<Checkpoint> {
        self.bookkeeping.checkpoints(&route()).await.unwrap()
    }

    /// Waits until the sink has everything, and the checkpoints are stored.
    pub(crate) async fn published(&self, sink: &MemorySink) {
        eventually("everything is published", async || {
            let ids: BTreeSet<_> = sink.ids().into_iter().collect();
            ids.len() >= self.written().len()
        })
        .await;
        let mut before = Vec::new();
        eventually("the checkpoints are stored", async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.checkpoints().await;
            std::mem::replace(&mut before, now.clone()) == now
        })
        .await;
    }

    /// How long it took until the shards were asked so many times more, while `meanwhile` goes on.
    pub(crate) async fn asked(&self, times: usize, mut meanwhile: impl AsyncFnMut()) -> Duration {
        let (before, began) = (self.server.calls("GetRecords"), System.moment());
        soon("the shards are asked again", async {
            while self.server.calls("GetRecords") < before + times {
                meanwhile().await;
            }
        })
        .await;
        System.moment().since(began)
    }

    /// Checks that the only shard, in which nothing happens, is asked no more than four times a second.
    pub(crate) async fn assert_asked_seldom(&self, mut meanwhile: impl AsyncFnMut()) {
        // Behind so many the pauses are as long as they get within a minute.
        self.asked(20, &mut meanwhile).await;
        let took = self.asked(9, &mut meanwhile).await;
        assert!(took > Duration::from_millis(1900), "nine requests within {took:?}");
    }

    /// Everything came once, each key in its order.
    pub(crate) fn assert_once(&self, sink: &MemorySink) {
        assert_eq!(by_key(sink.ids()), by_key(self.written()));
    }

    /// Everything came, the first publications of each key in its order.
    pub(crate) fn assert_complete(&self, sink: &MemorySink) {
        let mut seen = BTreeSet::new();
        let first = sink.ids().into_iter().filter(|id| seen.insert(id.clone())).collect();
        assert_eq!(by_key(first), by_key(self.written()));
        assert_eq!(sink.breaches(), Vec::<String>::new());
    }
}

/// The id of the only event of an entry.
pub(crate) fn id(key: &str, number: u64) -> String {
    format!("{key}@1.{number}.0")
}

fn by_key(ids: Vec<String>) -> std::collections::BTreeMap<String, Vec<String>> {
    let mut keys = std::collections::BTreeMap::<String, Vec<String>>::new();
    for id in ids {
        keys.entry(id.split('@').next().unwrap().to_owned()).or_default().push(id);
    }
    keys
}

pub(crate) fn route() -> RouteName {
    RouteName::new("all").unwrap()
}

pub(crate) fn all() -> RouteSettings {
    RouteSettings::new(route())
}

/// The route `all` as it is registered.
pub(crate) fn registration(start: Start, registered: Timestamp) -> Registration {
    Registration {
        route: route(),
        filter: Filter::default(),
        start,
        start_position: None,
        max_event_bytes: 1 << 20,
        gapless: true,
        registered,
    }
}

/// The only shard there is, and where a route begins in it.
pub(crate) async fn begin(source: &dyn Source) -> (PartitionId, Position) {
    let mut partitions = source.partitions().await.unwrap();
    assert_eq!(partitions.len(), 1, "{partitions:?}");
    let partition = partitions.remove(0).id;
    let position = source.start(&partition, &registration(Start::Beginning, Timestamp::UNIX_EPOCH)).await.unwrap();
    (partition, position)
}

pub(crate) fn ids(page: &Page) -> Vec<String> {
    page.records.iter().flat_map(|record| record.events()).map(|event| event.id().to_owned()).collect()
}

/// Whose claims and routes the relay keeps: in memory, for these tests are about the stream.
struct Books(MemoryStore);

#[async_trait]
impl BusinessStore for Books {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.0.identity().await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        self.0.claim(claim, seen).await
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.0.disown().await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        self.0.routes().await
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        self.0.register(registration).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.0.rename_route(from, to).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.0.retire_route(route).await
    }

    async fn purge(&self, _: &Position, _: Retention) -> Result<Purged, StoreError> {
        Ok(Purged::default())
    }

    async fn agreement(&self, _: &[Witness]) -> Result<Agreement, StoreError> {
        Ok(Agreement::Whole)
    }

    async fn raise_incarnation(&self, _: Option<&Position>, _: bool) -> Result<u32, StoreError> {
        Ok(1)
    }
}

/// A relay that runs until it is stopped or killed.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RelayError>>,
}

pub(crate) fn run(builder: RelayBuilder) -> Running {
    let relay = builder.build().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    Running { stop: Some(stop), task: tokio::spawn(relay.run(shutdown)) }
}

impl Running {
    /// Stops it in order.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
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
}

/// A moment in which others go on.
pub(crate) async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Awaits what has to happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits until `holds`, looking every few milliseconds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !holds().await {
            a_moment().await;
        }
    })
    .await;
}

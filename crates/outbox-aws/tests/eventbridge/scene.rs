//! What the tests work with: AWS as the tests reach it, buses that nobody else uses, a relay over memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_config::{Region, SdkConfig};
use aws_sdk_eventbridge::config::{Credentials, SharedCredentialsProvider};
use outbox::{
    Bookkeeping as _, Clock, Event, EventRef, NewEvent, Operator as _, Outcome, Relay, RouteName, RouteSettings, Sink,
    SinkError, System,
    bookkeeping::{DeadLetter, KeptCounts, Selector},
    cloudevents::json,
    memory::{MemoryBookkeeping, MemoryStore, SeededEntropy},
    relay::RelayHandle,
    sink::Batch,
};
use outbox_aws::{
    Settings,
    eventbridge::{EventBridgeSettings, EventBridgeSink},
    testing::proxy::{Fault, Proxy},
};
use tokio::{sync::oneshot, task::JoinHandle};

pub(crate) use crate::server::emulator;

/// How long what has to happen may take.
const LIMIT: Duration = Duration::from_secs(30);

/// AWS at `endpoint`, with the environment's credentials or any.
pub(crate) async fn aws(endpoint: &str) -> SdkConfig {
    let settings = Settings { endpoint: Some(endpoint.to_owned()), ..Settings::default() };
    let loaded = settings.load().await;
    let mut config = loaded.to_builder();
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
        let any = Credentials::new("test", "test", None, None, "tests");
        config = config.credentials_provider(SharedCredentialsProvider::new(any));
    }
    if loaded.region().is_none() {
        config = config.region(Region::new("eu-west-1"));
    }
    config.build()
}

/// A name that nobody else has.
pub(crate) fn unused_name() -> String {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    format!("outbox-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

/// Makes a bus in the emulator.
pub(crate) async fn make_bus(name: &str) {
    let client = aws_sdk_eventbridge::Client::new(&aws(emulator().unwrap()).await);
    client.create_event_bus().name(name).send().await.unwrap();
}

/// A sink that publishes through `proxy`.
pub(crate) async fn sink_through(proxy: &Proxy, settings: EventBridgeSettings) -> Arc<EventBridgeSink> {
    sink_on(proxy, settings, Arc::new(System)).await
}

/// The same on another clock.
pub(crate) async fn sink_on(
    proxy: &Proxy,
    settings: EventBridgeSettings,
    clock: Arc<dyn Clock>,
) -> Arc<EventBridgeSink> {
    Arc::new(EventBridgeSink::new(settings, &aws(proxy.url()).await, clock).unwrap())
}

/// A service that has every bus and takes every entry, until it is told otherwise.
pub(crate) async fn service() -> Proxy {
    let proxy = Proxy::alone().await;
    proxy.rule("DescribeEventBus", |_| Fault::Answer(200, r#"{"Name":"carts"}"#.to_owned()));
    proxy
}

pub(crate) fn new_event(key: &str) -> NewEvent {
    NewEvent::builder("cart.changed").key(key).json(&key).build().unwrap()
}

/// An event that was committed.
pub(crate) fn event(key: &str) -> Event {
    event_of(new_event(key))
}

pub(crate) fn event_of(new: NewEvent) -> Event {
    let key = new.key().map_or_else(|| "none".to_owned(), ToString::to_string);
    let place = outbox::Place::new(1, 1, 0);
    let placing = new.key().map(|_| outbox::Placing { place, count: 1, after: outbox::Place::ORIGIN });
    let source = "/carts".into();
    let identity = outbox::event::Identity { source: &source, placing, recorded: None, fallback_id: &key };
    Event::from_new(new, identity).unwrap()
}

pub(crate) async fn publish(
    sink: &dyn Sink,
    events: impl IntoIterator<Item = Event>,
) -> Result<Vec<Outcome>, SinkError> {
    let events = events.into_iter().map(EventRef::single).collect();
    sink.publish(&Batch { events, gapless: true, replay: None }).await
}

/// The ids of the events that the service behind `proxy` accepted, in their order.
pub(crate) fn accepted_ids(proxy: &Proxy) -> Vec<String> {
    proxy.accepted().iter().map(|entry| event_in(entry).id().to_owned()).collect()
}

/// The event that an entry is.
pub(crate) fn event_in(entry: &serde_json::Value) -> Event {
    json::decode(entry["Detail"].as_str().unwrap().as_bytes()).unwrap()
}

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A relay with one route, over a store in memory.
pub(crate) struct Running {
    pub(crate) store: MemoryStore,
    pub(crate) handle: RelayHandle,
    bookkeeping: Arc<MemoryBookkeeping>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), outbox::relay::RelayError>>,
}

impl Running {
    pub(crate) fn start(sink: Arc<dyn Sink>, clock: Arc<dyn Clock>) -> Self {
        let entropy = Arc::new(SeededEntropy::new(11));
        let store = MemoryStore::new("/carts", clock.clone(), entropy.clone()).unwrap();
        let bookkeeping = Arc::new(MemoryBookkeeping::new(&*entropy));
        let opened = Arc::new(store.reopen());
        let relay = Relay::builder().source(opened.clone()).store(opened).bookkeeping(bookkeeping.clone());
        let relay = relay.clock(clock).entropy(entropy).route(RouteSettings::new(route()), sink).build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = relay.handle();
        let task = tokio::spawn(relay.run(async move {
            let _ = stopped.await;
        }));
        Self { store, handle, bookkeeping, stop, task }
    }

    /// Commits one event of `key`, and gives its id.
    pub(crate) fn write(&self, key: &str) -> String {
        let name = outbox::Key::new(key).unwrap();
        self.store.write([new_event(key)]).unwrap();
        format!("{key}@1.{}.0", self.store.sequence(&name))
    }

    pub(crate) async fn kept(&self) -> KeptCounts {
        self.bookkeeping.kept_counts(&route()).await.unwrap()
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.bookkeeping.dead_letters(&route(), &Selector::default(), None, 100).await.unwrap()
    }

    pub(crate) async fn redrive(&self) {
        self.bookkeeping.redrive(&route(), &Selector::default(), System.wall()).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

fn route() -> RouteName {
    RouteName::new("bus").unwrap()
}

//! A service's database, whose log is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outbox::{Event, NewEvent, PartitionId, Position, Source, StoreError, source::Limit};
use outbox_sql::postgres::{
    ConnectOptions, InitOptions, PostgresStore, StoreOptions, Writer, init,
    wal::{PUBLICATION, WalSettings, WalSource, publish},
};
use tokio_postgres::Client;

use crate::cluster::{Cluster, Database};

/// Longer than anything takes here.
const DEADLINE: Duration = Duration::from_secs(60);
const PAGE: Limit = Limit { events: 100, bytes: 1 << 20 };

static SLOTS: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Fixture {
    pub(crate) database: Database,
    /// A session of the schema's owner.
    pub(crate) client: Client,
}

impl Fixture {
    /// On the server that is shared.
    pub(crate) async fn new() -> Self {
        Self::on(Cluster::shared()).await
    }

    pub(crate) async fn on(cluster: Arc<Cluster>) -> Self {
        let database = Database::new(cluster).await;
        let mut client = database.session().await;
        init(&mut client, &InitOptions::new("/orders")).await.unwrap();
        publish(&client, PUBLICATION).await.unwrap();
        Self { database, client }
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.database.url()).unwrap()
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// The text that `sql` gives.
    pub(crate) async fn text(&self, sql: &str) -> Option<String> {
        self.client.query_one(&format!("SELECT ({sql})::text"), &[]).await.unwrap().get(0)
    }

    /// The source that polls.
    pub(crate) async fn store(&self) -> PostgresStore {
        PostgresStore::open(self.options(), StoreOptions::default()).await.unwrap()
    }

    /// The source that reads the log, not yet streaming.
    pub(crate) async fn open(&self, settings: WalSettings) -> Result<WalSource, StoreError> {
        WalSource::open(Arc::new(self.store().await), self.options(), settings).await
    }

    /// The same, streaming, with a slot of its own.
    pub(crate) async fn streaming(&self) -> WalSource {
        let source = self.open(WalSettings::new().slot(slot())).await.unwrap();
        streams(&source).await;
        source
    }

    /// Writes an event of `key` and commits.
    pub(crate) async fn write(&self, key: &str) {
        write(&mut self.database.session().await, &[key]).await;
    }
}

/// A name that no other slot has.
pub(crate) fn slot() -> String {
    format!("test_{}_{}", std::process::id(), SLOTS.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn event(key: &str) -> NewEvent {
    NewEvent::builder("order.placed").key(key).json(&serde_json::json!({ "units": 3 })).build().unwrap()
}

/// Writes an event of each key in one transaction.
pub(crate) async fn write(client: &mut Client, keys: &[&str]) {
    let transaction = client.transaction().await.unwrap();
    for key in keys {
        Writer::new().write_all(&transaction, vec![event(key)]).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// Has `source` read, and waits until it streams.
pub(crate) async fn streams(source: &WalSource) {
    let waiting = async {
        while source.status().polling.is_some() {
            let _ = source.read(&PartitionId::new("entries"), &Position::new("@0/0/0"), PAGE).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok(), "in {DEADLINE:?} the log is read: {:?}", source.status());
}

/// Waits until `is_so`.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "in {DEADLINE:?}: {what}");
}

/// Reads as a relay's route does, and remembers what it got.
pub(crate) struct Route {
    pub(crate) position: Position,
    pub(crate) events: Vec<Event>,
    pub(crate) page: Limit,
}

impl Route {
    /// From the beginning.
    pub(crate) fn new() -> Self {
        Self { position: Position::new("@0/0/0"), events: Vec::new(), page: PAGE }
    }

    /// Reads a page; what fails for now is tried again later.
    pub(crate) async fn read(&mut self, source: &dyn Source) -> bool {
        let page = match source.read(&PartitionId::new("entries"), &self.position, self.page).await {
            Ok(page) => page,
            Err(error) if error.kind().retry() => return true,
            Err(error) => panic!("{error}"),
        };
        self.events.extend(page.records.iter().flat_map(|record| {
            assert!(!record.events().is_empty(), "{record:?}");
            record.events().to_vec()
        }));
        self.position = page.next;
        page.more
    }

    /// Reads until there are so many events, waiting for them.
    pub(crate) async fn until(&mut self, source: &dyn Source, count: usize) {
        let reading = async {
            while self.events.len() < count {
                if !self.read(source).await && self.events.len() < count {
                    source.changed().await;
                }
            }
        };
        let read = tokio::time::timeout(DEADLINE, reading).await;
        assert!(read.is_ok(), "{} of {count} events in {DEADLINE:?}: {:?}", self.events.len(), self.keys());
    }

    /// Reads what there is.
    pub(crate) async fn finish(&mut self, source: &dyn Source) {
        let mut quiet = 0;
        while quiet < 2 {
            let before = self.events.len();
            let more = self.read(source).await;
            quiet = if more || self.events.len() > before { 0 } else { quiet + 1 };
        }
    }

    /// The keys of the events, in their order.
    pub(crate) fn keys(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.key().map_or("", |key| key.as_str())).collect()
    }

    /// Makes sure that `count` events came, each once, and those of each key in their order.
    pub(crate) fn is_exact(&self, count: usize) {
        let unique: BTreeSet<_> = self.events.iter().map(Event::id).collect();
        assert_eq!(unique.len(), self.events.len(), "an event came twice");
        assert_eq!(self.events.len(), count, "events are missing");
        let mut places = BTreeMap::new();
        for event in &self.events {
            let (Some(key), Some(placing)) = (event.key(), event.placing()) else { continue };
            let before = places.insert(key.clone(), placing.place);
            assert!(before.is_none_or(|before| before < placing.place), "{key}: {before:?}, {:?}", placing.place);
        }
    }
}

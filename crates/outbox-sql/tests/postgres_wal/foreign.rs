//! A service whose table is its own, and is read in the log.

use std::sync::Arc;

use outbox::{
    BusinessStore, Filter, Page, PartitionId, Position, Record, RouteName, Source, Start, StoreError, source::Limit,
    store::Registration,
};
use outbox_sql::postgres::{
    ConnectOptions, InitOptions, Layout, Mapping, PostgresStore, StoreOptions, init,
    wal::{LogStore, PUBLICATION, WalSettings, WalSource},
};
use tokio_postgres::Client;

use crate::{
    cluster::{Cluster, Database},
    fixture::{slot, streams},
};

/// Debezium's, as its documents have it.
pub(crate) const DEBEZIUM: &str = "CREATE TABLE outboxevent (id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(), \
    aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)";
/// The seed's.
pub(crate) const SEED: &str = "CREATE TABLE Outbox (Id SERIAL PRIMARY KEY, EventType VARCHAR(255), Payload JSON, \
    Status VARCHAR(50), CreatedAt TIMESTAMP DEFAULT CURRENT_TIMESTAMP)";
const PLENTY: Limit = Limit { events: 1_000, bytes: 16 << 20 };

pub(crate) struct Foreign {
    pub(crate) database: Database,
    pub(crate) client: Client,
    pub(crate) mapping: Mapping,
    pub(crate) slot: String,
}

impl Foreign {
    /// With the table that `sql` makes, prepared and published.
    pub(crate) async fn on(cluster: Arc<Cluster>, sql: &str, mapping: Mapping) -> Self {
        let database = Database::new(cluster).await;
        let mut client = database.session().await;
        client.batch_execute(sql).await.unwrap();
        init(&mut client, &InitOptions::new("/users")).await.unwrap();
        let service = Self { database, client, mapping, slot: slot() };
        if service.mapping.has_id() {
            for statement in service.mapping.statements(&service.client).await.unwrap() {
                service.sql(&statement).await;
            }
        }
        let publish = service.mapping.publication_sql(&service.client, PUBLICATION).await.unwrap();
        service.sql(&publish).await;
        service
    }

    pub(crate) async fn with(sql: &str, mapping: Mapping) -> Self {
        Self::on(Cluster::shared(), sql, mapping).await
    }

    pub(crate) async fn debezium() -> Self {
        Self::with(DEBEZIUM, Mapping::of(Layout::Debezium)).await
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        let sql = format!("SELECT coalesce(({sql})::text, 'NULL')");
        self.client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.database.url()).unwrap()
    }

    pub(crate) fn settings(&self) -> WalSettings {
        WalSettings::new().slot(&self.slot)
    }

    /// The source that polls.
    pub(crate) async fn store(&self) -> PostgresStore {
        let settings = StoreOptions { mapping: Some(self.mapping.clone()), ..StoreOptions::default() };
        PostgresStore::open(self.options(), settings).await.unwrap()
    }

    /// The source that reads table and log, streaming.
    pub(crate) async fn streaming(&self) -> WalSource {
        let settings = self.settings().mapping(Some(self.mapping.clone()));
        let source = WalSource::open(Arc::new(self.store().await), self.options(), settings).await.unwrap();
        streams(&source).await;
        source
    }

    /// The store whose rows are in the log alone.
    pub(crate) async fn open(&self) -> Result<LogStore, StoreError> {
        LogStore::open(self.options(), self.mapping.clone(), self.settings()).await
    }

    /// The same, with a route that began when the slot was made; and where it begins.
    pub(crate) async fn begun(&self) -> (LogStore, Position) {
        let store = self.open().await.unwrap();
        let start = begin(&store, "first", Start::Beginning).await.unwrap();
        (store, start)
    }

    /// Writes a row of Debezium's layout, by a transaction of its own.
    pub(crate) async fn write(&self, aggregate: &str, kind: &str) {
        self.sql(&insert(aggregate, kind)).await;
    }
}

/// A row of Debezium's layout.
pub(crate) fn insert(aggregate: &str, kind: &str) -> String {
    format!(
        "INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) VALUES ('user', '{aggregate}', '{kind}', '{{}}')"
    )
}

pub(crate) fn registration(route: &str, start: Start) -> Registration {
    Registration {
        route: RouteName::new(route).unwrap(),
        filter: Filter::default(),
        start,
        start_position: None,
        max_event_bytes: 1 << 20,
        gapless: true,
        registered: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// Registers a route, and gives where it begins.
pub(crate) async fn begin(store: &LogStore, route: &str, start: Start) -> Result<Position, StoreError> {
    let registered = store.register(registration(route, start)).await?;
    store.start(&partition(), &registered).await
}

pub(crate) fn partition() -> PartitionId {
    PartitionId::new("log")
}

pub(crate) async fn page(source: &dyn Source, after: &Position, events: usize) -> Result<Page, StoreError> {
    source.read(&partition(), after, Limit { events, ..PLENTY }).await
}

/// Everything behind `after`, in pages of so many events; and where that ends.
pub(crate) async fn read(source: &dyn Source, after: &Position, events: usize) -> (Vec<Arc<Record>>, Position) {
    let (mut records, mut at) = (Vec::new(), after.clone());
    loop {
        let page = page(source, &at, events).await.unwrap();
        records.extend(page.records);
        at = page.next;
        if !page.more {
            return (records, at);
        }
    }
}

/// The events' types, as they came.
pub(crate) fn kinds(records: &[Arc<Record>]) -> Vec<String> {
    records.iter().map(|record| record.events().first().map_or("?", |event| event.kind()).to_owned()).collect()
}

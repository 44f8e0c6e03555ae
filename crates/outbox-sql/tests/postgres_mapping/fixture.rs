//! A service whose table is its own.

use outbox::StoreError;
use outbox_sql::postgres::{ConnectOptions, InitOptions, Layout, Mapping, PostgresStore, StoreOptions, init};
use tokio_postgres::Client;

use crate::{reader::Reader, server::Database};

/// As the seed has it.
pub(crate) const SEED: &str = "CREATE TABLE Outbox (Id SERIAL PRIMARY KEY, EventType VARCHAR(255), Payload JSON, \
    Status VARCHAR(50), CreatedAt TIMESTAMP DEFAULT CURRENT_TIMESTAMP)";

pub(crate) struct Service {
    pub(crate) database: Database,
    pub(crate) client: Client,
    pub(crate) mapping: Mapping,
}

impl Service {
    /// With the table that `sql` makes, not prepared.
    pub(crate) async fn with(sql: &str, mapping: Mapping) -> Self {
        let database = Database::new().await;
        let mut client = database.session().await;
        client.batch_execute(sql).await.unwrap();
        init(&mut client, &InitOptions::new("/users")).await.unwrap();
        Self { database, client, mapping }
    }

    /// With the seed's table, not prepared.
    pub(crate) async fn of_seed() -> Self {
        Self::with(SEED, Mapping::of(Layout::PollingOutbox)).await
    }

    /// Runs what the mapping says.
    pub(crate) async fn prepare(&self) {
        for statement in self.mapping.statements(&self.client).await.unwrap() {
            self.sql(&statement).await;
        }
    }

    /// The same, prepared.
    pub(crate) async fn prepared(self) -> Self {
        self.prepare().await;
        self
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// The only value of `sql`, as text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let sql = format!("SELECT coalesce(({sql})::text, 'NULL')");
        self.client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(self.database.url()).unwrap()
    }

    pub(crate) async fn open(&self) -> Result<PostgresStore, StoreError> {
        let settings = StoreOptions { mapping: Some(self.mapping.clone()), ..StoreOptions::default() };
        PostgresStore::open(self.options(), settings).await
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        self.open().await.unwrap()
    }

    pub(crate) async fn reader(&self) -> Reader {
        Reader::new(self.store().await).await
    }

    /// Why it is refused.
    pub(crate) async fn refusal(&self) -> String {
        self.open().await.err().expect("it is refused").to_string()
    }
}

/// The types that came, as they came.
pub(crate) fn types(reader: &Reader) -> Vec<String> {
    reader.records.iter().map(|record| record.events().first().map_or("?", |event| event.kind()).to_owned()).collect()
}

//! A service's database, and a relay's view of it.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Expected, Receipt, Source, WriteError,
    testing::{End, Opened, StoreUnderTest, Transaction, Write, WriterUnderTest},
    writer::Settled,
};
use outbox_sql::postgres::{ConnectOptions, InitOptions, PostgresStore, StoreOptions, Writer, init, settle};
use tokio_postgres::Client;

use crate::{pooler::Pooler, server, server::Database};

pub(crate) struct Service {
    pub(crate) database: Database,
    /// Relays come by way of it.
    pooler: Option<Arc<Pooler>>,
}

/// Leaves as small as the suites need to see what is purged: of one entry each first, then of some hundred.
const SMALL_LEAVES: &str = "DO $$
DECLARE
    leaf record;
BEGIN
    DROP TABLE outbox.entries_1;
    DELETE FROM outbox.leaves;
    FOR leaf IN
        SELECT n AS low, n + 1 AS high FROM generate_series(1, 40) AS n
        UNION ALL SELECT n, least(n + 300, 2500) FROM generate_series(41, 2499, 300) AS n
        UNION ALL VALUES (2500, 2501), (2501, 100000)
        ORDER BY low
    LOOP
        EXECUTE format('CREATE TABLE outbox.%I (LIKE outbox.entries INCLUDING DEFAULTS)', 'entries_' || leaf.low);
        EXECUTE format(
            'ALTER TABLE outbox.entries ATTACH PARTITION outbox.%I FOR VALUES FROM (%s) TO (%s)',
            'entries_' || leaf.low, leaf.low, leaf.high
        );
        INSERT INTO outbox.leaves (name, low, high, drawn) VALUES ('entries_' || leaf.low, leaf.low, leaf.high, 0);
    END LOOP;
END
$$";

impl Service {
    /// With leaves as a service has them.
    pub(crate) async fn new() -> Self {
        let database = Database::new().await;
        init(&mut database.session().await, &InitOptions::new("/orders")).await.unwrap();
        Self { database, pooler: None }
    }

    pub(crate) async fn of_small_leaves() -> Self {
        let service = Self::new().await;
        service.session().await.batch_execute(SMALL_LEAVES).await.unwrap();
        service
    }

    pub(crate) fn behind(mut self, pooler: Arc<Pooler>) -> Self {
        self.pooler = Some(pooler);
        self
    }

    /// A session of the schema's owner.
    pub(crate) async fn session(&self) -> Client {
        self.database.session().await
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        let url = self.database.url();
        let url = self.pooler.as_ref().map_or_else(|| url.to_owned(), |pooler| pooler.before(url));
        ConnectOptions::parse(&url).unwrap()
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        PostgresStore::open(self.options(), StoreOptions::default()).await.unwrap()
    }

    fn name(&self) -> &str {
        self.database.url().rsplit_once('/').unwrap().1
    }

    /// Makes database `to` a copy of `from`, whoever uses them.
    async fn copy(from: &str, to: &str) {
        let server = server::session(server::url()).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'");
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {to} WITH (FORCE)")).await.unwrap();
        let made = format!("CREATE DATABASE {to} TEMPLATE {from}");
        // Whoever connects in between holds it up.
        for _ in 0..100 {
            server.batch_execute(&end).await.unwrap();
            match server.batch_execute(&made).await {
                Ok(()) => return,
                Err(error) => {
                    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("55006"), "{error}");
                }
            }
        }
        panic!("somebody keeps connecting to {from}");
    }
}

/// The writer that a suite's call asks for.
fn expecting(call: &Write) -> Writer {
    match (call.expected, call.events.first().and_then(|event| event.key())) {
        (Expected::Sequence(sequence), Some(key)) => Writer::new().expecting(key.clone(), sequence),
        (Expected::Any, _) | (_, None) => Writer::new(),
    }
}

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut client = self.session().await;
        let transaction = client.transaction().await.unwrap();
        let mut receipts = Vec::new();
        for call in asked.writes {
            receipts.extend(expecting(&call).write_all(&transaction, call.events).await?);
        }
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        match asked.end {
            End::Commit => transaction.commit().await.unwrap(),
            End::RollBack => transaction.rollback().await.unwrap(),
        }
        Ok(receipts)
    }

    async fn transact_regardless(&self, writes: Vec<Write>) -> Option<Vec<Result<Vec<Receipt>, WriteError>>> {
        let mut client = self.session().await;
        let transaction = client.transaction().await.unwrap();
        let mut answers = Vec::new();
        for call in writes {
            answers.push(expecting(&call).write_all(&transaction, call.events).await);
        }
        transaction.commit().await.unwrap();
        Some(answers)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        settle(&self.session().await, receipt).await.unwrap()
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.store().await)
    }
}

#[async_trait]
impl StoreUnderTest for Service {
    async fn open(&self) -> Opened {
        let store = Arc::new(self.store().await);
        Opened { source: store.clone(), store }
    }

    async fn back_up(&self) {
        Self::copy(self.name(), &format!("{}_copy", self.name())).await;
    }

    async fn restore(&self) {
        Self::copy(&format!("{}_copy", self.name()), self.name()).await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {}_copy WITH (FORCE)", self.name());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { server::session(server::url()).await.batch_execute(&sql).await })
        });
        if !std::thread::panicking() {
            dropped.join().unwrap().unwrap();
        }
    }
}

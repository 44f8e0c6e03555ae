//! A bookkeeping in a schema of its own, and what tests do with it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use outbox::{
    Bookkeeping, CommitId, PartitionId, Position, RouteName,
    bookkeeping::{Checkpoint, Lease},
    store::Witness,
};
use outbox_sql::postgres::{BookkeepingSchema, ConnectOptions, PostgresBookkeeping};
use tokio_postgres::Client;

use crate::server::Database;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A bookkeeping that nobody else uses.
pub(crate) struct Fresh {
    pub(crate) database: Database,
    pub(crate) schema: BookkeepingSchema,
}

impl Fresh {
    pub(crate) async fn new() -> Self {
        let fresh = Self { database: Database::new().await, schema: unused_schema() };
        PostgresBookkeeping::init(&options(&fresh.database), &fresh.schema).await.unwrap();
        fresh
    }

    /// As another process opens it.
    pub(crate) async fn open(&self) -> PostgresBookkeeping {
        self.open_with(options(&self.database)).await
    }

    pub(crate) async fn open_with(&self, options: ConnectOptions) -> PostgresBookkeeping {
        PostgresBookkeeping::open(options, self.schema.clone()).await.unwrap()
    }

    /// A session of somebody else.
    pub(crate) async fn session(&self) -> Client {
        self.database.session().await
    }

    /// `sql` with the name of this schema in place of the usual one.
    pub(crate) fn named(&self, sql: &str) -> String {
        sql.replace("outbox_relay", &self.schema.to_string())
    }
}

/// How to reach a database.
pub(crate) fn options(database: &Database) -> ConnectOptions {
    ConnectOptions::parse(database.url()).unwrap()
}

pub(crate) fn unused_schema() -> BookkeepingSchema {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    BookkeepingSchema::new(&format!("books_{}_{number}", std::process::id())).unwrap()
}

pub(crate) async fn take(books: &PostgresBookkeeping) -> Lease {
    let seen = books.lease("relay").await.unwrap();
    books.take("relay", &seen, "host:1", Duration::from_secs(10)).await.unwrap().unwrap()
}

pub(crate) fn ledger() -> RouteName {
    RouteName::new("ledger").unwrap()
}

pub(crate) fn entries() -> PartitionId {
    PartitionId::new("entries")
}

pub(crate) fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint { partition: entries(), position: Position::new(number.to_string()), finished: false }
}

pub(crate) fn witness(number: u64) -> Witness {
    Witness { position: Position::new(number.to_string()), commit: CommitId(u128::from(number).to_be_bytes()) }
}

/// Where the route is.
pub(crate) async fn position(books: &PostgresBookkeeping) -> Option<u64> {
    let found = books.checkpoints(&ledger()).await.unwrap();
    found.first().map(|checkpoint| checkpoint.position.as_str().parse().unwrap())
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}

/// Waits until a session whose statement contains `text` waits for a lock.
pub(crate) async fn until_waiting(observer: &Client, text: &str) {
    until(&format!("`{text}` waits for a lock"), async || {
        let waiting = observer
            .query(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND position($1 in query) > 0 \
                 AND datname = current_database() AND pid <> pg_backend_pid()",
                &[&text],
            )
            .await
            .unwrap();
        !waiting.is_empty()
    })
    .await;
}

//! The writer for `sqlx`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use outbox::{
    Expected, NewEvent, Receipt, Source, WriteError,
    testing::{End, Transaction, Write, WriterUnderTest, conformance},
    writer::Settled,
};
use outbox_sql::sqlite::{InitOptions, SqliteStore, StoreOptions, Writer, init, settle_sqlx};
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use tempfile::TempDir;

use crate::fixture::{Fixture, event, key, keyless, place};

async fn connect(path: PathBuf) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(30))
        .synchronous(SqliteSynchronous::Normal);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// A service that writes by `sqlx`.
struct Service {
    directory: TempDir,
}

impl Service {
    fn new() -> Self {
        let service = Self { directory: tempfile::tempdir().unwrap() };
        init(&rusqlite::Connection::open(service.path()).unwrap(), &InitOptions::new("/orders")).unwrap();
        service
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("orders.db")
    }
}

fn writer(call: &Write) -> Writer {
    match (call.expected, call.events.first().and_then(|event| event.key())) {
        (Expected::Sequence(sequence), Some(key)) => Writer::new().expecting(key.clone(), sequence),
        (Expected::Any, _) | (_, None) => Writer::new(),
    }
}

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut connection = connect(self.path()).await;
        let mut transaction = connection.begin().await.unwrap();
        let mut receipts = Vec::new();
        for call in asked.writes {
            receipts.extend(writer(&call).write_all_sqlx(&mut transaction, call.events).await?);
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
        let mut connection = connect(self.path()).await;
        let mut transaction = connection.begin().await.unwrap();
        let mut answers = Vec::new();
        for call in writes {
            answers.push(writer(&call).write_all_sqlx(&mut transaction, call.events).await);
        }
        transaction.commit().await.unwrap();
        Some(answers)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        settle_sqlx(&mut connect(self.path()).await, receipt).await.unwrap()
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(SqliteStore::open(self.path(), StoreOptions::default()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlx_writer_conforms() {
    conformance::writer::all(async || Service::new()).await;
}

#[tokio::test]
async fn a_refusal_leaves_none_of_its_call_and_all_of_the_calls_before() {
    let fixture = Fixture::new();
    fixture.sql("UPDATE outbox_meta SET max_event_bytes = 100");
    let mut connection = connect(fixture.path()).await;
    let mut transaction = connection.begin().await.unwrap();
    let writer = Writer::new();
    assert_eq!(writer.write_sqlx(&mut transaction, event("a")).await.unwrap().first, Some(place(1)));
    let large = NewEvent::builder("t").key("z").bytes("text/plain", "x".repeat(101)).build().unwrap();
    let refused = writer.write_all_sqlx(&mut transaction, [event("a"), keyless(), large]).await.unwrap_err();
    assert!(matches!(refused, WriteError::TooLarge { index: 2, bytes: 101, limit: 100 }), "{refused}");
    let stale = writer.expecting(key("b"), 4).write_all_sqlx(&mut transaction, [event("a"), event("b")]).await;
    assert!(matches!(stale, Err(WriteError::Conflict { expected: 4, actual: 0, .. })), "{stale:?}");
    transaction.commit().await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 1);
    assert_eq!(fixture.number("SELECT sequence FROM outbox_heads"), 1);
}

#[tokio::test]
async fn missing_tables_and_a_missing_identity_are_named_with_the_remedy() {
    let fixture = Fixture::new();
    fixture.sql("DELETE FROM outbox_meta");
    let mut connection = connect(fixture.path()).await;
    let mut transaction = connection.begin().await.unwrap();
    let error = Writer::new().write_sqlx(&mut transaction, event("a")).await.unwrap_err();
    assert!(matches!(&error, WriteError::Incompatible(text) if text.contains("outbox init")), "{error}");
    transaction.rollback().await.unwrap();
    fixture.sql("DROP VIEW outbox; DROP TABLE outbox_heads");
    let mut transaction = connection.begin().await.unwrap();
    let error = Writer::new().write_sqlx(&mut transaction, event("a")).await.unwrap_err();
    assert!(matches!(&error, WriteError::Incompatible(text) if text.contains("outbox init")), "{error}");
}

#[tokio::test]
async fn a_lock_held_for_too_long_is_to_be_run_again() {
    let fixture = Fixture::new();
    let options = SqliteConnectOptions::new().filename(fixture.path()).busy_timeout(Duration::ZERO);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    fixture.sql("BEGIN IMMEDIATE");
    let mut transaction = connection.begin().await.unwrap();
    let error = Writer::new().write_sqlx(&mut transaction, event("a")).await.unwrap_err();
    assert!(matches!(error, WriteError::RetryTransaction { .. }), "{error}");
}

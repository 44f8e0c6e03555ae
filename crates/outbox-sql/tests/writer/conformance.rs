//! The suite that every writer passes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use outbox::{
    Expected, Receipt, Source, WriteError,
    testing::{End, Transaction, Write, WriterUnderTest, conformance},
    writer::Settled,
};
use outbox_sql::sqlite::{InitOptions, SqliteStore, StoreOptions, Writer, init, settle};
use rusqlite::Connection;
use tempfile::TempDir;

/// A service that writes by `rusqlite`.
struct Service {
    directory: TempDir,
}

impl Service {
    fn new() -> Self {
        let service = Self { directory: tempfile::tempdir().unwrap() };
        init(&service.connect(), &InitOptions::new("/orders")).unwrap();
        service
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("orders.db")
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        connection
    }
}

fn write(connection: &Connection, call: Write) -> Result<Vec<Receipt>, WriteError> {
    let writer = match (call.expected, call.events.first().and_then(|event| event.key())) {
        (Expected::Sequence(sequence), Some(key)) => Writer::new().expecting(key.clone(), sequence),
        (Expected::Any, _) | (_, None) => Writer::new(),
    };
    writer.write_all(connection, call.events)
}

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, transaction: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let connection = self.connect();
        connection.execute_batch("BEGIN").unwrap();
        let mut receipts = Vec::new();
        for call in transaction.writes {
            // Dropping the connection rolls back.
            receipts.extend(write(&connection, call)?);
        }
        if let Some(before_end) = transaction.before_end {
            before_end.await;
        }
        let end = match transaction.end {
            End::Commit => "COMMIT",
            End::RollBack => "ROLLBACK",
        };
        connection.execute_batch(end).unwrap();
        Ok(receipts)
    }

    async fn transact_regardless(&self, writes: Vec<Write>) -> Option<Vec<Result<Vec<Receipt>, WriteError>>> {
        let connection = self.connect();
        connection.execute_batch("BEGIN").unwrap();
        let answers = writes.into_iter().map(|call| write(&connection, call)).collect();
        connection.execute_batch("COMMIT").unwrap();
        Some(answers)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        settle(&self.connect(), receipt).unwrap()
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(SqliteStore::open(self.path(), StoreOptions::default()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rusqlite_writer_conforms() {
    conformance::writer::all(async || Service::new()).await;
}

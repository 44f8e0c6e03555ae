//! A service's database in a directory of its own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use outbox::{
    Key, NewEvent, Place,
    memory::{ManualClock, SeededEntropy},
};
use outbox_sql::sqlite::{InitOptions, Writer, init};
use rusqlite::{Connection, types::Value};
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) connection: Connection,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("orders.db")).unwrap();
        init(&connection, &InitOptions::new("/orders")).unwrap();
        connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        Self { directory, connection }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("orders.db")
    }

    /// One more connection, that waits `patience` for a lock.
    pub(crate) fn connect(&self, patience: Duration) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(patience).unwrap();
        connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        connection
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Every row that `sql` gives.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        rows(&self.connection, sql)
    }
}

pub(crate) fn rows(connection: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A writer whose times and ids are the same in every run.
pub(crate) fn writer() -> Writer {
    let clock = ManualClock::new("2026-11-21T09:30:00.250Z".parse().unwrap());
    Writer::new().clock(Arc::new(clock)).entropy(Arc::new(SeededEntropy::new(7)))
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn event(key: &str) -> NewEvent {
    NewEvent::builder("order.placed").key(key).json(&serde_json::json!({ "units": 3 })).build().unwrap()
}

pub(crate) fn keyless() -> NewEvent {
    NewEvent::builder("order.placed").json(&3).build().unwrap()
}

pub(crate) fn place(sequence: u64) -> Place {
    Place::new(1, sequence, 0)
}

//! A service's database in a directory of its own, and what a test does with it.

use std::path::{Path, PathBuf};

use outbox::{
    Event, PartitionId, Position, Source, StoreError,
    source::{Limit, Page},
};
use outbox_sql::sqlite::{InitOptions, SqliteStore, StoreOptions, init};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) writer: Connection,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.db");
        let writer = Self::make(&path);
        Self { directory, path, writer }
    }

    /// A database with the tables at `path`.
    pub(crate) fn make(path: &Path) -> Connection {
        let writer = Connection::open(path).unwrap();
        init(&writer, &InitOptions::new("/orders")).unwrap();
        writer.pragma_update(None, "synchronous", "NORMAL").unwrap();
        writer
    }

    pub(crate) fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.path, StoreOptions::default()).unwrap()
    }

    /// Writes an entry of one event for `key`, as any language would.
    pub(crate) fn write(&self, key: &str) {
        write(&self.writer, key);
    }

    pub(crate) fn write_many(&self, keys: usize, entries: usize) {
        self.writer.execute_batch("BEGIN").unwrap();
        for number in 0..entries {
            self.write(&format!("order/{}", number % keys));
        }
        self.writer.execute_batch("COMMIT").unwrap();
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.writer.execute_batch(sql).unwrap();
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.writer.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// A copy of the database as a backup makes it.
    pub(crate) fn back_up(&self) -> PathBuf {
        let copy = self.directory.path().join("backup.db");
        self.writer.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        copy
    }

    /// Closes the database and puts `copy` in its place.
    pub(crate) fn put_in_place(&mut self, copy: &Path) {
        self.writer = Connection::open_in_memory().unwrap();
        for name in ["orders.db", "orders.db-wal", "orders.db-shm"] {
            let _ = std::fs::remove_file(self.directory.path().join(name));
        }
        std::fs::rename(copy, &self.path).unwrap();
        self.writer = Connection::open(&self.path).unwrap();
        self.writer.pragma_update(None, "journal_mode", "WAL").unwrap();
    }
}

pub(crate) fn write(writer: &Connection, key: &str) {
    writer
        .execute("INSERT INTO outbox (key, type, data) VALUES (?1, 'order.placed', ?2)", [key, r#"{"units":3}"#])
        .unwrap();
}

pub(crate) fn entries() -> PartitionId {
    PartitionId::new("entries")
}

pub(crate) const PLENTY: Limit = Limit { events: 10_000, bytes: 64 << 20 };

pub(crate) async fn read(store: &SqliteStore, after: &str) -> Result<Page, StoreError> {
    store.read(&entries(), &Position::new(after), PLENTY).await
}

pub(crate) fn positions(page: &Page) -> Vec<String> {
    page.records.iter().map(|record| record.position.to_string()).collect()
}

pub(crate) fn events(page: &Page) -> Vec<Event> {
    page.records.iter().flat_map(|record| record.events().to_vec()).collect()
}

impl Fixture {
    pub(crate) fn new_store() -> (Self, SqliteStore) {
        let fixture = Self::new();
        let store = fixture.store();
        (fixture, store)
    }
}

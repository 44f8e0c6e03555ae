//! A service's database and a relay's bookkeeping in a directory of their own.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    NewEvent, Operator,
    testing::{Hooked, Opened, crashes::StoresUnderTest},
};
use outbox_sql::sqlite::{
    BookkeepingOptions, InitOptions, SqliteBookkeeping, SqliteStore, StoreOptions, Waker, Writer, init,
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::still::Still;

pub(crate) struct Files {
    directory: TempDir,
    service: Mutex<Connection>,
    /// Of the relay that was started last.
    waker: Mutex<Option<Waker>>,
}

impl Files {
    pub(crate) fn new() -> Self {
        let directory = room();
        let service = Connection::open(directory.path().join("orders.db")).unwrap();
        init(&service, &InitOptions::new("/orders")).unwrap();
        service.pragma_update(None, "synchronous", "NORMAL").unwrap();
        service.busy_timeout(Duration::from_secs(30)).unwrap();
        Self { directory, service: Mutex::new(service), waker: Mutex::default() }
    }
}

/// In memory where the system has such a place: processes die here, not machines, and hundreds of runs would wait for the
/// disk.
fn room() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

#[async_trait]
impl StoresUnderTest for Files {
    async fn write(&self, events: Vec<NewEvent>) {
        let mut service = self.service.lock().unwrap();
        let transaction = service.transaction().unwrap();
        Writer::new().write_all(&transaction, events).unwrap();
        transaction.commit().unwrap();
        if let Some(waker) = &*self.waker.lock().unwrap() {
            waker.wake();
        }
    }

    async fn open(&self) -> Opened {
        // The poll is no I/O of interest, and every one would be a step.
        let options = StoreOptions { poll: Duration::from_secs(60), ..StoreOptions::default() };
        let store = Arc::new(SqliteStore::open(self.directory.path().join("orders.db"), options).unwrap());
        *self.waker.lock().unwrap() = Some(store.waker());
        Opened { source: store.clone(), store }
    }

    async fn bookkeeping(&self) -> Arc<dyn Operator> {
        let options = BookkeepingOptions { create: true, ..BookkeepingOptions::default() };
        let books = SqliteBookkeeping::open(self.directory.path().join("books.db"), options).unwrap();
        Arc::new(Hooked::new(Arc::new(books), Still::default()))
    }
}

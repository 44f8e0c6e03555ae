//! The suites that every backend passes.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use outbox::{
    Operator,
    testing::{BookkeepingUnderTest, conformance},
};
use outbox_sql::sqlite::SqliteBookkeeping;
use tempfile::TempDir;

use crate::{bookkeeping_opening::create, foreign_writer::Service};

/// A bookkeeping's file, opened as often as it is asked for.
struct Books(PathBuf);

#[async_trait]
impl BookkeepingUnderTest for Books {
    async fn open(&self) -> Arc<dyn Operator> {
        Arc::new(SqliteBookkeeping::open(&self.0, create()).unwrap())
    }
}

/// Gives each check a file of its own.
struct Fresh {
    directory: TempDir,
    made: AtomicUsize,
}

impl Fresh {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), made: AtomicUsize::new(0) }
    }

    fn bookkeeping(&self) -> Books {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Books(self.directory.path().join(format!("books-{number}.db")))
    }

    fn service(&self) -> Service {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        // A directory each, or the writes of one would wake the readers of another.
        let room = self.directory.path().join(number.to_string());
        std::fs::create_dir(&room).unwrap();
        Service::new(room.join("orders.db"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bookkeeping_conforms() {
    let fresh = Fresh::new();
    conformance::bookkeeping::all(async || fresh.bookkeeping()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bookkeeping_conforms_for_operators() {
    let fresh = Fresh::new();
    conformance::operator::all(async || fresh.bookkeeping()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_conforms() {
    let fresh = Fresh::new();
    conformance::source::all(async || fresh.service()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_business_store_conforms() {
    let fresh = Fresh::new();
    conformance::business_store::all(async || fresh.service()).await;
}

//! The suites that every backend passes.

use std::sync::atomic::{AtomicUsize, Ordering};

use outbox::testing::conformance;
use outbox_sql::sqlite::SqliteBookkeeping;
use tempfile::TempDir;

use crate::{bookkeeping_opening::create, foreign_writer::Service};

/// Gives each check a file of its own.
struct Fresh {
    directory: TempDir,
    made: AtomicUsize,
}

impl Fresh {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), made: AtomicUsize::new(0) }
    }

    fn bookkeeping(&self) -> SqliteBookkeeping {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        SqliteBookkeeping::open(self.directory.path().join(format!("books-{number}.db")), create()).unwrap()
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

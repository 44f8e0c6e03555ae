//! Making and opening a bookkeeping's file.

use std::time::Duration;

use outbox::{Bookkeeping, ErrorKind, StoreError, bookkeeping::Lease};
use outbox_sql::sqlite::{BookkeepingOptions, SqliteBookkeeping};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::fixture::Fixture;

pub(crate) struct Books {
    pub(crate) directory: TempDir,
    pub(crate) books: SqliteBookkeeping,
}

impl Books {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let books = SqliteBookkeeping::open(directory.path().join("books.db"), create()).unwrap();
        Self { directory, books }
    }

    /// The same file as another process opens it.
    pub(crate) fn reopen(&self) -> SqliteBookkeeping {
        SqliteBookkeeping::open(self.books.path(), BookkeepingOptions::default()).unwrap()
    }

    pub(crate) async fn lease(&self) -> Lease {
        take(&self.books).await
    }
}

pub(crate) async fn take(books: &SqliteBookkeeping) -> Lease {
    let seen = books.lease("relay").await.unwrap();
    books.take("relay", &seen, "host:1", Duration::from_secs(10)).await.unwrap().unwrap()
}

pub(crate) fn create() -> BookkeepingOptions {
    BookkeepingOptions { create: true, ..BookkeepingOptions::default() }
}

fn refused(path: &std::path::Path, options: BookkeepingOptions) -> StoreError {
    SqliteBookkeeping::open(path, options).err().unwrap()
}

#[test]
fn a_mistyped_path_makes_no_second_bookkeeping() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("boooks.db");
    let error = refused(&path, BookkeepingOptions::default());
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("boooks.db") && error.to_string().contains("outbox init"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn an_id_is_given_once_and_stays() {
    let books = Books::new();
    let id = books.books.id().await.unwrap();
    assert_eq!(id.len(), 32);
    assert_eq!(books.reopen().id().await.unwrap(), id);
    let again = SqliteBookkeeping::open(books.books.path(), create()).unwrap();
    assert_eq!(again.id().await.unwrap(), id, "making it is done once");
    assert_ne!(Books::new().books.id().await.unwrap(), id);
}

#[test]
fn what_is_no_bookkeeping_is_refused_and_left_as_it_is() {
    let fixture = Fixture::new();
    let error = refused(&fixture.path, create());
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("a file of its own"), "{error}");
    assert_eq!(fixture.number("SELECT count(*) FROM sqlite_master WHERE name = 'bookkeeping'"), 0);

    let garbage = fixture.directory.path().join("garbage.db");
    std::fs::write(&garbage, "neither a database nor short enough to be taken for an empty one".repeat(20)).unwrap();
    let error = refused(&garbage, create());
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert!(error.to_string().contains("garbage.db"), "{error}");

    let nowhere = fixture.directory.path().join("no/such/directory/books.db");
    let error = refused(&nowhere, create());
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
}

#[test]
fn a_bookkeeping_of_a_newer_version_is_refused_with_the_remedy() {
    let books = Books::new();
    Connection::open(books.books.path()).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = refused(books.books.path(), BookkeepingOptions::default());
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("layout 2") && error.to_string().contains("upgrade"), "{error}");
}

#[tokio::test]
async fn a_locked_bookkeeping_is_unavailable_for_now_and_works_again_afterwards() {
    let books = Books::new();
    let impatient = BookkeepingOptions { busy: Duration::from_millis(10), ..BookkeepingOptions::default() };
    let impatient = SqliteBookkeeping::open(books.books.path(), impatient).unwrap();
    let lease = books.lease().await;
    let other = Connection::open(books.books.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = impatient.renew(&lease).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Unavailable, false), "{error}");
    assert!(error.to_string().contains("renewing a lease"), "{error}");
    impatient.lease("relay").await.expect("reading waits for no writer");
    other.execute_batch("COMMIT").unwrap();
    impatient.renew(&lease).await.unwrap();
}

#[tokio::test]
async fn a_bookkeeping_that_was_replaced_while_in_use_takes_no_more_writes() {
    let books = Books::new();
    let lease = books.lease().await;
    std::fs::rename(books.books.path(), books.directory.path().join("away.db")).unwrap();
    for replaced in [false, true] {
        let error = books.books.renew(&lease).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ownership, "{error}");
        assert!(error.to_string().contains("moved, replaced or deleted"), "{error}");
        if !replaced {
            SqliteBookkeeping::open(books.books.path(), create()).unwrap();
        }
    }
}

#[tokio::test]
async fn everything_is_still_there_after_the_file_was_opened_again() {
    let Books { directory, books } = Books::new();
    let lease = take(&books).await;
    let path = books.path().to_owned();
    drop(books);
    let books = SqliteBookkeeping::open(&path, BookkeepingOptions::default()).unwrap();
    books.renew(&lease).await.unwrap();
    let view = books.lease("relay").await.unwrap();
    assert_eq!((view.epoch, view.holder.as_str(), view.duration), (1, "host:1", Duration::from_secs(10)));
    drop(directory);
}

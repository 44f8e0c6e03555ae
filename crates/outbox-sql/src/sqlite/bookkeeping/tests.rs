//! Failures of the disk, as `SQLite` itself reports them.

use std::{path::Path, time::Duration};

use outbox::{Bookkeeping as _, ErrorKind, StoreError};
use rusqlite::{Connection, OpenFlags};

use super::{
    BookkeepingOptions, SqliteBookkeeping,
    commits::{Commits, Committer},
};
use crate::sqlite::connection::FileIdentity;

/// A file with one table, and a writing thread whose connection `prepare` has prepared.
fn commits(path: &Path, flags: OpenFlags, prepare: &str) -> Commits {
    Connection::open(path)
        .unwrap()
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (data)")
        .unwrap();
    let connection = Connection::open_with_flags(path, flags).unwrap();
    connection.execute_batch(prepare).unwrap();
    Commits::start(Committer { path: path.to_owned(), connection, file: FileIdentity::of(path).unwrap() }).unwrap()
}

fn insert(bytes: usize) -> impl Fn(&Connection) -> Result<(), StoreError> + Send + 'static {
    move |connection| {
        connection
            .execute("INSERT INTO t VALUES (zeroblob(?1))", [i64::try_from(bytes).unwrap()])
            .map(|_| ())
            .map_err(crate::sqlite::failure::store_error("keeping events"))
    }
}

fn rows(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_says_so_and_the_writes_beside_it_are_stored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books.db");
    let commits = commits(&path, OpenFlags::default(), "PRAGMA max_page_count = 40");
    let (first, large, last) = tokio::join!(
        commits.write("first", insert(10)),
        commits.write("large", insert(1 << 20)),
        commits.write("last", insert(10)),
    );
    first.unwrap();
    last.unwrap();
    let error = large.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.kind().retry());
    assert!(error.to_string().contains("make room on the disk"), "{error}");
    assert_eq!(rows(&path), 2);
}

#[tokio::test]
async fn what_was_written_is_in_the_file_itself_once_the_bookkeeping_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books.db");
    for _ in 0..20 {
        let options = BookkeepingOptions { create: true, ..BookkeepingOptions::default() };
        let bookkeeping = SqliteBookkeeping::open(&path, options).unwrap();
        let seen = bookkeeping.lease("relay").await.unwrap();
        bookkeeping.take("relay", &seen, "a", Duration::from_secs(1)).await.unwrap();
        drop(bookkeeping);
        assert!(!directory.path().join("books.db-wal").exists());
    }
}

#[tokio::test]
async fn a_read_only_file_is_an_error_that_names_the_missing_right() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books.db");
    let commits = commits(&path, OpenFlags::default(), "PRAGMA query_only = ON");
    let error = commits.write("storing a checkpoint", insert(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert!(error.to_string().contains("the right to write"), "{error}");
}

#[tokio::test]
async fn a_write_that_fails_halfway_takes_none_of_its_group_along() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books.db");
    let commits = commits(&path, OpenFlags::default(), "");
    let halfway = |connection: &Connection| -> Result<(), StoreError> {
        insert(10)(connection)?;
        Err(StoreError::new(ErrorKind::Invalid, "no"))
    };
    let (before, failed, after) = tokio::join!(
        commits.write("before", insert(10)),
        commits.write("halfway", halfway),
        commits.write("after", insert(10)),
    );
    before.unwrap();
    after.unwrap();
    assert_eq!(failed.unwrap_err().to_string(), "no");
    assert_eq!(rows(&path), 2);
}

#[tokio::test]
async fn a_write_whose_caller_went_away_is_done_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("books.db");
    let commits = commits(&path, OpenFlags::default(), "");
    {
        let mut write = Box::pin(commits.write("dropped", insert(10)));
        let _ = write.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    }
    commits.write("next", insert(10)).await.unwrap();
    assert_eq!(rows(&path), 2);
}

//! Waking at a commit.

use std::time::Duration;

use outbox::Source;
use outbox_sql::sqlite::{SqliteStore, StoreOptions};

use crate::fixture::{Fixture, read};

/// A poll that no test waits for.
const NEVER: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(60);

fn store(fixture: &Fixture) -> SqliteStore {
    SqliteStore::open(&fixture.path, StoreOptions { poll: NEVER, ..StoreOptions::default() }).unwrap()
}

#[tokio::test]
async fn a_commit_by_another_connection_wakes_a_waiting_relay() {
    let fixture = Fixture::new();
    let store = store(&fixture);
    for _ in 0..3 {
        fixture.write("a");
        tokio::time::timeout(PATIENCE, store.changed()).await.expect("the file change wakes");
    }
}

#[tokio::test]
async fn a_commit_is_found_even_if_the_relay_waits_before_it_takes_place() {
    let fixture = Fixture::new();
    let store = store(&fixture);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.changed().await }
    });
    tokio::task::yield_now().await;
    fixture.write("a");
    tokio::time::timeout(PATIENCE, waiting).await.expect("the file change wakes").unwrap();
    assert_eq!(read(&store, "0").await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn a_wake_up_in_process_needs_no_file_change() {
    let fixture = Fixture::new();
    let store = store(&fixture);
    let waker = store.waker();
    waker.clone().wake();
    tokio::time::timeout(PATIENCE, store.changed()).await.expect("the waker wakes");
}

#[tokio::test]
async fn reading_does_not_wake_the_reader_itself() {
    let fixture = Fixture::new();
    fixture.write("a");
    let store = store(&fixture);
    read(&store, "0").await.unwrap();
    // The writer's own notifications may still be under way; but they end.
    let mut wakes = 0;
    while tokio::time::timeout(Duration::from_millis(200), store.changed()).await.is_ok() {
        read(&store, "1").await.unwrap();
        wakes += 1;
        assert!(wakes < 20, "each read wakes the next one");
    }
}

#[tokio::test]
async fn other_files_in_the_directory_wake_nobody() {
    let fixture = Fixture::new();
    let store = store(&fixture);
    while tokio::time::timeout(Duration::from_millis(100), store.changed()).await.is_ok() {}
    std::fs::write(fixture.directory.path().join("bookkeeping.db-wal"), "other").unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), store.changed()).await.is_err());
}

//! Retention.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{
    BusinessStore, Position,
    store::{Claim, Purged, Retention},
};
use rusqlite::Connection;

use crate::fixture::{Fixture, read};

fn at(number: u64) -> Position {
    Position::new(number.to_string())
}

#[tokio::test]
async fn a_purge_removes_published_entries_in_batches_and_keeps_the_one_at_the_checkpoint() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(3, 1_200);
    let everything = Retention::Newest(0);
    assert_eq!(store.purge(&at(1_100), everything).await.unwrap(), Purged { entries: 500, more: true });
    assert_eq!(store.purge(&at(1_100), everything).await.unwrap(), Purged { entries: 500, more: true });
    assert_eq!(store.purge(&at(1_100), everything).await.unwrap(), Purged { entries: 99, more: false });
    assert_eq!(store.purge(&at(1_100), everything).await.unwrap(), Purged { entries: 0, more: false });
    assert_eq!(fixture.number("SELECT min(id) FROM outbox_entries"), 1_100);
    assert_eq!(read(&store, "1100").await.unwrap().records.len(), 100, "reading goes on behind the anchor");
}

#[tokio::test]
async fn nothing_is_purged_that_a_route_is_not_past_or_when_retention_is_off() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 10);
    for (passed, retention) in [
        (0, Retention::Newest(0)),
        (1, Retention::Newest(0)),
        (10, Retention::Off),
        (10, Retention::Newest(10)),
        (10, Retention::Newest(u64::MAX)),
        (10, Retention::Before(Timestamp::UNIX_EPOCH)),
    ] {
        assert_eq!(store.purge(&at(passed), retention).await.unwrap(), Purged::default(), "{passed} {retention:?}");
    }
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 10);
}

#[tokio::test]
async fn the_newest_published_entries_stay() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 20);
    store.purge(&at(15), Retention::Newest(4)).await.unwrap();
    assert_eq!(fixture.number("SELECT min(id) FROM outbox_entries"), 12);
}

#[tokio::test]
async fn entries_are_purged_by_age() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 20);
    fixture.sql("UPDATE outbox_entries SET recorded_at = id * 1000");
    let purged = store.purge(&at(20), Retention::Before(Timestamp::from_second(8).unwrap())).await.unwrap();
    assert_eq!(purged, Purged { entries: 7, more: false });
}

#[tokio::test]
async fn heads_survive_a_purge_so_that_numbers_go_on() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 5);
    store.purge(&at(5), Retention::Newest(0)).await.unwrap();
    fixture.write("order/0");
    let page = read(&store, "5").await.unwrap();
    assert_eq!(page.records[0].events()[0].id(), "order/0@1.6.0");
}

#[tokio::test]
async fn large_entries_are_purged_a_few_at_a_time() {
    let (fixture, store) = Fixture::new_store();
    for _ in 0..10 {
        fixture.sql("INSERT INTO outbox (key, type, data) VALUES ('a', 't', zeroblob(1000000))");
    }
    let purged = store.purge(&at(10), Retention::Newest(0)).await.unwrap();
    assert!(purged.entries < 9 && purged.more, "{purged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_gives_way_to_a_writer_that_holds_the_lock() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 10);
    fixture.sql("BEGIN IMMEDIATE");
    let begun = tokio::time::Instant::now();
    let purged = store.purge(&at(10), Retention::Newest(0)).await.unwrap();
    assert_eq!(purged, Purged { entries: 0, more: true });
    assert!(begun.elapsed() < Duration::from_secs(2), "it does not wait in the queue");
    fixture.sql("COMMIT");
    assert_eq!(store.purge(&at(10), Retention::Newest(0)).await.unwrap().entries, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_never_blocks_a_writer_for_long() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(50, 20_000);
    let path = fixture.path.clone();
    let writer = std::thread::spawn(move || {
        let connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        // Far less than purging 20,000 entries in one transaction takes on a slow disk.
        connection.busy_timeout(Duration::from_secs(1)).unwrap();
        for _ in 0..300 {
            crate::fixture::write(&connection, "written/meanwhile");
        }
    });
    loop {
        let purged = store.purge(&at(20_000), Retention::Newest(0)).await.unwrap();
        if !purged.more {
            break;
        }
    }
    writer.join().expect("no write waited for longer than a second");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 301);
}

#[tokio::test]
async fn a_relay_that_was_overtaken_purges_nothing() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 10);
    let claim = |epoch: u64| Claim { bookkeeping: "books".to_owned(), epoch, nonce: epoch.to_string() };
    store.claim(&claim(1), None).await.unwrap();
    fixture.store().claim(&claim(2), Some(&claim(1))).await.unwrap();
    let error = store.purge(&at(10), Retention::Newest(0)).await.unwrap_err();
    assert_eq!(error.kind(), outbox::ErrorKind::Fenced);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 10);
}

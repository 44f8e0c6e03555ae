//! Reading pages.

use std::time::Duration;

use outbox::{CommitId, KeyOrder, Place, Position, Source, source::Limit};
use rusqlite::Connection;

use crate::fixture::{Fixture, PLENTY, entries, events, positions, read, write};

#[tokio::test]
async fn entries_are_read_in_the_order_of_their_commits() {
    let fixture = Fixture::new();
    for key in ["a", "b", "a"] {
        fixture.write(key);
    }
    let store = fixture.store();
    let page = read(&store, "0").await.unwrap();
    assert_eq!(positions(&page), ["1", "2", "3"]);
    assert_eq!((page.next.as_str(), page.more, page.end), ("3", false, false));
    let events = events(&page);
    assert_eq!(events.iter().map(outbox::Event::id).collect::<Vec<_>>(), ["a@1.1.0", "b@1.1.0", "a@1.2.0"]);
    assert_eq!(events[2].placing().unwrap().after, Place::new(1, 1, 0));
    assert_eq!(events[0].data().unwrap(), r#"{"units":3}"#);
    assert_eq!((events[0].source(), events[0].kind()), ("/orders", "order.placed"));
    assert_ne!(page.records[0].commit, CommitId([0; 16]));
    assert_eq!(events[0].time(), Some(page.records[0].recorded));
    assert_eq!(store.key_order(), KeyOrder::Promised);
}

#[tokio::test]
async fn reading_goes_on_behind_the_last_position() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fixture.write_many(3, 5);
    let first = read(&store, "0").await.unwrap();
    let nothing = read(&store, first.next.as_str()).await.unwrap();
    assert_eq!((nothing.records.len(), nothing.next.as_str(), nothing.more), (0, "5", false));
    fixture.write("a");
    assert_eq!(positions(&read(&store, "5").await.unwrap()), ["6"]);
    assert_eq!(positions(&read(&store, "3").await.unwrap()), ["4", "5", "6"], "the same position reads the same again");
}

#[tokio::test]
async fn a_page_keeps_within_its_events_and_says_that_there_is_more() {
    let fixture = Fixture::new();
    fixture.write_many(1, 5);
    let store = fixture.store();
    let limit = Limit { events: 2, bytes: usize::MAX };
    let page = store.read(&entries(), &Position::new("0"), limit).await.unwrap();
    assert_eq!((positions(&page), page.more), (vec!["1".to_owned(), "2".to_owned()], true));
    let last = store.read(&entries(), &Position::new("3"), limit).await.unwrap();
    assert_eq!((last.records.len(), last.more), (2, false));
}

#[tokio::test]
async fn a_page_keeps_within_its_bytes_but_gives_one_record_whatever_its_size() {
    let fixture = Fixture::new();
    for _ in 0..3 {
        let data = "x".repeat(10_000);
        fixture.writer.execute("INSERT INTO outbox (key, type, data) VALUES ('a', 't', ?1)", [data]).unwrap();
    }
    let store = fixture.store();
    let two = Limit { events: 100, bytes: 21_000 };
    let page = store.read(&entries(), &Position::new("0"), two).await.unwrap();
    assert_eq!((page.records.len(), page.more), (2, true));
    let tiny = store.read(&entries(), &Position::new("0"), Limit { events: 0, bytes: 0 }).await.unwrap();
    assert_eq!((tiny.records.len(), tiny.more), (1, true));
}

#[tokio::test]
async fn an_entry_of_several_events_counts_for_as_many() {
    let fixture = Fixture::new();
    fixture.write("a");
    fixture.sql(r#"INSERT INTO outbox (key, type, data, more) VALUES ('a', 't', '1', '[{"type":"u"},{"type":"v"}]')"#);
    let store = fixture.store();
    let page = store.read(&entries(), &Position::new("0"), Limit { events: 3, bytes: 1 << 20 }).await.unwrap();
    assert_eq!((page.records.len(), page.more), (1, true));
    let page = read(&store, "1").await.unwrap();
    let placings: Vec<_> = events(&page).iter().map(|event| *event.placing().unwrap()).collect();
    assert_eq!(
        placings.iter().map(|placing| placing.place.to_string()).collect::<Vec<_>>(),
        ["1.2.0", "1.2.1", "1.2.2"]
    );
    assert_eq!(
        placings.iter().map(|placing| placing.after.to_string()).collect::<Vec<_>>(),
        ["1.1.0", "1.2.0", "1.2.1"]
    );
    assert!(placings.iter().all(|placing| placing.count == 3));
}

#[tokio::test]
async fn nothing_uncommitted_is_read() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fixture.sql("BEGIN");
    fixture.write("a");
    assert!(read(&store, "0").await.unwrap().records.is_empty());
    fixture.sql("ROLLBACK");
    assert!(read(&store, "0").await.unwrap().records.is_empty());
    fixture.write("b");
    assert_eq!(events(&read(&store, "0").await.unwrap())[0].id(), "b@1.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_skipped_under_concurrent_writers() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let path = fixture.path.clone();
            std::thread::spawn(move || {
                let connection = Connection::open(path).unwrap();
                connection.busy_timeout(Duration::from_secs(30)).unwrap();
                connection.pragma_update(None, "synchronous", "OFF").unwrap();
                for number in 0..100 {
                    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                    write(&connection, &format!("order/{writer}"));
                    write(&connection, "order/shared");
                    connection.execute_batch(if number % 5 == 0 { "ROLLBACK" } else { "COMMIT" }).unwrap();
                }
            })
        })
        .collect();
    let (mut after, mut seen) = (Position::new("0"), Vec::new());
    loop {
        let done = writers.iter().all(std::thread::JoinHandle::is_finished);
        let page = store.read(&entries(), &after, Limit { events: 7, ..PLENTY }).await.unwrap();
        seen.extend(events(&page));
        after = page.next;
        if done && page.records.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 4 * 80 * 2);
    for key in ["order/0", "order/1", "order/2", "order/3", "order/shared"] {
        let of_key = seen.iter().filter(|event| event.key().unwrap().as_str() == key);
        let sequences: Vec<_> = of_key.map(|event| event.placing().unwrap().place.sequence).collect();
        let expected: Vec<_> = (1..=sequences.len() as u64).collect();
        assert_eq!(sequences, expected, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leading_and_the_trailing_reader_do_not_wait_for_each_other() {
    let fixture = Fixture::new();
    fixture.write_many(10, 2_000);
    let store = fixture.store();
    let limit = Limit { events: 100, ..PLENTY };
    let read_all = |store: outbox_sql::sqlite::SqliteStore| async move {
        let (mut after, mut count) = (Position::new("0"), 0);
        loop {
            let page = store.read(&entries(), &after, limit).await.unwrap();
            count += page.records.len();
            after = page.next;
            if !page.more {
                return count;
            }
        }
    };
    let (leading, trailing) = tokio::join!(read_all(store.clone()), read_all(store.clone()));
    assert_eq!((leading, trailing), (2_000, 2_000));
}

#[tokio::test]
async fn an_id_is_never_given_again_after_everything_was_purged() {
    let fixture = Fixture::new();
    fixture.write_many(1, 3);
    fixture.sql("DELETE FROM outbox_entries");
    fixture.write("a");
    let page = read(&fixture.store(), "0").await.unwrap();
    assert_eq!(positions(&page), ["4"]);
}

#[tokio::test]
async fn the_backlog_is_told_with_the_age_of_its_oldest_entry() {
    let fixture = Fixture::new();
    fixture.write_many(2, 10);
    let store = fixture.store();
    let first = read(&store, "0").await.unwrap();
    let backlog = store.backlog(&entries(), &Position::new("4")).await.unwrap();
    assert_eq!((backlog.entries, backlog.exact), (6, false));
    assert_eq!(backlog.oldest, Some(first.records[4].recorded));
    let none = store.backlog(&entries(), &Position::new("10")).await.unwrap();
    assert_eq!((none.entries, none.exact, none.oldest), (0, true, None));
}

#[tokio::test]
async fn positions_are_ordered_as_numbers() {
    let store = Fixture::new().store();
    let order = |left, right| store.order(&Position::new(left), &Position::new(right));
    assert!(order("9", "10").is_lt() && order("10", "9").is_gt() && order("7", "7").is_eq() && order("0", "1").is_lt());
}

#[tokio::test]
async fn a_position_of_another_kind_of_source_is_refused() {
    let fixture = Fixture::new();
    for foreign in ["", "shardId-000", "-1", "+1", "1.5", "99999999999999999999"] {
        let error = read(&fixture.store(), foreign).await.unwrap_err();
        assert_eq!(error.kind(), outbox::ErrorKind::Invalid, "{foreign}: {error}");
    }
}

//! Where routes start, what cannot be read as an entry, and when to look.

use std::time::Duration;

use outbox::{Content, Source, Start};
use outbox_sql::postgres::{PostgresStore, StoreOptions};

use crate::{
    fixture::Service,
    reader::{Reader, partition, registration},
};

#[tokio::test]
async fn a_start_now_still_reads_what_is_in_progress() {
    let service = Service::new().await;
    let (open, other) = (service.session().await, service.session().await);
    other.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't')").await.unwrap();
    other.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    let mut reader = Reader::starting(service.store().await, Start::Now).await;
    open.batch_execute("COMMIT").await.unwrap();
    other.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    reader.read_all().await;
    assert_eq!(reader.came(), ["late@1.1.0", "a@1.3.0"]);
}

#[tokio::test]
async fn a_start_at_a_time_reads_from_then_on_and_what_commits_late() {
    let service = Service::new().await;
    let (open, other) = (service.session().await, service.session().await);
    let write = async |key: &str, time: &str| {
        let sql = format!("SELECT outbox.write('{key}', 't', recorded_at => '2026-11-21 {time}Z')");
        other.batch_execute(&sql).await.unwrap();
    };
    write("a", "08:00").await;
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't', recorded_at => '2026-11-21 08:01Z')").await.unwrap();
    write("a", "09:00").await;
    // A clock that was set back for a while.
    write("b", "08:59").await;
    write("a", "10:00").await;
    let start = Start::Time("2026-11-21T08:59:30Z".parse().unwrap());
    let mut reader = Reader::starting(service.store().await, start).await;
    open.batch_execute("COMMIT").await.unwrap();
    reader.read_all().await;
    assert_eq!(reader.came(), ["a@1.2.0", "b@1.1.0", "a@1.3.0", "late@1.1.0"]);
}

#[tokio::test]
async fn a_row_of_rubbish_is_set_aside_and_the_rest_goes_on() {
    let service = Service::new().await;
    let client = service.session().await;
    let rubbish = [
        "(type, count) VALUES ('t', 0)",
        "(type, count) VALUES ('t', 2147483647)",
        "(type, count) VALUES ('t', -2147483648)",
        "(type, attributes) VALUES ('t', '[1]')",
        "(type, data, data_bytes) VALUES ('t', '1', '1')",
        "(type, key, sequence, incarnation, after) VALUES ('t', 'k', 7, 1, 'x')",
        "(type, key) VALUES ('t', 'unplaced')",
        "(type, recorded_at) VALUES ('t', 'infinity')",
        "(type, more) VALUES ('t', 'no json')",
        "(type, event_id) VALUES (E'\\x01', 'control')",
    ];
    client.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    for row in rubbish {
        client.batch_execute(&format!("INSERT INTO outbox.entries {row}")).await.unwrap();
    }
    client.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    let mut reader = Reader::new(service.store().await).await;
    reader.read_all().await;
    assert_eq!(reader.records.len(), 2 + rubbish.len());
    let names = reader.came();
    assert_eq!((names.first().unwrap().as_str(), names.last().unwrap().as_str()), ("a@1.1.0", "a@1.2.0"));
    for (record, row) in reader.records[1..].iter().zip(rubbish) {
        let Content::Undecodable(found) = &record.content else { panic!("{row} was read as an entry") };
        assert!(found.reason.contains("of outbox.entries: `"), "{}", found.reason);
        serde_json::from_slice::<serde_json::Value>(&found.raw).expect("the row is shown as JSON");
    }
}

#[tokio::test]
async fn all_of_an_event_comes_out_as_it_was_written() {
    let service = Service::new().await;
    let client = service.session().await;
    client
        .batch_execute(
            "SELECT outbox.write('a', 'order.placed', '{\"units\": 3}'::text, 'application/json', 'own id', \
             '{\"subject\": \"s\", \"tenant\": \"north\", \"n\": 7}'); \
             SELECT outbox.write(NULL, 'scan', '\\x00ff'::bytea, 'image/png')",
        )
        .await
        .unwrap();
    let mut reader = Reader::new(service.store().await).await;
    reader.read_all().await;
    let (first, second) = (&reader.records[0].events()[0], &reader.records[1].events()[0]);
    assert_eq!((first.id(), first.source(), first.subject()), ("own id", "/orders", Some("s")));
    assert_eq!(first.data().map(|data| &data[..]), Some(&b"{\"units\": 3}"[..]));
    assert_eq!(second.data().map(|data| &data[..]), Some(&b"\x00\xff"[..]));
    assert!(second.key().is_none() && second.placing().is_none());
}

#[tokio::test]
async fn large_entries_do_not_come_all_at_once() {
    let service = Service::new().await;
    let client = service.session().await;
    for _ in 0..8 {
        client.batch_execute("SELECT outbox.write('a', 't', repeat('x', 1000000), 'text/plain')").await.unwrap();
    }
    let mut reader = Reader::new(service.store().await).await;
    let limit = outbox::source::Limit { events: 1_000, bytes: 3 << 20 };
    assert_eq!(reader.read(limit).await.unwrap(), 3);
    while reader.read(limit).await.unwrap() > 0 {}
    reader.assert_exact();
    assert_eq!(reader.records.len(), 8);
}

#[tokio::test]
async fn a_notification_wakes_though_the_next_look_is_far() {
    let service = Service::new().await;
    let client = service.session().await;
    client.batch_execute("UPDATE outbox.meta SET notify = true").await.unwrap();
    let settings =
        StoreOptions { poll: Duration::from_secs(3600), listen: Some(service.options()), ..StoreOptions::default() };
    let store = PostgresStore::open(service.options(), settings).await.unwrap();
    // The first wake-up says that it listens.
    tokio::time::timeout(Duration::from_secs(30), store.changed()).await.expect("it listens");
    while tokio::time::timeout(Duration::from_millis(200), store.changed()).await.is_ok() {}
    client.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), store.changed()).await.expect("it was told");
}

#[tokio::test]
async fn a_replay_comes_to_where_its_route_stood_exactly() {
    let service = Service::new().await;
    let (open, other) = (service.session().await, service.session().await);
    let mut reader = Reader::new(service.store().await).await;
    other.batch_execute("SELECT outbox.write('a', 't'); SELECT outbox.write('b', 't')").await.unwrap();
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't')").await.unwrap();
    reader.read_all().await;
    for _ in 0..4 {
        other.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    }
    // In the middle of the second range.
    reader.read(outbox::source::Limit { events: 2, bytes: 1 << 20 }).await.unwrap();
    open.batch_execute("COMMIT").await.unwrap();
    other.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    let end = reader.position.clone();
    let store = service.store().await;
    let start = store.start(&partition(), &registration(Start::Beginning)).await.unwrap();
    let mut replay = Reader { position: store.leading_to(&start, &end), store, records: Vec::new() };
    // So a relay reads to an end.
    while replay.store.order(&replay.position, &end).is_lt() {
        replay.read(outbox::source::Limit { events: 3, bytes: 1 << 20 }).await.unwrap();
    }
    replay.records.retain(|record| replay.store.order(&record.position, &end).is_le());
    assert_eq!(replay.came(), reader.came(), "what the route had read, and nothing else");
}

#[tokio::test]
async fn a_backlog_on_both_sides_of_a_leap_of_the_ids_is_measured_and_read_without_going_through_it() {
    let service = Service::new().await;
    let client = service.session().await;
    let write = "SELECT outbox.write('k' || n % 7, 't') FROM generate_series(1, 5000) AS n";
    client.batch_execute(write).await.unwrap();
    client.batch_execute("SELECT setval('outbox.entry_ids', 1::bigint << 40)").await.unwrap();
    client.batch_execute(write).await.unwrap();
    let mut reader = Reader::new(service.store().await).await;
    let backlog = reader.store.backlog(&partition(), &reader.position).await.unwrap();
    assert!(!backlog.exact && backlog.entries == 10_000, "{backlog:?}");
    tokio::time::timeout(Duration::from_secs(60), reader.read_all()).await.expect("it does not walk 2^40 ids");
    assert_eq!(reader.records.len(), 10_000);
    reader.assert_exact();
}

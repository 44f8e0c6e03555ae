//! What commits late, in every way there is, is read, once, in its key's order.

use bytes::Bytes;
use futures_util::SinkExt;
use outbox::Source as _;

use crate::{
    fixture::Service,
    reader::{PLENTY, Reader, partition},
};

/// The number that the next transaction gets, if no other comes before it.
async fn next_transaction(client: &tokio_postgres::Client) -> u64 {
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
    client.query_one(sql, &[]).await.unwrap().get::<_, String>(0).parse().unwrap()
}

/// What is read before and after `later` has committed.
async fn read_around(service: &Service, before: &str, meanwhile: &str, later: &str) -> (Vec<String>, Vec<String>) {
    let (open, other) = (service.session().await, service.session().await);
    let mut reader = Reader::new(service.store().await).await;
    open.batch_execute(before).await.unwrap();
    other.batch_execute(meanwhile).await.unwrap();
    reader.read_all().await;
    let first = reader.came();
    open.batch_execute(later).await.unwrap();
    reader.read_all().await;
    reader.assert_exact();
    let second = reader.came().split_off(first.len());
    (first, second)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn an_open_transaction_delays_only_its_own_entries() {
    let service = Service::new().await;
    let (first, second) = read_around(
        &service,
        "BEGIN; SELECT outbox.write('late', 't')",
        "SELECT outbox.write('a', 't'); SELECT outbox.write('b', 't'); SELECT outbox.write('a', 't')",
        "SELECT outbox.write('late', 't'); COMMIT",
    )
    .await;
    assert_eq!(first, names(&["a@1.1.0", "b@1.1.0", "a@1.2.0"]));
    assert_eq!(second, names(&["late@1.1.0", "late@1.2.0"]));
}

#[tokio::test]
async fn an_id_drawn_before_its_transaction_has_a_number_is_not_passed() {
    let service = Service::new().await;
    // The session's next id is drawn while it has no transaction number yet, and is used much later.
    let (first, second) = read_around(
        &service,
        "BEGIN; SELECT nextval('outbox.entry_ids')",
        "SELECT outbox.write('a', 't')",
        "INSERT INTO outbox.entries (id, type, event_id) OVERRIDING SYSTEM VALUE VALUES (1, 't', 'early id'); COMMIT",
    )
    .await;
    assert_eq!((first, second), (names(&["a@1.1.0"]), names(&["early id"])));
}

#[tokio::test]
async fn an_id_drawn_in_an_earlier_transaction_is_not_passed() {
    let service = Service::new().await;
    let (first, second) = read_around(
        &service,
        "SELECT nextval('outbox.entry_ids')",
        "SELECT outbox.write('a', 't'); SELECT outbox.write('a', 't')",
        "INSERT INTO outbox.entries (id, type, event_id) OVERRIDING SYSTEM VALUE VALUES (1, 't', 'pooled id')",
    )
    .await;
    assert_eq!((first, second), (names(&["a@1.1.0", "a@1.2.0"]), names(&["pooled id"])));
}

#[tokio::test]
async fn entries_of_savepoints_belong_to_their_transaction() {
    let service = Service::new().await;
    let (first, second) = read_around(
        &service,
        "BEGIN; SAVEPOINT one; SELECT outbox.write('late', 't', event_id => 'gone'); ROLLBACK TO one; \
         SELECT outbox.write('late', 't'); SAVEPOINT two; SELECT outbox.write('late', 't'); RELEASE two",
        "SELECT outbox.write('a', 't')",
        "SAVEPOINT three; SELECT outbox.write('late', 't'); COMMIT",
    )
    .await;
    assert_eq!(first, names(&["a@1.1.0"]));
    assert_eq!(second, names(&["late@1.1.0", "late@1.2.0", "late@1.3.0"]));
}

#[tokio::test]
async fn a_prepared_transaction_is_read_once_it_is_committed() {
    let service = Service::new().await;
    let gid = format!("late_{}", std::process::id());
    let (first, second) = read_around(
        &service,
        &format!("BEGIN; SELECT outbox.write('late', 't'); PREPARE TRANSACTION '{gid}'"),
        "SELECT outbox.write('a', 't'); SELECT outbox.write('b', 't')",
        &format!("COMMIT PREPARED '{gid}'"),
    )
    .await;
    assert_eq!((first, second), (names(&["a@1.1.0", "b@1.1.0"]), names(&["late@1.1.0"])));
}

#[tokio::test]
async fn what_was_rolled_back_is_never_read_and_leaves_no_hole() {
    let service = Service::new().await;
    let (first, second) = read_around(
        &service,
        "BEGIN; SELECT outbox.write('a', 't'); SELECT outbox.write('gone', 't')",
        "SELECT outbox.write('b', 't')",
        "ROLLBACK; SELECT outbox.write('a', 't')",
    )
    .await;
    assert_eq!((first, second), (names(&["b@1.1.0"]), names(&["a@1.1.0"])));
}

#[tokio::test]
async fn rows_of_copy_are_read_like_others() {
    let service = Service::new().await;
    let client = service.session().await;
    let mut reader = Reader::new(service.store().await).await;
    let rows = client.copy_in::<_, Bytes>("COPY outbox.entries (type, event_id) FROM STDIN").await.unwrap();
    let mut rows = std::pin::pin!(rows);
    rows.send(Bytes::from_static(b"t\tone\nt\ttwo\n")).await.unwrap();
    reader.read_all().await;
    assert_eq!(reader.came(), Vec::<String>::new(), "it is not committed");
    rows.finish().await.unwrap();
    reader.read_all().await;
    assert_eq!(reader.came(), ["one", "two"]);
}

#[tokio::test]
async fn pages_of_a_range_go_on_in_it_whatever_commits_meanwhile() {
    let service = Service::new().await;
    let (open, other) = (service.session().await, service.session().await);
    let mut reader = Reader::new(service.store().await).await;
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't')").await.unwrap();
    for _ in 0..5 {
        other.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    }
    let two = outbox::source::Limit { events: 2, ..PLENTY };
    assert_eq!(reader.read(two).await.unwrap(), 2);
    open.batch_execute("COMMIT").await.unwrap();
    other.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    while reader.read(two).await.unwrap() > 0 {}
    reader.assert_exact();
    let came = reader.came();
    assert_eq!(came[..5], ["a@1.1.0", "a@1.2.0", "a@1.3.0", "a@1.4.0", "a@1.5.0"], "the range first");
    assert_eq!(came[5..], ["late@1.1.0", "a@1.6.0"]);
}

#[tokio::test]
async fn of_many_transactions_in_a_row_that_were_not_read_none_is_passed_whatever_its_ids() {
    let service = Service::new().await;
    let client = service.session().await;
    client.batch_execute("SELECT nextval('outbox.entry_ids')").await.unwrap();
    let first = next_transaction(&client).await;
    client.batch_execute("INSERT INTO outbox.entries (type) SELECT 't' FROM generate_series(1, 5000)").await.unwrap();
    let low = "INSERT INTO outbox.entries (id, type, event_id) OVERRIDING SYSTEM VALUE VALUES (1, 't', 'low id')";
    client.batch_execute(low).await.unwrap();
    client.batch_execute("SELECT pg_current_xact_id(); SELECT outbox.write('a', 't')").await.unwrap();
    let end = next_transaction(&client).await;
    let mut reader = Reader::new(service.store().await).await;
    // As behind a commit that came in the log ahead of all of these.
    reader.position = outbox::Position::new(format!("@{end}-1*{}/0/0", end - first));
    reader.read_all().await;
    assert_eq!(reader.records.len(), 5_002);
    assert!(reader.came().contains(&"low id".to_owned()));
}

#[tokio::test]
async fn what_many_thousands_of_transactions_in_a_row_wrote_that_were_not_read_is_found_by_their_range() {
    const IDLE: &str = "DO $$ BEGIN FOR one IN 1..5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
    let service = Service::new().await;
    let client = service.session().await;
    let first = next_transaction(&client).await;
    client.batch_execute(IDLE).await.unwrap();
    client.batch_execute("INSERT INTO outbox.entries (type) SELECT 't' FROM generate_series(1, 5000)").await.unwrap();
    let end = next_transaction(&client).await;
    let wide = outbox::Position::new(format!("@{end}-1*{}/0/0", end - first));
    let mut reader = Reader::new(service.store().await).await;
    let backlog = reader.store.backlog(&partition(), &wide).await.unwrap();
    assert_eq!((backlog.entries, backlog.exact), (5_000, true));
    reader.position = wide.clone();
    reader.read_all().await;
    assert_eq!(reader.records.len(), 5_000);
    // Of few rows far apart each is looked for by itself.
    client.batch_execute("DELETE FROM outbox.entries WHERE id > 5 AND id < 4990").await.unwrap();
    let mut reader = Reader { position: wide, ..Reader::new(service.store().await).await };
    reader.read_all().await;
    assert_eq!(reader.records.len(), 16);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_range_goes_on_in_it() {
    let service = Service::new().await;
    let (open, other) = (service.session().await, service.session().await);
    let mut reader = Reader::new(service.store().await).await;
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't')").await.unwrap();
    for _ in 0..9 {
        other.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    }
    reader.read(outbox::source::Limit { events: 4, ..PLENTY }).await.unwrap();
    open.batch_execute("COMMIT").await.unwrap();
    // Another process has nothing but the position.
    reader.store = service.store().await;
    reader.read_all().await;
    reader.assert_exact();
    assert_eq!(reader.records.len(), 10);
}

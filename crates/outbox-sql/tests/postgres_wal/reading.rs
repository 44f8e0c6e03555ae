//! What comes of the log, whatever writers do.

use outbox::{PartitionId, Source as _, source::Limit};
use outbox_sql::postgres::Writer;

use crate::fixture::{Fixture, Route, event, write};

#[tokio::test(flavor = "multi_thread")]
async fn commits_come_one_by_one_as_they_are_made() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let mut route = Route::new();
    for number in 1..=20 {
        service.write(&format!("key{number}")).await;
        route.until(&source, number).await;
    }
    route.is_exact(20);
    assert_eq!(source.status().polling, None, "they came from the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_to_a_savepoint_or_wholly_never_comes() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let mut client = service.database.session().await;
    let transaction = client.transaction().await.unwrap();
    Writer::new().write_all(&transaction, vec![event("gone")]).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    Writer::new().write_all(&transaction, vec![event("kept")]).await.unwrap();
    let savepoint = transaction.savepoint("one").await.unwrap();
    Writer::new().write_all(&savepoint, vec![event("gone")]).await.unwrap();
    savepoint.rollback().await.unwrap();
    let savepoint = transaction.savepoint("two").await.unwrap();
    Writer::new().write_all(&savepoint, vec![event("kept too")]).await.unwrap();
    savepoint.commit().await.unwrap();
    transaction.commit().await.unwrap();
    let mut route = Route::new();
    route.until(&source, 2).await;
    route.finish(&source).await;
    assert_eq!(route.keys(), ["kept", "kept too"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_comes_once_it_is_committed() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let client = service.database.session().await;
    client
        .batch_execute("BEGIN; SELECT outbox.write('prepared', 't', '1'::json); PREPARE TRANSACTION 'wal_kept'")
        .await
        .unwrap();
    client
        .batch_execute("BEGIN; SELECT outbox.write('gone', 't', '1'::json); PREPARE TRANSACTION 'wal_gone'")
        .await
        .unwrap();
    service.write("between").await;
    let mut route = Route::new();
    route.until(&source, 1).await;
    client.batch_execute("ROLLBACK PREPARED 'wal_gone'").await.unwrap();
    client.batch_execute("COMMIT PREPARED 'wal_kept'").await.unwrap();
    route.until(&source, 2).await;
    route.finish(&source).await;
    assert_eq!(route.keys(), ["between", "prepared"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_copied_in_and_ids_drawn_early_come_in_the_order_of_their_commits() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    // As an ORM does that keeps ids in stock.
    service.sql("SELECT nextval('outbox.entry_ids') FROM generate_series(1, 10)").await;
    service.write("later id").await;
    service
        .sql("INSERT INTO outbox.entries (id, type) OVERRIDING SYSTEM VALUE VALUES (5, 'early'), (3, 'earlier')")
        .await;
    service
        .sql("COPY outbox.entries (type, event_id) FROM PROGRAM 'for i in $(seq 300); do printf \"copied\\\\tid$i\\\\n\"; done'")
        .await;
    let mut route = Route::new();
    route.until(&source, 303).await;
    route.finish(&source).await;
    let kinds: Vec<_> = route.events.iter().map(outbox::Event::kind).collect();
    assert_eq!(kinds[..3], ["order.placed", "early", "earlier"]);
    assert!(kinds[3..].iter().all(|kind| *kind == "copied"));
    route.is_exact(303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_comes_page_by_page_and_holds_up_no_one_behind_it() {
    const EVENTS: usize = 30_000;
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let sql = format!(
        "INSERT INTO outbox.entries (type, event_id, data) SELECT 'large', n::text, repeat('x', 500) FROM generate_series(1, {EVENTS}) AS n"
    );
    service.sql(&sql).await;
    service.write("behind").await;
    let mut route = Route::new();
    route.page = Limit { events: 1_000, bytes: 1 << 20 };
    route.until(&source, EVENTS + 1).await;
    route.is_exact(EVENTS + 1);
    let numbers: Vec<usize> = route.events[..EVENTS].iter().map(|event| event.id().parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=EVENTS), "in its order");
    assert_eq!(route.keys()[EVENTS], "behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_rubbish_is_set_aside_and_the_rest_goes_on() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    service.sql("INSERT INTO outbox.entries (type, count, more) VALUES ('t', 2, '{')").await;
    service.write("fine").await;
    let partition = PartitionId::new("entries");
    let mut records = Vec::new();
    let mut position = outbox::Position::new("@0/0/0");
    while records.len() < 2 {
        let page = source.read(&partition, &position, Limit { events: 10, bytes: 1 << 20 }).await.unwrap();
        records.extend(page.records);
        position = page.next;
    }
    assert!(matches!(&records[0].content, outbox::Content::Undecodable(row) if row.reason.contains("more")));
    assert_eq!(records[1].events()[0].key().map(outbox::Key::as_str), Some("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_falls_behind_goes_on_in_the_table_and_comes_back() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let (mut quick, mut slow) = (Route::new(), Route::new());
    slow.page = Limit { events: 7, bytes: 1 << 20 };
    let mut client = service.database.session().await;
    for round in 1..=5 {
        let sql = "INSERT INTO outbox.entries (type, event_id, data) SELECT 't', gen_random_uuid()::text, repeat('x', 2000) FROM generate_series(1, 2000)";
        client.batch_execute(sql).await.unwrap();
        write(&mut client, &["a", "b"]).await;
        quick.until(&source, round * 2_002).await;
        slow.until(&source, round * 500).await;
    }
    slow.page = Limit { events: 500, bytes: 1 << 20 };
    slow.until(&source, 5 * 2_002).await;
    service.write("both").await;
    for route in [&mut quick, &mut slow] {
        route.until(&source, 5 * 2_002 + 1).await;
        route.finish(&source).await;
        route.is_exact(5 * 2_002 + 1);
    }
    assert_eq!(slow.position, quick.position, "they stand at the same place again");
    assert_eq!(source.status().polling, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_names_no_transaction_behind_that_of_the_latest_entry() {
    let service = Fixture::new().await;
    service.write("a").await;
    let latest = service.text("SELECT max(xid::text::bigint) FROM outbox.entries").await.unwrap();
    // A standby that takes over without these gives their numbers again.
    for _ in 0..5 {
        service.sql("SELECT pg_current_xact_id()").await;
    }
    let source = service.streaming().await;
    let mut route = Route::new();
    route.until(&source, 1).await;
    route.finish(&source).await;
    let (_, passed) = route.position.as_str().split_once('@').unwrap();
    let end = passed.split(['-', '>', '~', '/']).next().unwrap();
    assert_eq!(end.parse(), latest.parse::<u64>().map(|latest| latest + 1), "{}", route.position);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_gave_is_no_backlog_though_nothing_came_behind_it() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    write(&mut service.database.session().await, &["a", "b", "c"]).await;
    let mut route = Route::new();
    route.page = Limit { events: 1, bytes: 1 << 20 };
    for read in 1..=3 {
        route.until(&source, read).await;
        assert!(route.position.as_str().contains('~'), "it came of the log: {}", route.position);
        let backlog = source.backlog(&PartitionId::new("entries"), &route.position).await.unwrap();
        assert_eq!(backlog.entries, 3 - read as u64);
    }
}

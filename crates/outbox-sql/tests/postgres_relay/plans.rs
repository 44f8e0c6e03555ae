//! The statements use the index that is meant for them, whatever the server believes of the table.

use std::time::Duration;

use outbox::Source;
use tokio_postgres::Client;

use crate::{
    fixture::Service,
    reader::{PLENTY, Reader, partition},
};

/// Nobody analyzes the table behind the test's back.
const QUIET: &str = "ALTER TABLE outbox.entries_1 SET (autovacuum_enabled = off)";

/// Rows that were touched so far: by going through whole tables, and by each of the two indexes.
async fn touched(client: &Client) -> (i64, i64, i64) {
    let sql = "SELECT pg_stat_force_next_flush(), \
        (SELECT sum(coalesce(seq_tup_read, 0))::bigint FROM pg_stat_user_tables WHERE relname ~ '^entries_'), \
        (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE indexrelname ~ '_pkey$' AND relname ~ '^entries_'), \
        (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE indexrelname ~ 'xid' AND relname ~ '^entries_')";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(1), row.get(2), row.get(3))
}

async fn sessions(client: &Client) -> i64 {
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Ends all that `reader` has open, and waits until only so many sessions are left: each tells at its end what it has touched.
async fn end_sessions(service: &Service, client: &Client, reader: &mut Reader, left: i64) {
    drop(std::mem::replace(&mut reader.store, service.store().await));
    let wait = async {
        while sessions(client).await > left {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the sessions end");
}

/// What `reader` touches when it reads so many pages, where `left` sessions are not its own.
async fn touched_by(service: &Service, client: &Client, reader: &mut Reader, left: i64, pages: usize) -> i64 {
    end_sessions(service, client, reader, left).await;
    let before = touched(client).await;
    for _ in 0..pages {
        reader.read(PLENTY).await.unwrap();
    }
    end_sessions(service, client, reader, left).await;
    let after = touched(client).await;
    (after.0 - before.0) + (after.1 - before.1) + (after.2 - before.2)
}

async fn fill(client: &Client, rows: usize) {
    let sql =
        format!("INSERT INTO outbox.entries (type, data) SELECT 't', repeat('x', 100) FROM generate_series(1, {rows})");
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_new_rows_among_many_are_found_without_going_through_them() {
    let service = Service::new().await;
    let client = service.session().await;
    let open = service.session().await;
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't')").await.unwrap();
    client.batch_execute(QUIET).await.unwrap();
    let left = sessions(&client).await;
    for analyzed in [false, true] {
        fill(&client, 50_000).await;
        if analyzed {
            client.batch_execute("ANALYZE outbox.entries").await.unwrap();
        }
        let mut reader = Reader::starting(service.store().await, outbox::Start::Now).await;
        let nothing = touched_by(&service, &client, &mut reader, left, 3).await;
        assert!(nothing < 100, "nothing new, analyzed: {analyzed}: {nothing} rows were touched");
        client.batch_execute("SELECT outbox.write('a', 't'), outbox.write('b', 't')").await.unwrap();
        if analyzed {
            open.batch_execute("COMMIT").await.unwrap();
        }
        let few = touched_by(&service, &client, &mut reader, left, 3).await;
        assert_eq!(reader.records.len(), if analyzed { 3 } else { 2 });
        assert!(few < 200, "a few new ones, one of them long ago: {few} rows were touched");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_walked_and_no_page_goes_through_all_of_it() {
    let service = Service::new().await;
    let client = service.session().await;
    client.batch_execute(QUIET).await.unwrap();
    let left = sessions(&client).await;
    fill(&client, 60_000).await;
    let mut reader = Reader::starting(service.store().await, outbox::Start::Now).await;
    fill(&client, 60_000).await;
    assert_eq!(reader.read(PLENTY).await.unwrap(), 1_000);
    let pages = touched_by(&service, &client, &mut reader, left, 10).await;
    assert_eq!(reader.records.len(), 11_000);
    assert!(pages < 25_000, "10 pages of 1,000: {pages} rows were touched");
    let backlog = reader.store.backlog(&partition(), &reader.position).await.unwrap();
    assert!(!backlog.exact && (49_000..=60_000).contains(&backlog.entries), "{backlog:?}");
    while reader.read(PLENTY).await.unwrap() > 0 {}
    assert_eq!(reader.records.len(), 60_000);
}

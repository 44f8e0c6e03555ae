//! Millions of entries of 1 KB from PostgreSQL through a relay to a null sink, by polling, with a million already read and
//! kept: against a bare SELECT loop over the same table with the same driver, and against a loop that takes rows by
//! `DELETE … FOR UPDATE SKIP LOCKED`, as pollers of the field do.
//!
//! `benches/run-postgres pg_drain [ENTRIES]`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{sync::Arc, time::Instant};

use benches::{
    postgres::{Database, Processor, Reads},
    running::Running,
};
use outbox::sinks::NullSink;
use tokio_postgres::{Client, Row};

const READ_BEFORE: usize = 1_000_000;
const BEHIND: usize = 3_000_000;
const PAGE: i64 = 1_000;
/// How many rows are taken by deleting them.
const DELETED: usize = 200_000;
const COLUMNS: &str = "id, recorded_at::text, sequence, incarnation, count, commit_id::text, key, after, type, event_id, content_type, data";

/// What a row's values take, each made one's own.
fn take(row: &Row) -> usize {
    let texts = ["recorded_at", "commit_id", "key", "after", "type", "event_id", "content_type", "data"];
    let numbers: i64 = row.get::<_, Option<i64>>("sequence").unwrap_or_default()
        + i64::from(row.get::<_, Option<i32>>("incarnation").unwrap_or_default())
        + i64::from(row.get::<_, i32>("count"));
    assert!(numbers >= 0);
    texts.iter().filter_map(|name| row.get::<_, Option<String>>(*name)).map(|text| text.len()).sum()
}

/// Reads every row behind the first `after`, page by page, and nothing else.
async fn select_loop(client: &Client, after: i64, rows: usize) -> f64 {
    let sql = format!("SELECT {COLUMNS} FROM outbox.entries WHERE id > $1 ORDER BY id LIMIT {PAGE}");
    let statement = client.prepare(&sql).await.unwrap();
    let (mut last, mut count, mut bytes) = (after, 0, 0);
    let started = Instant::now();
    while count < rows {
        let page = client.query(&statement, &[&last]).await.unwrap();
        last = page.last().unwrap().get("id");
        count += page.len();
        bytes += page.iter().map(take).sum::<usize>();
    }
    assert!(bytes > rows * 1024);
    rows as f64 / started.elapsed().as_secs_f64()
}

/// Takes rows as a queue is taken: oldest first, 500 at a time, and gone with the commit.
async fn delete_loop(client: &Client) -> f64 {
    let copy =
        format!("CREATE TABLE peer AS SELECT {COLUMNS} FROM outbox.entries; ALTER TABLE peer ADD PRIMARY KEY (id)");
    client.batch_execute(&copy).await.unwrap();
    client.batch_execute("VACUUM ANALYZE peer").await.unwrap();
    let sql =
        "DELETE FROM peer WHERE id IN (SELECT id FROM peer ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED) RETURNING *";
    let statement = client.prepare(sql).await.unwrap();
    let (mut count, mut bytes) = (0, 0);
    let started = Instant::now();
    while count < DELETED {
        let page = client.query(&statement, &[]).await.unwrap();
        count += page.len();
        bytes += page.iter().map(take).sum::<usize>();
    }
    assert!(bytes > count * 1024);
    count as f64 / started.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let behind = std::env::args().nth(1).map_or(BEHIND, |entries| entries.parse().unwrap());
    let read_before = READ_BEFORE.min(behind);
    let database = Database::new("bench_drain").await;
    database.fill(read_before, 10_000, 1_000).await;
    let relay = Running::start(database.relay(Reads::Poll, Arc::new(NullSink)).await);
    relay.until(read_before as u64).await;
    relay.stop().await;
    database.fill(behind, 10_000, 1_000).await;
    let client = database.session().await;
    let first = i64::try_from(read_before).unwrap();
    select_loop(&client, first, behind).await;

    let before = Processor::spent();
    let floor = select_loop(&client, first, behind).await;
    let spent_by_floor = Processor::spent().since(before);

    let relay = database.relay(Reads::Poll, Arc::new(NullSink)).await;
    let before = Processor::spent();
    let started = Instant::now();
    let relay = Running::start(relay);
    relay.until(behind as u64).await;
    let ours = behind as f64 / started.elapsed().as_secs_f64();
    let spent = Processor::spent().since(before);
    relay.stop().await;

    benches::report("drain by poll, bare SELECT loop", ours, floor, "events/s", 0.6);
    benches::report("drain by poll, SKIP LOCKED delete loop", ours, delete_loop(&client).await, "events/s", 3.0);
    let millions = behind as f64 / 1e6;
    println!(
        "processor time a million: ours {:.2} s and the server's {:.2} s; floor {:.2} s and {:.2} s",
        spent.own / millions,
        spent.server / millions,
        spent_by_floor.own / millions,
        spent_by_floor.server / millions
    );
}

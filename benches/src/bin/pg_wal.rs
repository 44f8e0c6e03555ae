//! Draining the server's log through a relay to a null sink, one event a transaction and a hundred, against
//! `pg_recvlogical` of the same publication writing to /dev/null.
//!
//! `benches/run-postgres pg_wal`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use benches::{
    postgres::{Database, Processor, Reads},
    running::Running,
};
use outbox::sinks::NullSink;
use outbox_sql::postgres::wal::PUBLICATION;

const FLOOR_SLOT: &str = "bench_floor";

/// Reads the log up to `end` with the server's own program, which writes it nowhere.
async fn receive(database: &Database, end: &str) -> Duration {
    let programs = std::env::var("OUTBOX_BENCH_POSTGRES_BIN").unwrap();
    let started = Instant::now();
    let publication = format!("publication_names={PUBLICATION}");
    let status = tokio::process::Command::new(format!("{programs}/pg_recvlogical"))
        .args(["--dbname", database.url(), "--slot", FLOOR_SLOT, "--start", "--no-loop", "--file", "/dev/null"])
        .args(["--endpos", end, "--option", "proto_version=2", "--option", &publication])
        .stdin(Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(status.success());
    started.elapsed()
}

async fn drain(name: &str, transactions: usize, in_transaction: usize) {
    let database = Database::new(name).await;
    let entries = transactions * in_transaction;
    // The slot is made by a relay's first run, and the floor's beside it.
    let relay = Running::start(database.relay(Reads::Wal, Arc::new(NullSink)).await);
    database.fill(4, 4, 1).await;
    relay.until(4).await;
    relay.stop().await;
    let client = database.client();
    let make = format!("SELECT pg_create_logical_replication_slot('{FLOOR_SLOT}', 'pgoutput')");
    client.batch_execute(&make).await.unwrap();
    database.fill(entries, 10_000, in_transaction).await;
    let end: String = client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.unwrap().get(0);

    let before = Processor::spent();
    let floor = receive(&database, &end).await;
    let spent_by_floor = Processor::spent().since(before);

    let relay = database.relay(Reads::Wal, Arc::new(NullSink)).await;
    let before = Processor::spent();
    let started = Instant::now();
    let relay = Running::start(relay);
    relay.until(entries as u64).await;
    let ours = started.elapsed();
    let spent = Processor::spent().since(before);
    relay.stop().await;
    database.drop_slots().await;

    let what = format!("drain by WAL, {in_transaction} a transaction");
    let rate = |took: Duration| entries as f64 / took.as_secs_f64();
    benches::report(&what, rate(ours), rate(floor), "events/s", 0.8);
    let millions = entries as f64 / 1e6;
    println!(
        "processor time a million: ours {:.2} s and the server's {:.2} s; floor: the server's {:.2} s",
        spent.own / millions,
        spent.server / millions,
        spent_by_floor.server / millions
    );
}

#[tokio::main]
async fn main() {
    drain("bench_wal_single", 400_000, 1).await;
    drain("bench_wal_hundred", 10_000, 100).await;
}

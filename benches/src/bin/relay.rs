//! A million entries of 1 KB from SQLite through a relay to a null sink, against a bare SELECT loop over the same table.
//!
//! `cargo run --release -p benches --bin relay`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{path::Path, sync::Arc, time::Instant};

use outbox::sinks::NullSink;
use rusqlite::{Connection, types::ValueRef};

const ENTRIES: usize = 1_000_000;

/// Reads every column of every row by the driver, and nothing else.
fn select_loop(path: &Path) -> f64 {
    let connection = Connection::open(path).unwrap();
    let started = Instant::now();
    let mut statement = connection.prepare("SELECT * FROM outbox_entries ORDER BY id").unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query(()).unwrap();
    let (mut count, mut bytes) = (0_usize, 0_usize);
    while let Some(row) = rows.next().unwrap() {
        for column in 0..columns {
            bytes += match row.get_ref(column).unwrap() {
                ValueRef::Text(text) => text.to_vec().len(),
                ValueRef::Blob(blob) => blob.to_vec().len(),
                ValueRef::Integer(_) | ValueRef::Real(_) => 8,
                ValueRef::Null => 0,
            };
        }
        count += 1;
    }
    assert!(count == ENTRIES && bytes > ENTRIES * 1024);
    ENTRIES as f64 / started.elapsed().as_secs_f64()
}

async fn relay(directory: &Path) -> f64 {
    for file in ["relay.db", "relay.db-wal", "relay.db-shm"] {
        let _ = std::fs::remove_file(directory.join(file));
    }
    Connection::open(directory.join("business.db"))
        .unwrap()
        .execute_batch("UPDATE outbox_meta SET bookkeeping = NULL, claim_epoch = 0, claim_nonce = NULL")
        .unwrap();
    let relay = benches::relay(directory, Arc::new(NullSink));
    let handle = relay.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let started = Instant::now();
    let running = tokio::spawn(relay.run(async {
        let _ = stopped.await;
    }));
    while handle.status().routes[0].published < ENTRIES as u64 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let rate = ENTRIES as f64 / started.elapsed().as_secs_f64();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    rate
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("business.db");
    benches::fill(&benches::database(&path, "OFF"), ENTRIES, 10_000);
    select_loop(&path);
    for _ in 0..3 {
        let floor = select_loop(&path);
        let ours = relay(directory.path()).await;
        benches::report("SQLite to a null sink", ours, floor, "events/s", 0.5);
    }
}

//! A transaction with one keyed event, against the same with a plain insert of the same bytes and a plain update of a
//! counter row in its place. Synchronous FULL, with group commit (100 transactions' work in one commit) and without.
//!
//! `cargo run --release -p benches --bin writer`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::time::{Duration, Instant};

use outbox::NewEvent;
use outbox_sql::sqlite;
use rusqlite::{Connection, Transaction};

const KEYS: u64 = 1_000;
const ROUND: Duration = Duration::from_secs(2);

fn plain(transaction: &Transaction<'_>, number: u64, payload: &str) {
    transaction
        .prepare_cached("INSERT INTO plain (key, kind, data, at) VALUES (?1, 'order.placed', ?2, ?3)")
        .unwrap()
        .execute((format!("customer/{}", number % KEYS), payload, number.cast_signed()))
        .unwrap();
    transaction
        .prepare_cached("UPDATE counters SET number = number + 1 WHERE key = ?1")
        .unwrap()
        .execute((format!("customer/{}", number % KEYS),))
        .unwrap();
}

fn event(transaction: &Transaction<'_>, number: u64, payload: &str) {
    let event = NewEvent::builder("order.placed")
        .key(format!("customer/{}", number % KEYS))
        .bytes("application/json", payload.to_owned())
        .build()
        .unwrap();
    sqlite::write(transaction, [event]).unwrap();
}

/// Transactions a second of `work`, `group` of them in a commit, each with a row of the business besides.
fn run(connection: &mut Connection, group: u64, work: fn(&Transaction<'_>, u64, &str)) -> f64 {
    let payload = benches::payload();
    let started = Instant::now();
    let mut number = 0;
    while started.elapsed() < ROUND {
        let transaction = connection.transaction().unwrap();
        for _ in 0..group {
            number += 1;
            transaction
                .prepare_cached("INSERT INTO orders (customer, units) VALUES (?1, ?2)")
                .unwrap()
                .execute(((number % KEYS).cast_signed(), number.cast_signed()))
                .unwrap();
            work(&transaction, number, &payload);
        }
        transaction.commit().unwrap();
    }
    number as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = benches::database(&directory.path().join("business.db"), "FULL");
    connection
        .execute_batch(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, units INTEGER);
             CREATE TABLE plain (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, kind TEXT, data TEXT, at INTEGER);
             CREATE TABLE counters (key TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;",
        )
        .unwrap();
    for number in 0..KEYS {
        connection.execute("INSERT INTO counters VALUES (?1, 0)", (format!("customer/{number}"),)).unwrap();
    }
    for (name, group) in [("one event a commit", 1), ("group commit of 100", 100)] {
        // In turns, so that a slow moment of the disk meets both.
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            floor.push(run(&mut connection, group, plain));
            ours.push(run(&mut connection, group, event));
        }
        let median = |rates: &mut Vec<f64>| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        benches::report(name, median(&mut ours), median(&mut floor), "tx/s", 0.85);
    }
}

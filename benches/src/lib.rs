//! What the benchmarks share: databases filled with entries, and the wiring of a relay.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

pub mod dynamodb;
pub mod function;
pub mod postgres;
pub mod running;
pub mod stop_watch;

use std::{path::Path, sync::Arc, time::Duration};

use outbox::{Relay, RouteName, RouteSettings, Sink};
use outbox_sql::sqlite::{self, BookkeepingOptions, InitOptions, SqliteBookkeeping, SqliteStore, StoreOptions};
use rusqlite::Connection;

/// The payload of every benchmark: 1 KB of JSON.
pub fn payload() -> String {
    format!(r#"{{"text":"{}"}}"#, "x".repeat(1024 - 11))
}

/// Opens a database with the outbox's tables, as a service would.
pub fn database(path: &Path, synchronous: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    sqlite::init(&connection, &InitOptions::new("/bench")).unwrap();
    connection.pragma_update(None, "synchronous", synchronous).unwrap();
    connection
}

/// Writes `entries` entries over `keys` keys through the view, in large transactions.
pub fn fill(connection: &Connection, entries: usize, keys: usize) {
    let payload = payload();
    for chunk in (0..entries).collect::<Vec<_>>().chunks(20_000) {
        let transaction = connection.unchecked_transaction().unwrap();
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO outbox (key, type, data) VALUES (?1, 'order.placed', ?2)")
                .unwrap();
            for number in chunk {
                insert.execute((format!("customer/{}", number % keys), &payload)).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

/// A relay with one route from the database to `sink`.
pub fn relay(directory: &Path, sink: Arc<dyn Sink>) -> Relay {
    let store = Arc::new(SqliteStore::open(directory.join("business.db"), StoreOptions::default()).unwrap());
    let options = BookkeepingOptions { create: true, ..BookkeepingOptions::default() };
    let bookkeeping = Arc::new(SqliteBookkeeping::open(directory.join("relay.db"), options).unwrap());
    let route = RouteSettings::new(RouteName::new("bench").unwrap());
    Relay::builder().source(store.clone()).store(store).bookkeeping(bookkeeping).route(route, sink).build().unwrap()
}

/// Prints a measurement beside its floor.
pub fn report(what: &str, ours: f64, floor: f64, unit: &str, bar: f64) {
    let ratio = ours / floor;
    let verdict = if ratio >= bar { "met" } else { "MISSED" };
    println!(
        "{what:<44} {ours:>10.0} {unit}  floor {floor:>10.0}  ratio {:>4.0} %  bar {:>3.0} %  {verdict}",
        ratio * 100.0,
        bar * 100.0
    );
}

/// The value below which `share` of the sorted samples lie.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the samples")]
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index]
}

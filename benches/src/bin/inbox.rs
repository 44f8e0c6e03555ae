//! The inbox in mode `in_order` on SQLite, batches of 100, against the bare effect in a transaction of 100.
//!
//! `cargo run --release -p benches --bin inbox`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use outbox::{
    Event, NewEvent, Place, Placing,
    cloudevents::{Envelope, json},
    event::Identity,
    inbox::{Applied, InboxLayer, Incoming},
};
use outbox_sql::sqlite::{InboxOptions, SqliteInbox, handler_fn};
use rusqlite::{Connection, Transaction};
use tower::Layer;

const BATCH: usize = 100;
const EVENTS: usize = 200_000;
const KEYS: usize = 1_000;
const TABLES: &str = "CREATE TABLE IF NOT EXISTS ledger (customer TEXT PRIMARY KEY, units INTEGER) WITHOUT ROWID";

fn events() -> Vec<Event> {
    let source: Arc<str> = "/bench".into();
    (0..EVENTS)
        .map(|number| {
            let sequence = (number / KEYS + 1) as u64;
            let new = NewEvent::builder("order.placed")
                .key(format!("customer/{}", number % KEYS))
                .bytes("application/json", benches::payload());
            let after = if sequence == 1 { Place::ORIGIN } else { Place::new(1, sequence - 1, 0) };
            let placing = Some(Placing { place: Place::new(1, sequence, 0), count: 1, after });
            let identity = Identity { source: &source, placing, recorded: None, fallback_id: "none" };
            let event = Event::from_new(new.build().unwrap(), identity).unwrap();
            // As it comes from a gapless route.
            json::decode(&json::encode(&event, Envelope { gapless: true, replay: None })).unwrap()
        })
        .collect()
}

fn effect(transaction: &Transaction<'_>, event: &Event) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO ledger VALUES (?1, 1) ON CONFLICT (customer) DO UPDATE SET units = units + 1")?
        .execute([event.key().unwrap().as_str()])?;
    Ok(())
}

/// Batches as a receiver has them at hand, which has just decoded them: copied outside of the time that is measured.
fn at_hand(events: &[Event]) -> impl Iterator<Item = Vec<Vec<Event>>> {
    events.chunks(BATCH * 10).map(|some| some.chunks(BATCH).map(<[Event]>::to_vec).collect())
}

fn bare(path: &Path, events: &[Event]) -> f64 {
    let mut connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").unwrap();
    connection.execute_batch(TABLES).unwrap();
    let mut spent = Duration::ZERO;
    for batches in at_hand(events) {
        let started = Instant::now();
        for batch in batches {
            let transaction = connection.transaction().unwrap();
            for event in &batch {
                effect(&transaction, event).unwrap();
            }
            transaction.commit().unwrap();
        }
        spent += started.elapsed();
    }
    EVENTS as f64 / spent.as_secs_f64()
}

async fn inbox(path: &Path, events: &[Event]) -> f64 {
    let options = InboxOptions::new("bench").tables(|connection| connection.execute_batch(TABLES));
    let store = SqliteInbox::open(path, options).unwrap();
    let service = InboxLayer::in_order(store).layer(handler_fn(effect));
    let mut spent = Duration::ZERO;
    for batches in at_hand(events) {
        let incoming = |batch: Vec<Event>| batch.into_iter().map(Incoming::Event).collect();
        let batches: Vec<Vec<Incoming>> = batches.into_iter().map(incoming).collect();
        let started = Instant::now();
        for batch in batches {
            let applied = service.apply(batch).await.unwrap();
            assert!(applied.len() == BATCH && applied.iter().all(|applied| *applied == Applied::Applied));
        }
        spent += started.elapsed();
    }
    EVENTS as f64 / spent.as_secs_f64()
}

#[tokio::main]
async fn main() {
    let events = events();
    for round in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let floor = bare(&directory.path().join(format!("bare-{round}.db")), &events);
        let ours = inbox(&directory.path().join(format!("inbox-{round}.db")), &events).await;
        benches::report("inbox in_order, batches of 100", ours, floor, "events/s", 0.6);
    }
}

//! Inbox `in_order` on SQLite, batches of 100, against the bare effect transaction: the same effects in the same
//! transactions without an inbox. Both in one run, in turns, so that the ratio holds whatever the machine does meanwhile.

#![expect(clippy::expect_used, reason = "a benchmark ends where it fails")]

use std::{path::Path, time::Duration};

use outbox::{
    Clock, Event, Place, Placing, System,
    cloudevents::{Envelope, json},
    event::{Identity, NewEvent},
    inbox::{InboxLayer, InboxService, Incoming},
};
use outbox_sql::sqlite::{HandlerFn, InboxOptions, SqliteInbox, handler_fn};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tower::Layer;

const BATCH: usize = 100;
const BATCHES: usize = 200;
const ROUNDS: usize = 5;
const KEYS: u64 = 2_000;

const TABLES: &str =
    "CREATE TABLE IF NOT EXISTS ledger (customer TEXT PRIMARY KEY, orders INTEGER, cents INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS lines (id TEXT PRIMARY KEY, customer TEXT, cents INTEGER) WITHOUT ROWID;";

/// One order: a line of its own, and its customer's total.
fn effect(transaction: &Transaction<'_>, event: &Event) -> rusqlite::Result<()> {
    let customer = event.key().map_or("", outbox::Key::as_str);
    transaction.prepare_cached("INSERT INTO lines (id, customer, cents) VALUES (?1, ?2, ?3)")?.execute((
        event.id(),
        customer,
        1_999,
    ))?;
    transaction
        .prepare_cached(
            "INSERT INTO ledger (customer, orders, cents) VALUES (?1, 1, ?2) \
             ON CONFLICT DO UPDATE SET orders = orders + 1, cents = cents + excluded.cents",
        )?
        .execute((customer, 1_999))?;
    Ok(())
}

/// Order number `n` overall: the customers take turns, as scattered as customers are.
fn event(n: u64) -> Event {
    let (customer, sequence) = (n.wrapping_mul(7_919) % KEYS, n / KEYS + 1);
    let new = NewEvent::builder("order.placed").key(format!("customer/{customer:05}")).json(&n).build();
    let placing = Placing {
        place: Place::new(1, sequence, 0),
        count: 1,
        after: if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN },
    };
    let identity = Identity { source: &"/orders".into(), placing: Some(placing), recorded: None, fallback_id: "" };
    let event = Event::from_new(new.expect("a valid event"), identity).expect("a valid event");
    json::decode(&json::encode(&event, Envelope { gapless: true, replay: None })).expect("an event")
}

fn batches(round: usize) -> Vec<Vec<Event>> {
    let first = (round * BATCHES * BATCH) as u64;
    (0..BATCHES as u64)
        .map(|batch| (0..BATCH as u64).map(|index| event(first + batch * BATCH as u64 + index)).collect())
        .collect()
}

fn bare(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection.pragma_update(None, "journal_mode", "WAL").expect("a WAL");
    connection.pragma_update(None, "synchronous", "FULL").expect("synchronous");
    connection.execute_batch(TABLES).expect("tables");
    connection
}

fn run_bare(connection: &Connection, batches: Vec<Vec<Event>>) -> Duration {
    let start = System.moment();
    for batch in batches {
        let transaction =
            Transaction::new_unchecked(connection, TransactionBehavior::Immediate).expect("a transaction");
        batch.iter().try_for_each(|event| effect(&transaction, event)).expect("effects");
        transaction.commit().expect("a commit");
    }
    System.moment() - start
}

type Effect = fn(&Transaction<'_>, &Event) -> rusqlite::Result<()>;

fn run_inbox(
    runtime: &tokio::runtime::Runtime,
    service: &InboxService<SqliteInbox, HandlerFn<Effect>>,
    batches: Vec<Vec<Event>>,
) -> Duration {
    let start = System.moment();
    runtime.block_on(async {
        for batch in batches {
            let incoming = batch.into_iter().map(Incoming::Event).collect();
            let applied = service.apply(incoming).await.expect("the inbox records");
            assert!(applied.iter().all(|applied| *applied == outbox::inbox::Applied::Applied));
        }
    });
    System.moment() - start
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connection = bare(&folder.path().join("bare.db"));
    let options = InboxOptions::new("bench").tables(|connection| connection.execute_batch(TABLES));
    let store = SqliteInbox::open(folder.path().join("inbox.db"), options).expect("an inbox");
    let service = InboxLayer::in_order(store).layer(handler_fn(effect as Effect));
    let (mut alone, mut inside) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        alone.push(run_bare(&connection, batches(round)));
        inside.push(run_inbox(&runtime, &service, batches(round)));
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate needs three digits")]
    let rate = |time: Duration| (BATCHES * BATCH) as f64 / time.as_secs_f64();
    let (alone, inside) = (rate(median(&mut alone)), rate(median(&mut inside)));
    println!("bare effect transaction  {alone:>10.0} events/s");
    println!("inbox in_order           {inside:>10.0} events/s");
    println!("ratio                    {:>10.2}", inside / alone);
}

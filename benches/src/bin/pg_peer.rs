//! The oldest peer in Rust, `oxide-outbox`, against a relay that polls: the same server, tables of the same size, payloads of
//! 1 KB, and sinks that only count.
//!
//! `benches/run-postgres pg_peer [ENTRIES]`

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
use tokio::io::{AsyncBufReadExt as _, BufReader};

const PUBLISHED_BEFORE: usize = 1_000_000;
const BEHIND: usize = 3_000_000;
/// Of how many events the peer's rate is taken: all of them would take long.
const MEASURED: usize = 200_000;

/// The peer's table with its indexes, as its documentation has them.
const TABLE: &str = "
    CREATE TYPE status AS ENUM ('Pending', 'Processing', 'Sent');
    CREATE TABLE outbox_events (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), idempotency_token text, event_type text NOT NULL,
        payload jsonb NOT NULL, status status NOT NULL DEFAULT 'Pending', created_at timestamptz NOT NULL DEFAULT now(),
        locked_until timestamptz NOT NULL DEFAULT '-infinity');
    CREATE UNIQUE INDEX idx_outbox_idempotency ON outbox_events (idempotency_token);
    CREATE INDEX idx_outbox_processing_queue ON outbox_events (locked_until, status)
        WHERE status IN ('Pending', 'Processing')";
/// Its trigger, which would only slow the filling down.
const TRIGGER: &str = "
    CREATE FUNCTION notify_outbox_event() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_notify('outbox_event', 'ping'); RETURN NEW; END $$;
    CREATE TRIGGER outbox_events_notify_trigger AFTER INSERT OR UPDATE ON outbox_events
        FOR EACH ROW EXECUTE FUNCTION notify_outbox_event()";

/// Events a second, and the processor time of a million.
struct Measured {
    rate: f64,
    spent: Processor,
}

impl Measured {
    fn new(events: f64, seconds: f64, spent: Processor) -> Self {
        let a_million = |spent: f64| spent * 1e6 / events;
        let spent = Processor { own: a_million(spent.own), server: a_million(spent.server) };
        Self { rate: events / seconds, spent }
    }
}

async fn peer(database: &Database, batch: u32, wanted: usize) -> Measured {
    // Set by `benches/run-postgres`, which builds it.
    let program = std::env::var("OUTBOX_BENCH_PEER").unwrap();
    let before = Processor::spent();
    let mut process = tokio::process::Command::new(program)
        .arg(database.url())
        .args([batch.to_string(), wanted.to_string()])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let own = Processor::of(process.id().unwrap());
    let server = Processor::spent().since(before).server;
    process.kill().await.unwrap();
    let (published, seconds) = line.trim().split_once(' ').unwrap();
    Measured::new(published.parse().unwrap(), seconds.parse().unwrap(), Processor { own, server })
}

async fn ours(database: &Database, entries: usize) -> Measured {
    database.fill(entries, 10_000, 1_000).await;
    let relay = database.relay(Reads::Poll, Arc::new(NullSink)).await;
    let (before, started) = (Processor::spent(), Instant::now());
    let relay = Running::start(relay);
    relay.until(entries as u64).await;
    let (took, spent) = (started.elapsed(), Processor::spent().since(before));
    relay.stop().await;
    Measured::new(entries as f64, took.as_secs_f64(), spent)
}

#[tokio::main]
async fn main() {
    let behind = std::env::args().nth(1).map_or(BEHIND, |entries| entries.parse().unwrap());
    let published_before = PUBLISHED_BEFORE.min(behind);
    let database = Database::new("bench_peer_ours").await;
    ours(&database, published_before).await;
    let ours = ours(&database, behind).await;

    let database = Database::new("bench_peer").await;
    database.client().batch_execute(TABLE).await.unwrap();
    for (status, rows) in [("Sent", published_before), ("Pending", behind)] {
        let fill = format!(
            "INSERT INTO outbox_events (event_type, payload, status)
             SELECT 'order.placed', '{}', '{status}' FROM generate_series(1, {rows})",
            benches::payload()
        );
        database.client().batch_execute(&fill).await.unwrap();
    }
    for after in [TRIGGER, "VACUUM ANALYZE outbox_events", "CHECKPOINT"] {
        database.client().batch_execute(after).await.unwrap();
    }
    for batch in [100, 1_000] {
        let peer = peer(&database, batch, MEASURED.min(behind / 3)).await;
        benches::report(&format!("drain by poll, oxide-outbox by {batch}"), ours.rate, peer.rate, "events/s", 5.0);
        println!(
            "processor time a million: ours {:.2} s and the server's {:.2} s; the peer's {:.2} s and {:.2} s",
            ours.spent.own, ours.spent.server, peer.spent.own, peer.spent.server
        );
    }
}

//! The most memory that a relay takes for one transaction of a million events of 1 KB, by polling and from the log.
//!
//! `benches/run-postgres pg_memory [EVENTS]`

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark measures real time, and may fail")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use benches::postgres::{Database, Reads, be_relay_if_asked};
use outbox::{Batch, Event, Outcome, Sink, SinkError, SinkLimits};
use tokio::io::{AsyncBufReadExt, BufReader};

const EVENTS: u64 = 1_000_000;
const BAR_MB: u64 = 60;
/// How often the relay's process says how far it is.
const SAYS: u64 = 1_000;

/// Counts aloud.
#[derive(Default)]
struct Counter(AtomicU64);

#[async_trait]
impl Sink for Counter {
    fn limits(&self) -> SinkLimits {
        SinkLimits { ordered_calls: true, max_events: 100, max_bytes: 1 << 20, max_event_bytes: 1 << 20, max_calls: 8 }
    }

    fn size(&self, event: &Event) -> usize {
        event.data().map_or(0, bytes::Bytes::len)
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let came = batch.events.len() as u64;
        let before = self.0.fetch_add(came, Ordering::SeqCst);
        if before == 0 || before / SAYS < (before + came) / SAYS {
            println!("{}", before + came);
        }
        Ok(vec![Outcome::Accepted; batch.events.len()])
    }
}

async fn measure(reads: Reads, events: u64) {
    let database = Database::new(if reads == Reads::Poll { "bench_memory" } else { "bench_memory_wal" }).await;
    let mut relay = database.relay_process(reads);
    let mut lines = BufReader::new(relay.stdout.take().unwrap()).lines();
    let write = |count: u64| {
        format!(
            "SELECT count(outbox.write('customer/' || number % 10000, 'order.placed', '{}'))
             FROM generate_series(1, {count}) AS number",
            benches::payload()
        )
    };
    database.client().batch_execute(&write(1)).await.unwrap();
    lines.next_line().await.unwrap().unwrap();
    database.client().batch_execute(&write(events)).await.unwrap();
    let mut published = 0;
    while published < events {
        published = lines.next_line().await.unwrap().unwrap().parse().unwrap();
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let megabytes = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024;
    let verdict = if megabytes <= BAR_MB { "met" } else { "MISSED" };
    println!("a transaction of {events} events, {reads:?}: {megabytes} MB RSS at most  bar {BAR_MB} MB  {verdict}");
    drop(relay);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    database.drop_slots().await;
}

#[tokio::main]
async fn main() {
    be_relay_if_asked(Arc::new(Counter::default())).await;
    let events = std::env::args().nth(1).map_or(EVENTS, |events| events.parse().unwrap());
    measure(Reads::Poll, events).await;
    measure(Reads::Wal, events).await;
}

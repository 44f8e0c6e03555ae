//! How long a poll takes beside four million retained entries: one that finds nothing, and one that finds 50 rows.
//!
//! `benches/run-postgres pg_poll [ENTRIES]`

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark measures real time, and may fail")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use benches::{
    postgres::{Database, Reads},
    running::Running,
};
use outbox::{Source, sinks::NullSink, source::Limit};

const RETAINED: usize = 4_000_000;
const POLLS: usize = 300;
const FOUND: usize = 50;
const BAR: Duration = Duration::from_millis(2);

fn report(what: &str, mut samples: Vec<Duration>) {
    samples.sort();
    let (half, most) = (benches::percentile(&samples, 0.5), benches::percentile(&samples, 0.99));
    let verdict = if half <= BAR { "met" } else { "MISSED" };
    println!("{what:<44} p50 {half:?}, p99 {most:?}  bar {BAR:?}  {verdict}");
}

#[tokio::main]
async fn main() {
    let retained = std::env::args().nth(1).map_or(RETAINED, |entries| entries.parse().unwrap());
    let database = Database::new("bench_poll").await;
    database.fill(retained, 10_000, 1_000).await;
    // Who has read them all is where a poll finds nothing.
    let relay = Running::start(database.relay(Reads::Poll, Arc::new(NullSink)).await);
    relay.until(retained as u64).await;
    relay.stop().await;
    let store = database.store().await;
    let partition = store.partitions().await.unwrap().remove(0).id;
    let limit = Limit { events: 1_000, bytes: 1 << 20 };
    let mut position = database.stopped_at().await;
    let (mut nothing, mut some) = (Vec::new(), Vec::new());
    let rows = format!(
        "SELECT outbox.write('customer/' || number, 'order.placed', '{{}}') FROM generate_series(1, {FOUND}) AS number"
    );
    for _ in 0..POLLS {
        let started = Instant::now();
        let page = store.read(&partition, &position, limit).await.unwrap();
        nothing.push(started.elapsed());
        assert!(page.records.is_empty());
        position = page.next;
        database.client().batch_execute(&rows).await.unwrap();
        let started = Instant::now();
        let page = store.read(&partition, &position, limit).await.unwrap();
        some.push(started.elapsed());
        assert_eq!(page.records.len(), FOUND);
        position = page.next;
    }
    report("a poll that finds nothing", nothing);
    report("a poll that finds 50 rows", some);
}

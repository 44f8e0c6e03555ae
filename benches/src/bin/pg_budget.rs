//! A sink that is stopped for long while its relay reads the server's log, under the usual budget of 64 MiB: how much log
//! the slot holds meanwhile, that the other route goes on, and that nothing is lost once the sink is back.
//!
//! `benches/run-postgres pg_budget [ENTRIES]`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use benches::{
    postgres::{Database, Reads},
    running::Running,
};
use outbox::{Batch, Event, Outcome, Sink, SinkError, SinkLimits, sink::Fault, sinks::NullSink};
use tokio_postgres::Client;

/// Of 1 KB each: many times the budget.
const ENTRIES: usize = 1_000_000;
const MIB: f64 = 1_048_576.0;

/// Takes nothing as a whole until it is mended.
struct Stopped {
    mended: AtomicBool,
}

#[async_trait]
impl Sink for Stopped {
    fn limits(&self) -> SinkLimits {
        NullSink.limits()
    }

    fn size(&self, event: &Event) -> usize {
        NullSink.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        if self.mended.load(Ordering::Relaxed) {
            return NullSink.publish(batch).await;
        }
        Err(SinkError::new(Fault::Sink, "it is stopped"))
    }
}

/// Log in MiB: what the server has not sent yet, what it has sent and is not confirmed, and what the slot holds on to. The
/// server finds out what it can let go of every 15 seconds, and from the oldest open transaction on holds everything.
#[derive(Clone, Copy, Default)]
struct Held {
    unsent: f64,
    unconfirmed: f64,
    by_slot: f64,
}

impl Held {
    async fn now(client: &Client) -> Self {
        let sql = "SELECT (pg_current_wal_lsn() - sent_lsn)::float8, (sent_lsn - confirmed_flush_lsn)::float8,
                          (pg_current_wal_lsn() - restart_lsn)::float8
                   FROM pg_replication_slots JOIN pg_stat_replication ON pid = active_pid WHERE database = current_database()";
        let row = client.query_one(sql, &[]).await.unwrap();
        let mebibytes = |column| row.get::<_, f64>(column) / MIB;
        Self { unsent: mebibytes(0), unconfirmed: mebibytes(1), by_slot: mebibytes(2) }
    }

    fn or_more(self, other: Self) -> Self {
        Self {
            unsent: self.unsent.max(other.unsent),
            unconfirmed: self.unconfirmed.max(other.unconfirmed),
            by_slot: self.by_slot.max(other.by_slot),
        }
    }
}

#[tokio::main]
async fn main() {
    let entries = std::env::args().nth(1).map_or(ENTRIES, |entries| entries.parse().unwrap());
    let database = Arc::new(Database::new("bench_budget").await);
    let stopped = Arc::new(Stopped { mended: AtomicBool::new(false) });
    let sinks: [(&str, Arc<dyn Sink>); 2] = [("flows", Arc::new(NullSink)), ("stopped", stopped.clone())];
    let relay = Running::start(database.relay_to(Reads::Wal, sinks).await);
    // The slot is made meanwhile.
    database.fill(4, 4, 1).await;
    relay.until(4).await;
    let client = database.session().await;
    let filled = database.clone();
    let filling = tokio::spawn(async move { filled.fill(entries, 10_000, 100).await });
    let mut most = Held::default();
    let all = entries as u64 + 4;
    while !filling.is_finished() || relay.published_to("flows") < all {
        most = most.or_more(Held::now(&client).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    filling.await.unwrap();
    println!("{:.0} MiB of events, one sink stopped, a budget of 64 MiB:", entries as f64 * 1024.0 / MIB);
    println!("  at most {:.0} MiB sent and not confirmed, {:.0} MiB not sent yet", most.unconfirmed, most.unsent);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let then = Held::now(&client).await;
    println!(
        "  held by the slot: at most {:.0} MiB, and {:.1} MiB 40 s after the last event",
        most.by_slot, then.by_slot
    );
    println!(
        "  published meanwhile: {} to the other route, {} to the stopped one",
        relay.published_to("flows"),
        relay.published_to("stopped")
    );
    stopped.mended.store(true, Ordering::Relaxed);
    let started = Instant::now();
    while relay.published_to("stopped") < all {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("  all {all} were published to it {:.1} s after it was back", started.elapsed().as_secs_f64());
    assert_eq!((relay.published_to("flows"), relay.published_to("stopped")), (all, all));
    relay.stop().await;
    database.drop_slots().await;
}

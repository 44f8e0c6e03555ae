//! Publishes what is pending by `oxide-outbox` (`outbox-core` 0.6 with `outbox-postgres` 0.3) to a sink that only counts:
//! what `pg_peer` measures Outbox against, and starts.
//!
//! `peer URL BATCH EVENTS` prints how many events it has published and in how many seconds, once that are `EVENTS`, and
//! then waits to be killed.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use outbox_core::prelude::{Event, OutboxConfig, OutboxError, OutboxManagerBuilder, Transport};
use outbox_postgres::PostgresOutbox;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

/// What the benchmarks' payload is.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Payload {
    text: String,
}

/// Takes everything, and counts it.
#[derive(Default)]
struct Counting(AtomicU64);

#[async_trait::async_trait]
impl Transport<Payload> for Counting {
    async fn publish(&self, _event: Event<Payload>) -> Result<(), OutboxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, batch, events] = arguments.as_slice() else { return Err("usage: peer URL BATCH EVENTS".into()) };
    let events: u64 = events.parse()?;
    let mut config = OutboxConfig::default();
    config.batch_size = batch.parse()?;
    let config = Arc::new(config);
    let pool = sqlx::PgPool::connect(url).await?;
    let (sink, (_stop, stopped)) = (Arc::new(Counting::default()), watch::channel(false));
    let manager = OutboxManagerBuilder::new()
        .storage(Arc::new(PostgresOutbox::<Payload>::new(pool, config.clone())))
        .publisher(sink.clone())
        .config(config)
        .shutdown_rx(stopped)
        .build()?;
    let started = Instant::now();
    let running = tokio::spawn(manager.run());
    while sink.0.load(Ordering::Relaxed) < events {
        if running.is_finished() {
            return Err("it has ended".into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    println!("{} {}", sink.0.load(Ordering::Relaxed), started.elapsed().as_secs_f64());
    Ok(running.await??)
}

//! What a relay does while a database is quiet: rows written, by table; log written; log held back by its slot; processor
//! time.
//!
//! `benches/run-postgres pg_idle [SECONDS]`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{sync::Arc, time::Duration};

use benches::postgres::{Database, Processor, Reads, be_relay_if_asked};
use outbox::sinks::NullSink;
use tokio_postgres::Client;

const SECONDS: u64 = 600;

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(&format!("SELECT ({sql})::bigint"), &[]).await.unwrap().get(0)
}

/// Rows written until now, by table.
async fn written(client: &Client) -> Vec<(String, i64)> {
    client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let sql =
        "SELECT schemaname || '.' || relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables ORDER BY 1";
    client.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn measure(reads: Reads, lasts: Duration) {
    let database = Database::new(if reads == Reads::Poll { "bench_idle" } else { "bench_idle_wal" }).await;
    let relay = database.relay_process(reads);
    database.fill(100, 10, 1).await;
    let client = database.client();
    // What begins a relay is over by then.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let log = "SELECT pg_current_wal_lsn() - '0/0'";
    let (rows, bytes, spent) = (written(client).await, number(client, log).await, Processor::spent());
    let relay_spent = Processor::of(relay.id().unwrap());
    tokio::time::sleep(lasts).await;
    let spent = Processor::spent().since(spent);
    let relay_spent = Processor::of(relay.id().unwrap()) - relay_spent;
    let bytes = number(client, log).await - bytes;
    println!("{lasts:?} of nothing, {reads:?}:");
    let before = |table: &str| rows.iter().find(|(name, _)| name == table).map_or(0, |(_, count)| *count);
    for (table, count) in written(client).await {
        let count = count - before(&table);
        if count > 0 {
            println!("  {count} rows written in {table}");
        }
    }
    println!("  {bytes} bytes of log, {:.0} a second", bytes as f64 / lasts.as_secs_f64());
    if reads == Reads::Wal {
        let held = "SELECT max(pg_current_wal_lsn() - restart_lsn) FROM pg_replication_slots WHERE database = current_database()";
        println!("  {} bytes of log held by its slot", number(client, held).await);
    }
    let share = |seconds: f64| 100.0 * seconds / lasts.as_secs_f64();
    println!("  {:.2} % of a core by the relay, {:.2} % by the server", share(relay_spent), share(spent.server));
    drop(relay);
    tokio::time::sleep(Duration::from_secs(1)).await;
    database.drop_slots().await;
}

#[tokio::main]
async fn main() {
    be_relay_if_asked(Arc::new(NullSink)).await;
    let lasts = std::env::args().nth(1).map_or(SECONDS, |seconds| seconds.parse().unwrap());
    measure(Reads::Poll, Duration::from_secs(lasts)).await;
    measure(Reads::Wal, Duration::from_secs(lasts)).await;
}

//! One keyed event through `outbox.write`, a transaction of its own, against one round trip with a plain INSERT of the same
//! bytes into a table with the same indexes and a plain UPDATE of one row: 32 clients, each with keys of its own.
//!
//! `benches/run-postgres pg_writer`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::time::{Duration, Instant};

use benches::postgres::Database;
use tokio_postgres::Client;

const CLIENTS: usize = 32;
const KEYS: usize = 200;
const LASTS: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
const FLOOR_TABLES: &str = "
    CREATE TABLE floor_heads (key text COLLATE \"C\" PRIMARY KEY, sequence bigint NOT NULL) WITH (fillfactor = 60);
    CREATE TABLE floor_entries (
        id bigint GENERATED ALWAYS AS IDENTITY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(), sequence bigint, previous_id bigint,
        incarnation integer, count integer NOT NULL DEFAULT 1, commit_id uuid NOT NULL DEFAULT gen_random_uuid(),
        key text COLLATE \"C\", after text, type text NOT NULL, event_id text, content_type text, data text,
        data_bytes bytea, attributes text, more text, PRIMARY KEY (id)
    ) PARTITION BY RANGE (id);
    CREATE TABLE floor_entries_all PARTITION OF floor_entries DEFAULT;
    CREATE INDEX ON floor_entries (xid, id);";
const FLOOR: &str = "
    WITH moved AS (UPDATE floor_heads SET sequence = sequence + 1 WHERE key = $1)
    INSERT INTO floor_entries (key, type, data, sequence, previous_id, incarnation, after)
    VALUES ($1, 'order.placed', $2, 1, 1, 1, '1.1.0')";
const OURS: &str = "SELECT outbox.write($1, 'order.placed', $2)";

/// Commits a second of all clients together.
async fn rate(database: &Database, sql: &str) -> f64 {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(database.session().await);
    }
    let started = Instant::now();
    let writers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            let sql = sql.to_owned();
            tokio::spawn(async move { write(&client, number, &sql, started).await })
        })
        .collect();
    let mut commits = 0;
    for writer in writers {
        commits += writer.await.unwrap();
    }
    commits as f64 / started.elapsed().as_secs_f64()
}

async fn write(client: &Client, number: usize, sql: &str, started: Instant) -> usize {
    let statement = client.prepare_typed(sql, &[tokio_postgres::types::Type::TEXT, tokio_postgres::types::Type::TEXT]);
    let (statement, payload) = (statement.await.unwrap(), benches::payload());
    let mut commits = 0;
    while started.elapsed() < LASTS {
        let key = format!("customer/{number}/{}", commits % KEYS);
        client.execute(&statement, &[&key, &payload]).await.unwrap();
        commits += 1;
    }
    commits
}

#[tokio::main]
async fn main() {
    let database = Database::new("bench_writer").await;
    let client = database.client();
    client.batch_execute(FLOOR_TABLES).await.unwrap();
    let heads = format!(
        "INSERT INTO floor_heads SELECT 'customer/' || client || '/' || key, 1
         FROM generate_series(0, {}) AS client, generate_series(0, {}) AS key",
        CLIENTS - 1,
        KEYS - 1
    );
    client.batch_execute(&heads).await.unwrap();
    client.batch_execute("SELECT outbox.make_leaf('1 second')").await.unwrap();
    // Every key has its head before anything is measured.
    rate(&database, OURS).await;
    for _ in 0..ROUNDS {
        let floor = rate(&database, FLOOR).await;
        let ours = rate(&database, OURS).await;
        benches::report("one event a commit, 32 clients", ours, floor, "commits/s", 0.85);
        for after in ["VACUUM outbox.heads", "VACUUM floor_heads", "CHECKPOINT"] {
            client.batch_execute(after).await.unwrap();
        }
    }
}

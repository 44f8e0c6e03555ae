//! A service's database.

use std::sync::Arc;

use outbox::{
    Expected, Key, NewEvent, Place,
    memory::{ManualClock, SeededEntropy},
    testing::Write,
};
use outbox_sql::postgres::{InitOptions, Writer, init};
use tokio_postgres::Client;

use crate::server::Database;

pub(crate) struct Fixture {
    pub(crate) database: Database,
    /// A session of the schema's owner.
    pub(crate) client: Client,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let database = Database::new().await;
        let mut client = database.session().await;
        init(&mut client, &InitOptions::new("/orders")).await.unwrap();
        Self { database, client }
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// The one number that `sql` gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(&format!("SELECT ({sql})::bigint"), &[]).await.unwrap().get(0)
    }

    /// The rows that `sql` gives, each as text.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let rows = self.client.query(&format!("SELECT row_to_json(one)::text FROM ({sql}) AS one"), &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until so many sessions of this database wait for a lock.
    pub(crate) async fn until_waiting(&self, sessions: i64) {
        let sql = "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
            WHERE NOT l.granted AND a.datname = current_database()";
        let waiting = async {
            while self.number(sql).await < sessions {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await.expect("they wait for a lock");
    }

    /// What the server says to `sql`: SQLSTATE and message.
    pub(crate) async fn refusal(&self, sql: &str) -> String {
        refusal(&self.client, sql).await
    }
}

/// What the server says to `sql`: SQLSTATE and message.
pub(crate) async fn refusal(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let answer = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
    format!("{} {}", answer.code().code(), answer.message())
}

/// A writer whose times and ids are the same in every run.
pub(crate) fn writer() -> Writer {
    let clock = ManualClock::new("2026-11-21T09:30:00.250Z".parse().unwrap());
    Writer::new().clock(Arc::new(clock)).entropy(Arc::new(SeededEntropy::new(7)))
}

/// The writer that a suite's call asks for.
pub(crate) fn expecting(call: &Write) -> Writer {
    match (call.expected, call.events.first().and_then(|event| event.key())) {
        (Expected::Sequence(sequence), Some(key)) => Writer::new().expecting(key.clone(), sequence),
        (Expected::Any, _) | (_, None) => Writer::new(),
    }
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn event(key: &str) -> NewEvent {
    NewEvent::builder("order.placed").key(key).json(&serde_json::json!({ "units": 3 })).build().unwrap()
}

pub(crate) fn keyless() -> NewEvent {
    NewEvent::builder("order.placed").json(&3).build().unwrap()
}

pub(crate) fn place(sequence: u64) -> Place {
    Place::new(1, sequence, 0)
}

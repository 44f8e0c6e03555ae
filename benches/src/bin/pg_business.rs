//! What a relay costs the service: business transactions (an order and its event) with a relay beside them against without
//! one, at saturation; and how long one in a hundred of them takes at half of that rate.
//!
//! `benches/run-postgres pg_business`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use benches::postgres::{Database, Reads, be_relay_if_asked};
use outbox::sinks::NullSink;
use tokio_postgres::{Client, Statement};

const CLIENTS: usize = 16;
const LASTS: Duration = Duration::from_secs(12);
const ROUNDS: usize = 3;

struct Service {
    client: Client,
    order: Statement,
    event: Statement,
    number: usize,
    orders: usize,
}

impl Service {
    async fn new(database: &Database, number: usize) -> Self {
        let client = database.session().await;
        let order = client.prepare("INSERT INTO orders (customer, placed) VALUES ($1, $2)").await.unwrap();
        let event = client.prepare("SELECT outbox.write($1::text, 'order.placed', $2::text)").await.unwrap();
        Self { client, order, event, number, orders: 0 }
    }

    async fn commit_one(&mut self, payload: &str) {
        let key = format!("customer/{}/{}", self.number, self.orders % 500);
        self.orders += 1;
        let transaction = self.client.transaction().await.unwrap();
        transaction.execute(&self.order, &[&key, &payload]).await.unwrap();
        transaction.execute(&self.event, &[&key, &payload]).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

/// How long each transaction took; each client begins one so often, or as soon as the one before is done.
async fn run(database: &Database, every: Option<Duration>) -> Vec<Duration> {
    let mut services = Vec::new();
    for number in 0..CLIENTS {
        services.push(Service::new(database, number).await);
    }
    let begun = Instant::now();
    let running: Vec<_> = services
        .into_iter()
        .map(|mut service| {
            tokio::spawn(async move {
                let payload = benches::payload();
                let mut samples = Vec::new();
                // Not all at the same time.
                let mut due = begun + every.unwrap_or_default().mul_f64(service.number as f64 / CLIENTS as f64);
                while begun.elapsed() < LASTS {
                    if let Some(every) = every {
                        tokio::time::sleep_until(due.into()).await;
                        due += every;
                    }
                    let started = Instant::now();
                    service.commit_one(&payload).await;
                    samples.push(started.elapsed());
                }
                samples
            })
        })
        .collect();
    let mut samples = Vec::new();
    for service in running {
        samples.extend(service.await.unwrap());
    }
    samples.sort();
    samples
}

/// Both, in turn, so that neither has the younger table.
async fn both(database: &Database, reads: Reads, every: Option<Duration>) -> (Vec<Duration>, Vec<Duration>) {
    let without = run(database, every).await;
    let relay = database.relay_process(reads);
    let with = run(database, every).await;
    drop(relay);
    (without, with)
}

#[tokio::main]
async fn main() {
    be_relay_if_asked(Arc::new(NullSink)).await;
    for reads in [Reads::Poll, Reads::Wal] {
        let database = Database::new(if reads == Reads::Poll { "bench_business" } else { "bench_business_wal" }).await;
        let tables = "CREATE TABLE orders (id bigserial PRIMARY KEY, customer text NOT NULL, placed text NOT NULL);
                      SELECT outbox.make_leaf('1 second')";
        database.client().batch_execute(tables).await.unwrap();
        run(&database, None).await;
        let mut saturated = 0;
        for _ in 0..ROUNDS {
            let (without, with) = both(&database, reads, None).await;
            saturated = without.len();
            let a_second = |samples: &[Duration]| samples.len() as f64 / LASTS.as_secs_f64();
            let what = format!("business transactions beside a relay, {reads:?}");
            benches::report(&what, a_second(&with), a_second(&without), "commits/s", 0.93);
        }
        let every = LASTS.mul_f64(2.0 * CLIENTS as f64 / saturated as f64);
        for _ in 0..ROUNDS {
            let (without, with) = both(&database, reads, Some(every)).await;
            let (without, with) = (benches::percentile(&without, 0.99), benches::percentile(&with, 0.99));
            let ratio = with.as_secs_f64() / without.as_secs_f64();
            let verdict = if ratio <= 1.15 { "met" } else { "MISSED" };
            println!(
                "one in a hundred at half of that, {reads:?}: {with:?}, without {without:?}  {ratio:.2} times  bar 1.15  {verdict}"
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        database.drop_slots().await;
    }
}

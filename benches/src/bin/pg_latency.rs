//! Commit to sink, in another process: at a thousand commits a second, and for the first after the relay had nothing to do.
//!
//! `benches/run-postgres pg_latency`, or, as the bar has it, after an hour of nothing: `benches/run-postgres pg_latency 3600`

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark measures real time, and may fail")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use benches::{
    postgres::{Database, Reads, be_relay_if_asked},
    stop_watch::{StopWatch, nanos},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

const CLIENTS: u64 = 8;
const A_SECOND: u64 = 1_000;
const SECONDS: u64 = 20;
const WARMING_UP: u64 = 2_000;
const IDLE: Duration = Duration::from_secs(10);
const FIRSTS: u64 = 20;
/// So many where each takes long.
const FEW: u64 = 2;

/// Writes at a steady rate from some clients; tells of each number when its commit returned.
async fn write(database: &Database, first: u64, numbers: u64, committed: mpsc::UnboundedSender<(u64, u64)>) {
    let begun = tokio::time::Instant::now();
    let mut writers = Vec::new();
    for client in 0..CLIENTS {
        let (session, committed) = (database.session().await, committed.clone());
        writers.push(tokio::spawn(async move {
            let sql = "SELECT outbox.write($1::text, 'tick', $2::text)";
            let statement = session.prepare(sql).await.unwrap();
            for number in (client..numbers).step_by(usize::try_from(CLIENTS).unwrap()) {
                tokio::time::sleep_until(begun + Duration::from_micros(number * 1_000_000 / A_SECOND)).await;
                let (key, number) = (format!("key/{}", number % 500), first + number);
                session.execute(&statement, &[&key, &number.to_string()]).await.unwrap();
                committed.send((number, nanos())).unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn measure(reads: Reads, bars: [Duration; 2], idle: Duration) {
    let database = Database::new(if reads == Reads::Poll { "bench_latency" } else { "bench_latency_wal" }).await;
    let mut relay = database.relay_process(reads);
    let mut lines = BufReader::new(relay.stdout.take().unwrap()).lines();
    let (committed, mut commits) = mpsc::unbounded_channel();
    let numbers = A_SECOND * SECONDS + WARMING_UP;
    let writing = async {
        // The relay begins first.
        write(&database, 0, 1, committed.clone()).await;
        write(&database, 1, numbers, committed).await;
    };
    let reading = async {
        let mut seen = HashMap::new();
        while (seen.len() as u64) < numbers + 1 {
            let line = lines.next_line().await.unwrap().unwrap();
            let (number, at) = line.split_once(' ').unwrap();
            seen.entry(number.parse::<u64>().unwrap()).or_insert(at.parse::<u64>().unwrap());
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    let mut samples = Vec::new();
    while let Some((number, at)) = commits.recv().await {
        if number > WARMING_UP {
            samples.push(Duration::from_nanos(seen[&number].saturating_sub(at)));
        }
    }
    samples.sort();
    let [half, most] = [benches::percentile(&samples, 0.5), benches::percentile(&samples, 0.99)];
    let verdict = if half <= bars[0] && most <= bars[1] { "met" } else { "MISSED" };
    println!("commit to sink at 1,000/s, {reads:?}: p50 {half:?}, p99 {most:?}  bars {bars:?}  {verdict}");

    let mut firsts = Vec::new();
    let times = if idle > IDLE { FEW } else { FIRSTS };
    for first in 0..times {
        tokio::time::sleep(idle).await;
        let (committed, mut commits) = mpsc::unbounded_channel();
        write(&database, 1_000_000 + first, 1, committed).await;
        let (_, at) = commits.recv().await.unwrap();
        let line = lines.next_line().await.unwrap().unwrap();
        let seen: u64 = line.split_once(' ').unwrap().1.parse().unwrap();
        firsts.push(Duration::from_nanos(seen.saturating_sub(at)));
    }
    firsts.sort();
    let (half, worst) = (benches::percentile(&firsts, 0.5), firsts.last().unwrap());
    let verdict = if *worst <= Duration::from_millis(100) { "met" } else { "MISSED" };
    println!(
        "the first after {idle:?} of nothing, {reads:?}: p50 {half:?}, worst of {times} {worst:?}  bar 100 ms  {verdict}"
    );
    drop(relay);
    tokio::time::sleep(Duration::from_secs(1)).await;
    database.drop_slots().await;
}

#[tokio::main]
async fn main() {
    be_relay_if_asked(Arc::new(StopWatch)).await;
    let idle = std::env::args().nth(1).map_or(IDLE, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    measure(Reads::Wal, [Duration::from_millis(2), Duration::from_millis(15)], idle).await;
    measure(Reads::Poll, [Duration::from_millis(5), Duration::from_millis(25)], idle).await;
}

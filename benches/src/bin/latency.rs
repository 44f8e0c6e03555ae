//! Commit to sink, from another process, on an idle machine: half of the time and 99 of 100 within what.
//!
//! `cargo run --release -p benches --bin latency`

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark measures real time, and may fail")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use benches::stop_watch::{StopWatch, nanos};

const EVENTS: usize = 500;

fn main() {
    let argument = std::env::args().nth(1);
    match argument {
        Some(directory) => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime
                .block_on(benches::relay(directory.as_ref(), Arc::new(StopWatch)).run(std::future::pending()))
                .unwrap();
        }
        None => measure(),
    }
}

fn measure() {
    let directory = tempfile::tempdir().unwrap();
    let connection = benches::database(&directory.path().join("business.db"), "FULL");
    let mut relay =
        Command::new(std::env::current_exe().unwrap()).arg(directory.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(relay.stdout.take().unwrap()).lines();
    let mut samples = Vec::new();
    for number in 0..EVENTS + 20 {
        let number = number as u64;
        connection
            .execute(
                "INSERT INTO outbox (key, type, data) VALUES (?1, 'tick', ?2)",
                (format!("key/{}", number % 50), number.to_string()),
            )
            .unwrap();
        let committed = nanos();
        let line = lines.next().unwrap().unwrap();
        let (id, seen) = line.split_once(' ').unwrap();
        assert_eq!(id, number.to_string());
        samples.push(Duration::from_nanos(seen.parse::<u64>().unwrap().saturating_sub(committed)));
        std::thread::sleep(Duration::from_millis(10));
    }
    relay.kill().unwrap();
    relay.wait().unwrap();
    // The first ones wait for the relay's start.
    let mut samples = samples.split_off(20);
    samples.sort();
    let (half, most) = (benches::percentile(&samples, 0.5), benches::percentile(&samples, 0.99));
    println!("commit to sink, another process: p50 {half:?} (bar 3 ms), p99 {most:?} (bar 15 ms)");
}

//! A relay's memory with a million-event backlog and a stopped sink, and what an idle relay costs.
//!
//! `cargo run --release -p benches --bin footprint`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{fs, path::Path, process::Command, sync::Arc, thread::sleep, time::Duration};

use outbox::{
    System,
    sinks::{
        NullSink,
        webhook::{WebhookSettings, WebhookSink},
    },
};

const BACKLOG: usize = 1_000_000;
const IDLE: Duration = Duration::from_secs(30);

/// A relay in a process of its own, as it would run.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [directory, sink] => run(directory.as_ref(), sink),
        _ => measure(),
    }
}

fn run(directory: &Path, sink: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let relay = if sink == "null" {
            benches::relay(directory, Arc::new(NullSink))
        } else {
            let sink = WebhookSink::new(WebhookSettings::new(sink), Arc::new(System)).unwrap();
            benches::relay(directory, Arc::new(sink))
        };
        relay.run(std::future::pending()).await.unwrap();
    });
}

struct Child(std::process::Child);

impl Child {
    fn start(directory: &Path, sink: &str) -> Self {
        Self(Command::new(std::env::current_exe().unwrap()).arg(directory).arg(sink).spawn().unwrap())
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Ticks of processor time used, a hundred a second.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Write calls so far.
    fn writes(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.0.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap().parse().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("business.db");
    benches::fill(&benches::database(&path, "OFF"), BACKLOG, 10_000);
    // A port where nobody listens.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    {
        let relay = Child::start(directory.path(), &format!("http://{closed}/events"));
        sleep(Duration::from_secs(10));
        let (now, peak) = (relay.status("VmRSS"), relay.status("VmHWM"));
        println!(
            "memory, {BACKLOG} events behind a stopped sink: {} MB RSS, {} MB at most (bar 30 MB)",
            now / 1024,
            peak / 1024
        );
    }
    let directory = tempfile::tempdir().unwrap();
    benches::fill(&benches::database(&directory.path().join("business.db"), "OFF"), 1_000, 10);
    let relay = Child::start(directory.path(), "null");
    sleep(Duration::from_secs(15));
    let (ticks, writes) = (relay.ticks(), relay.writes());
    sleep(IDLE);
    let share = (relay.ticks() - ticks) as f64 / IDLE.as_secs_f64();
    println!(
        "idle: {share:.2} % of a core (bar 0.2 %), {} write calls in {IDLE:?}; the lease is renewed every 3.3 s",
        relay.writes() - writes
    );
}

//! Relays that read a table's stream, killed, stopped and followed, on an emulator of DynamoDB or on AWS.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use aws_sdk_dynamodb::Client;
use outbox::{NewEvent, Place};
use outbox_aws::dynamodb::{Tables, Writer};
use serde_json::Value;

use crate::{
    arrivals::{assert_whole_and_in_order, duplicates},
    aws,
    process::RelayProcess,
    rig::{eventually, now},
    target::{Answer, Target},
};

const KEYS: u32 = 10;
const WINDOW: usize = 100;
/// Calls at a time, each of one event.
const CONCURRENCY: usize = 4;

/// A service's tables, and a folder with configurations of relays that stand in for each other.
struct Service {
    runtime: tokio::runtime::Runtime,
    client: Client,
    prefix: String,
    folder: tempfile::TempDir,
}

impl Service {
    fn new(target: &Target, failover: &str, relays: &[&str]) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("outbox-processes-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let client = runtime.block_on(aws::client());
        let service = Self { runtime, client, prefix, folder: tempfile::tempdir().unwrap() };
        let endpoint =
            aws::endpoint().map_or_else(String::new, |url| format!("endpoint = '{url}'\nregion = 'eu-west-1'\n"));
        for relay in relays {
            let sink = target.sink(&format!("concurrency = {CONCURRENCY}, headers = {{ x-relay = '{relay}' }}"));
            let text = format!(
                "[store]\ndynamodb = '{}'\nproducer = '/orders'\n{endpoint}[relay]\nfailover = '{failover}'\n\
                 [[route]]\nname = 'main'\nwindow = {{ events = {WINDOW}, key_share = 50 }}\n{sink}",
                service.prefix
            );
            std::fs::write(service.folder.path().join(format!("{relay}.toml")), text).unwrap();
        }
        let initialised = service.command("a", &["init"]).output().unwrap();
        assert!(initialised.status.success(), "{}", String::from_utf8_lossy(&initialised.stderr));
        service
    }

    fn command(&self, relay: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
        command.args(["--config", &format!("{relay}.toml")]).args(args).current_dir(self.folder.path());
        if aws::endpoint().is_some() {
            command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        }
        command
    }

    fn relay(&self, relay: &str) -> RelayProcess {
        RelayProcess::start(self.command(relay, &["relay"]), self.folder.path().join(format!("{relay}.log")))
    }

    fn status(&self) -> Value {
        let output = self.command("a", &["--json", "status"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits until the lease is held for the `epoch`-th time, or was.
    fn wait_epoch(&self, epoch: u64) {
        let reached = || self.status()["relay"]["epoch"].as_u64().filter(|now| *now >= epoch);
        eventually(&format!("epoch {epoch}"), reached);
    }

    /// Commits so many entries of each key, the keys at the same time.
    fn write(&self, each: u32) {
        let writer = Writer::new(&self.client, Tables::with_prefix(&self.prefix));
        self.runtime.block_on(async {
            let keys = (0..KEYS).map(|key| {
                let writer = writer.clone();
                tokio::spawn(async move {
                    for number in 0..each {
                        let event = NewEvent::builder("order.placed").key(format!("key/{key}")).json(&number);
                        let mut transaction = writer.transaction();
                        transaction.write([event.build().unwrap()]);
                        transaction.commit().await.unwrap();
                    }
                })
            });
            for key in keys.collect::<Vec<_>>() {
                key.await.unwrap();
            }
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        aws::drop_tables_of(&self.prefix);
    }
}

/// The places of entries with one event: so many of each key.
fn committed(each: u32) -> BTreeMap<String, Vec<Place>> {
    let places = |_| (1..=u64::from(each)).map(|sequence| Place::new(1, sequence, 0)).collect();
    (0..KEYS).map(|key| (format!("key/{key}"), places(key))).collect()
}

/// Waits until so many entries of each key have arrived, and compares.
fn assert_published(target: &Target, each: u32) {
    let all = (KEYS * each) as usize;
    let distinct = || {
        let arrivals = target.arrivals();
        arrivals.len() - duplicates(&arrivals, &[])
    };
    eventually(&format!("{all} events have arrived"), || (distinct() >= all).then_some(()));
    assert_whole_and_in_order(&target.arrivals(), &committed(each));
}

fn of(target: &Target, relay: &str) -> usize {
    target.arrivals().iter().filter(|arrival| arrival.relay.as_deref() == Some(relay)).count()
}

fn slow(pause: u64) -> Target {
    let target = Target::new();
    target.set_mood(move |_| Answer::AcceptAfter(Duration::from_millis(pause)));
    target
}

#[test]
fn a_relay_of_a_stream_killed_again_and_again_loses_nothing_and_keeps_order() {
    const KILLS: usize = 6;
    let target = slow(2);
    let service = Service::new(&target, "1s", &["a"]);
    let mut kills = vec![0];
    for kill in 0..KILLS {
        thread::scope(|scope| {
            scope.spawn(|| service.write(10));
            let relay = service.relay("a");
            // Where in the flow each kill falls differs from kill to kill.
            target.wait_count(kills[kill] + 10 + kill * 37 % 60);
            relay.kill();
            kills.push(target.count());
        });
    }
    let relay = service.relay("a");
    assert_published(&target, 60);
    assert_eq!(relay.stop().code, 0);
    let arrivals = target.arrivals();
    kills.push(arrivals.len());
    for pair in kills.windows(2) {
        let again = duplicates(&arrivals[pair[0]..pair[1]], &arrivals[..pair[0]]);
        assert!(again <= WINDOW, "{again} duplicates after a crash, and the window is {WINDOW}");
    }
}

#[test]
fn a_standby_at_a_stream_takes_over_within_the_failover_time_when_the_owner_is_killed() {
    let target = slow(20);
    let service = Service::new(&target, "2s", &["a", "b"]);
    let owner = service.relay("a");
    service.wait_epoch(1);
    let standby = service.relay("b");
    service.write(40);
    target.wait_count(50);
    assert_eq!(of(&target, "b"), 0, "one publishes, the other waits");
    owner.kill();
    let killed = now();
    eventually("the standby publishes", || (of(&target, "b") > 0).then_some(()));
    let took = now().since(killed);
    // The emulator answers slowly where everything else runs besides.
    assert!(took < Duration::from_secs(2 + 10), "taking over took {took:?} at a failover time of 2 s");
    assert_published(&target, 40);
    assert_eq!(standby.stop().code, 0);
}

#[test]
#[cfg(target_os = "linux")]
fn an_owner_of_a_stream_stopped_past_its_lease_publishes_nothing_more_and_stands_by() {
    let target = slow(20);
    let service = Service::new(&target, "1s", &["a", "b"]);
    let zombie = service.relay("a");
    service.wait_epoch(1);
    let successor = service.relay("b");
    thread::scope(|scope| {
        // However slowly it is written: most of it comes when the owner stands still.
        scope.spawn(|| service.write(40));
        target.wait_count(50);
        zombie.stand_still();
    });
    eventually("the other takes over and publishes", || (of(&target, "b") > 50).then_some(()));
    let before = target.count();
    zombie.signal("CONT");
    eventually("the old owner notices", || zombie.log().contains("standing by").then_some(()));
    assert_published(&target, 40);
    let arrivals = target.arrivals();
    let takeover = arrivals.iter().position(|arrival| arrival.relay.as_deref() == Some("b")).unwrap();
    for (since, what) in [(takeover, "the takeover"), (before, "it went on")] {
        let late = arrivals[since..].iter().filter(|arrival| arrival.relay.as_deref() == Some("a")).count();
        assert!(late <= CONCURRENCY, "{late} publications after {what}, with {CONCURRENCY} in flight at most");
    }
    // It stands by: with its successor gone it owns the stream again.
    successor.kill();
    service.write(10);
    service.wait_epoch(3);
    assert_published(&target, 50);
    assert_eq!(zombie.stop().code, 0);
}

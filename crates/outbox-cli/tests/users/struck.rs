//! The server is killed under load, again and again, and the relay with it every other time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use outbox_sql::postgres::{ConnectOptions, connect};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    company::{WINDOW, log_is_read, until},
    place::Place,
    server,
};

const WRITERS: u64 = 4;
const STRIKES: usize = 6;
/// Events that are published at least before and after a strike.
const BETWEEN: usize = 300;
/// Commits do not wait for the disk, and what they wrote waits long for the writer of the log.
const LAZY: &str = "-c synchronous_commit=off -c wal_writer_delay=300ms -c wal_writer_flush_after=0";

/// A server of a test's own.
struct Server {
    _room: TempDir,
    folder: PathBuf,
    url: String,
}

fn script(arguments: &[&str], folder: &Path, settings: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-postgres");
    let (verb, more) = arguments.split_first().unwrap();
    let mut command = Command::new(script);
    command.arg(verb).arg(folder).args(more).env("OUTBOX_TEST_POSTGRES_SETTINGS", settings).output().unwrap()
}

impl Server {
    fn start(settings: &str) -> Self {
        let room = tempfile::Builder::new().prefix("outbox-struck-").tempdir().unwrap();
        std::fs::set_permissions(room.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let folder = room.path().join("server");
        let started = script(&["start"], &folder, settings);
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success(), "this test needs a PostgreSQL server of its own: {said}");
        let url = String::from_utf8(started.stdout).unwrap().trim().to_owned();
        Self { _room: room, folder, url }
    }

    /// `kill -9`, or an immediate stop: either way nothing in memory is written. Then it is started again.
    async fn strike(&self, with_kill: bool) {
        if with_kill {
            let lock = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
            let killed = Command::new("kill").arg("-9").arg(lock.lines().next().unwrap()).status().unwrap();
            assert!(killed.success());
        }
        // Its sessions take a moment to notice, and have its memory until then.
        until("the server is back", async || script(&["restart", "immediate"], &self.folder, "").status.success())
            .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = script(&["stop"], &self.folder, "");
    }
}

/// Writers at work.
struct Load {
    stop: Arc<AtomicBool>,
    /// The numbers of events whose commit was answered.
    answered: Arc<Mutex<BTreeSet<u64>>>,
    writing: Vec<JoinHandle<()>>,
}

impl Load {
    fn begin(url: &str) -> Self {
        let (stop, answered, next) = <(Arc<AtomicBool>, Arc<Mutex<BTreeSet<u64>>>, Arc<AtomicU64>)>::default();
        let writing = (0..WRITERS).map(|writer| {
            let (stop, answered, next, url) = (stop.clone(), answered.clone(), next.clone(), url.to_owned());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let Ok(session) = connect(&ConnectOptions::parse(&url).unwrap()).await else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    };
                    // Until the connection is lost.
                    while !stop.load(Ordering::SeqCst) {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        let key = if number.is_multiple_of(3) { "all".to_owned() } else { format!("writer/{writer}") };
                        let sql = format!("SELECT outbox.write('{key}', 'counted', '{{\"n\": {number}}}')");
                        if session.batch_execute(&sql).await.is_err() {
                            break;
                        }
                        answered.lock().unwrap().insert(number);
                        // Or the relays never catch up.
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                }
            })
        });
        Self { writing: writing.collect(), stop, answered }
    }

    /// Gives what was answered.
    async fn end(self) -> BTreeSet<u64> {
        self.stop.store(true, Ordering::SeqCst);
        for writer in self.writing {
            writer.await.unwrap();
        }
        std::mem::take(&mut *self.answered.lock().unwrap())
    }
}

/// Each event with its id and number, as they came.
fn published(place: &Place) -> Vec<(String, u64)> {
    let text = place.read("ledger.jsonl");
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.map(|event| (event["id"].as_str().unwrap().to_owned(), event["data"]["n"].as_u64().unwrap())).collect()
}

/// What the table has of each key, in its order.
async fn committed(url: &str) -> BTreeMap<String, Vec<(String, u64)>> {
    let sql = "SELECT key, key || '@' || incarnation || '.' || sequence || '.0', (data::json ->> 'n')::bigint \
        FROM outbox.entries ORDER BY key, sequence";
    let mut committed = BTreeMap::<String, Vec<_>>::new();
    for row in server::session(url).await.query(sql, &[]).await.unwrap() {
        committed.entry(row.get(0)).or_default().push((row.get(1), row.get::<_, i64>(2).unsigned_abs()));
    }
    committed
}

/// Gives how many commits were answered and are not there.
async fn what_is_there_is_published(settings: &str, read: &str) -> usize {
    let (server, place) = (Server::start(settings), Place::new());
    place.write(
        "outbox.toml",
        &format!(
            "[store]\npostgres = '{}'\nproducer = '/orders'\nread = '{read}'\n[relay]\nfailover = '1s'\n\
             [[route]]\nname = 'ledger'\nfile = 'ledger.jsonl'\nwindow = {{ events = {WINDOW}, key_share = 100 }}\n",
            server.url
        ),
    );
    let ran = place.run(&["init"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let load = Load::begin(&server.url);
    let goes_on = async |what: &str| {
        if read == "wal" {
            log_is_read(&server.url).await;
        }
        let before = published(&place).len();
        until(what, async || published(&place).len() >= before + BETWEEN).await;
    };
    for strike in 0..STRIKES {
        let relay = place.relay();
        goes_on("the relay publishes").await;
        if strike.is_multiple_of(2) {
            server.strike(strike.is_multiple_of(4)).await;
            goes_on("the relay goes on").await;
            relay.kill();
        } else {
            relay.kill();
            server.strike(strike % 4 == 1).await;
        }
    }
    let answered = load.end().await;
    let relay = place.relay();
    place.wait_until(|status| status["routes"][0]["backlog"] == 0);
    let ran = relay.stop();
    assert_eq!(ran.code, 0, "{}", ran.err);

    let committed = committed(&server.url).await;
    let mut first = BTreeMap::<String, Vec<_>>::new();
    let mut known = BTreeMap::new();
    let all = published(&place);
    let came = all.len();
    for (id, number) in all {
        match known.insert(id.clone(), number) {
            None => first.entry(id.split_once('@').unwrap().0.to_owned()).or_default().push((id, number)),
            Some(before) => assert_eq!(before, number, "{id}: one id, two events"),
        }
    }
    // Each relay was killed once, and every other of them lost its server besides.
    let (again, most) = (came - known.len(), (STRIKES + STRIKES / 2) * WINDOW);
    assert!(again <= most, "{again} of {came} came again, more than {most}");
    assert_eq!(first, committed, "what is there, each key's in order, and nothing that is not there");
    let there: BTreeSet<u64> = committed.into_values().flatten().map(|(_, number)| number).collect();
    answered.difference(&there).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_commit_is_published_though_server_and_relay_are_killed_under_load() {
    assert_eq!(what_is_there_is_published("", "poll").await, 0, "a commit that was answered is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_commit_in_the_log_is_published_though_server_and_relay_are_killed_under_load() {
    assert_eq!(what_is_there_is_published("", "wal").await, 0, "a commit that was answered is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_kill_of_the_server_took_back_is_published_where_commits_wait_for_no_disk() {
    let lost = what_is_there_is_published(LAZY, "poll").await;
    assert!(lost > 0, "the kills took nothing back: this test proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_kill_of_the_server_took_back_is_published_from_the_log() {
    let lost = what_is_there_is_published(LAZY, "wal").await;
    assert!(lost > 0, "the kills took nothing back: this test proves nothing");
}

//! Sixty-four writers at once, each with the worst habits there are, and readers of each way beside them, which are started
//! anew in the middle of pages. For a quarter of a minute; with `OUTBOX_TEST_LONG=1` in the environment, for two.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::SinkExt as _;
use outbox::{BusinessStore as _, Source, source::Limit};
use outbox_sql::postgres::wal::{WalSettings, WalSource};
use tokio::{sync::Barrier, time::Instant};
use tokio_postgres::Client;

use crate::{
    cluster::{Cluster, session},
    fixture::{Fixture, Route, slot, streams},
    foreign::{DEBEZIUM, Foreign, insert, page},
};

const WRITERS: usize = 64;
/// Those that prepare transactions: the server keeps so many at once.
const PREPARING: usize = 16;
/// How much longer writers go on for readers that have seen too little of the log.
const PATIENCE: Duration = Duration::from_secs(120);
/// Keys that all writers share, so that they wait for each other.
const KEYS: usize = 12;
/// So many pages a reader has to get of the log before the writers may end, if that is its way.
const PAGES_OF_LOG: usize = 20;

fn how_long() -> Duration {
    let is_long = std::env::var("OUTBOX_TEST_LONG").is_ok_and(|value| !value.is_empty() && value != "0");
    Duration::from_secs(if is_long { 120 } else { 15 })
}

/// What writers and readers know of each other.
#[derive(Default)]
struct Progress {
    /// Events that were committed, once `is_done`.
    written: AtomicUsize,
    is_done: AtomicBool,
    /// Readers that got less of the log than they have to: on a slow machine, they need more time.
    behind: AtomicUsize,
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// What a transaction does before and after its `count` rows, and how many of these stay; a statement a line.
fn habit(dice: &mut Dice, writer: usize, round: usize, count: usize, row: &str) -> (String, String, usize) {
    let plain = |before: &str, after: &str| (before.to_owned(), after.to_owned(), count);
    match dice.below(9) {
        0 => ("BEGIN".to_owned(), "ROLLBACK".to_owned(), 0),
        1 => plain(&format!("BEGIN\nSAVEPOINT s\n{row}\nROLLBACK TO s\nSAVEPOINT t"), "RELEASE t\nCOMMIT"),
        2 if writer < PREPARING => {
            let gid = format!("hostile_{}_{writer}_{round}", std::process::id());
            let (end, kept) = if dice.below(3) == 0 { ("ROLLBACK", 0) } else { ("COMMIT", count) };
            let after = format!("PREPARE TRANSACTION '{gid}'\nSELECT pg_sleep(0.02)\n{end} PREPARED '{gid}'");
            ("BEGIN".to_owned(), after, kept)
        }
        // Its number is given long before its rows are written, and they long before it commits.
        3 => plain("BEGIN\nSELECT pg_current_xact_id()\nSELECT pg_sleep(0.05)", "SELECT pg_sleep(0.2)\nCOMMIT"),
        4 => plain("BEGIN\nSET LOCAL synchronous_commit = off", "COMMIT"),
        5 => plain("BEGIN ISOLATION LEVEL READ COMMITTED", "SELECT pg_sleep(0.03)\nCOMMIT"),
        _ => plain("BEGIN", "COMMIT"),
    }
}

async fn run(client: &Client, statements: &str) {
    for statement in statements.lines() {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// Rows without a key, past the function: copied, and with ids that were drawn long before their transaction has a number.
async fn write_past(client: &Client, dice: &mut Dice) -> usize {
    if dice.below(2) == 0 {
        let rows = client.copy_in::<_, Bytes>("COPY outbox.entries (type) FROM STDIN").await.unwrap();
        let mut rows = std::pin::pin!(rows);
        for _ in 0..10 {
            rows.send(Bytes::from_static(b"t\n")).await.unwrap();
        }
        rows.finish().await.unwrap();
        return 10;
    }
    let drawn = "SELECT nextval('outbox.entry_ids') FROM generate_series(1, 3)";
    let ids = client.query(drawn, &[]).await.unwrap();
    run(client, "BEGIN\nSELECT pg_sleep(0.05)").await;
    for id in &ids {
        let id: i64 = id.get(0);
        let sql = format!("INSERT INTO outbox.entries (id, type) OVERRIDING SYSTEM VALUE VALUES ({id}, 't')");
        run(client, &sql).await;
    }
    run(client, "COMMIT").await;
    ids.len()
}

/// The transactions of one writer, for as long as any reader needs them. Gives how many events it committed.
async fn write(url: String, writer: usize, until: Instant, progress: Arc<Progress>) -> usize {
    let client = session(&url).await;
    let mut dice = Dice(writer as u64 + 1);
    let (mut written, mut round) = (0, 0);
    while Instant::now() < until || progress.behind.load(SeqCst) > 0 && Instant::now() < until + PATIENCE {
        round += 1;
        // Sorted, or they deadlock.
        let mut keys: Vec<_> = (0..=dice.below(2)).map(|_| dice.below(KEYS)).collect();
        keys.sort_unstable();
        let own = format!("SELECT outbox.write('own{writer}', 't')");
        let shared: Vec<_> = keys.iter().map(|key| format!("SELECT outbox.write('shared{key}', 't')")).collect();
        let (before, after, kept) = habit(&mut dice, writer, round, keys.len() + 1, &own);
        run(&client, &format!("{before}\n{own}\n{}\n{after}", shared.join("\n"))).await;
        written += kept;
        if dice.below(12) == 0 {
            written += write_past(&client, &mut dice).await;
        }
    }
    written
}

/// How a reader gets at its source; each time anew, as a process would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Poll,
    Log,
    /// The one, then the other.
    Both,
}

/// Gives it once more if it reads the log.
async fn open(service: &Fixture, way: Way, slot: &str, times: usize) -> (Arc<dyn Source>, Option<WalSource>) {
    if way == Way::Poll || way == Way::Both && times.is_multiple_of(2) {
        return (Arc::new(service.store().await), None);
    }
    let source = service.open(WalSettings::new().slot(slot)).await.unwrap();
    (Arc::new(source.clone()), Some(source))
}

/// Reads, and is killed now and then in the middle of a page, until all is read. Gives how many pages were of the log, too.
async fn read(service: Arc<Fixture>, way: Way, progress: Arc<Progress>, ready: Arc<Barrier>) -> (Route, usize) {
    let slot = slot();
    if way != Way::Poll {
        // Making a slot waits for all who are open, and later somebody always is.
        streams(&service.open(WalSettings::new().slot(&slot)).await.unwrap()).await;
    }
    ready.wait().await;
    let mut dice = Dice(way as u64 + 99);
    let mut times = 0;
    let (mut source, mut log) = open(&service, way, &slot, times).await;
    let mut route = Route::new();
    let (mut begun, mut of_log) = (Instant::now(), 0);
    loop {
        route.page = Limit { events: 1 + dice.below(200), bytes: 1 << 20 };
        let (before, position) = (route.events.len(), route.position.clone());
        let more = route.read(&*source).await;
        // Of a transaction that was not polled.
        if route.events.len() > before && route.position.as_str().contains('~') {
            of_log += 1;
            progress.behind.fetch_sub(usize::from(of_log == PAGES_OF_LOG), SeqCst);
        }
        if progress.is_done.load(SeqCst) && route.events.len() >= progress.written.load(SeqCst) {
            return (route, of_log);
        }
        if log.as_ref().is_some_and(|log| log.status().polling.is_some()) {
            // It is not killed before it reads as it is to.
            begun = Instant::now();
        }
        if begun.elapsed() > Duration::from_secs(1) {
            // Killed before it has stored what it read last.
            route.events.truncate(before);
            route.position = position;
            times += 1;
            (source, log) = open(&service, way, &slot, times).await;
            begun = Instant::now();
        } else if !more && route.events.len() == before {
            let _ = tokio::time::timeout(Duration::from_millis(100), source.changed()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixty_four_hostile_writers_nothing_is_lost_doubled_or_out_of_order_by_either_way() {
    let service = Arc::new(Fixture::on(Cluster::start("-c max_connections=300")).await);
    let ways = [Way::Poll, Way::Log, Way::Both];
    let progress = Arc::new(Progress { behind: AtomicUsize::new(ways.len() - 1), ..Progress::default() });
    let ready = Arc::new(Barrier::new(ways.len() + 1));
    let readers: Vec<_> = ways
        .into_iter()
        .map(|way| (way, tokio::spawn(read(service.clone(), way, progress.clone(), ready.clone()))))
        .collect();
    ready.wait().await;
    let until = Instant::now() + how_long();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(service.database.url(), writer, until, progress.clone())))
        .collect();
    for writer in writers {
        progress.written.fetch_add(writer.await.unwrap(), SeqCst);
    }
    progress.is_done.store(true, SeqCst);
    let count = progress.written.load(SeqCst);
    assert!(count > 1_000, "{count} are few");
    for (way, reader) in readers {
        let finished = tokio::time::timeout(Duration::from_secs(60), reader).await;
        let (mut route, of_log) =
            finished.unwrap_or_else(|_| panic!("{way:?}: not all of {count} events came")).unwrap();
        println!("{way:?}: {of_log} pages came of the log");
        assert!(
            if way == Way::Poll { of_log == 0 } else { of_log >= PAGES_OF_LOG },
            "{way:?}: {of_log} pages came of the log"
        );
        let polling = service.store().await;
        route.finish(&polling).await;
        route.is_exact(count);
    }
}

/// Rows that are deleted at once, by writers of the same habits. Gives the types that were committed.
async fn write_foreign(url: String, writer: usize, until: Instant) -> Vec<String> {
    let client = session(&url).await;
    let mut dice = Dice(writer as u64 + 1);
    let (mut kept, mut round) = (Vec::new(), 0);
    while Instant::now() < until {
        round += 1;
        let kinds: Vec<_> = (0..=dice.below(3)).map(|row| format!("{writer}.{round}.{row}")).collect();
        let rows: String = kinds.iter().map(|kind| insert(&writer.to_string(), kind) + "\n").collect();
        let gone = insert(&writer.to_string(), "gone");
        let (before, after, stay) = habit(&mut dice, writer, round, kinds.len(), &gone);
        let mine = format!("DELETE FROM outboxevent WHERE aggregateid = '{writer}'");
        run(&client, &format!("{before}\n{rows}{mine}\n{after}")).await;
        if stay > 0 {
            kept.extend(kinds);
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_rows_that_hostile_writers_delete_at_once_none_is_lost_doubled_or_out_of_order() {
    let mapping = outbox_sql::postgres::Mapping::of(outbox_sql::postgres::Layout::Debezium);
    let service = Foreign::on(Cluster::start("-c max_connections=300"), DEBEZIUM, mapping).await;
    let (mut store, mut at) = service.begun().await;
    let until = Instant::now() + how_long() / 2;
    let writers: Vec<_> =
        (0..WRITERS / 2).map(|writer| tokio::spawn(write_foreign(service.database.url(), writer, until))).collect();
    let (mut came, mut dice, mut begun, mut quiet) = (Vec::new(), Dice(7), Instant::now(), 0);
    loop {
        let is_done = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let found = page(&store, &at, 1 + dice.below(100)).await.unwrap();
        if begun.elapsed() > Duration::from_secs(1) {
            // Killed before it has stored what it read last.
            store.keep_status(&at).await.unwrap();
            store = service.open().await.unwrap();
            begun = Instant::now();
            continue;
        }
        came.extend(found.records.iter().map(|record| record.events()[0].kind().to_owned()));
        at = found.next;
        if found.records.is_empty() && !found.more {
            quiet += usize::from(is_done);
            if quiet > 3 {
                break;
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), store.changed()).await;
        }
    }
    let mut written = 0;
    for (writer, kept) in writers.into_iter().enumerate() {
        let kept = kept.await.unwrap();
        let of_writer: Vec<_> = came.iter().filter(|kind| kind.starts_with(&format!("{writer}."))).cloned().collect();
        assert_eq!(of_writer, kept, "each once, in the order of the commits");
        written += kept.len();
    }
    assert!(came.len() == written && written > 200, "{} came of {written}", came.len());
}

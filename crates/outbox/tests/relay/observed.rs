//! A source that was only ever seen to keep the order of a key: doubled, reordered and missing records.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use outbox::{
    ErrorKind, Key, KeyOrder, Page, Partition, PartitionId, Position, Record, Source, StoreError,
    memory::{MemorySink, MemoryStore},
    relay::RelayError,
    source::{Backlog, Limit},
    store::Registration,
};
use tokio::time::sleep;

use crate::{
    measured::Measured,
    rig::{Rig, Running, arrived, eventually, key, keyless, millis, no_breach, route, run, seconds, settings},
    told::Told,
};

/// How a fetch fares.
#[derive(Clone, Copy)]
enum Table {
    Whole,
    Empty,
    Throttled,
    Refused,
}

/// The entries of a store in another order, some of them twice: at each place of the stream stands what was written as
/// number `shows` of all. Places keep the positions that the store has, so that the store knows them.
struct Stream {
    store: Arc<MemoryStore>,
    shows: Vec<usize>,
    /// How many places can be read yet.
    open: AtomicUsize,
    order: KeyOrder,
    table: Mutex<Table>,
    fetched: Mutex<Vec<(Key, Vec<u64>)>>,
}

impl Stream {
    fn new(rig: &Rig, shows: impl IntoIterator<Item = usize>) -> Arc<Self> {
        let shows: Vec<_> = shows.into_iter().collect();
        // A place for what comes twice is made of a row that never shows.
        while rig.store.len() < shows.len() {
            rig.store.write([keyless()]).unwrap();
        }
        Arc::new(Self {
            store: Arc::new(rig.store.reopen()),
            open: AtomicUsize::new(shows.len()),
            shows,
            order: KeyOrder::Observed,
            table: Mutex::new(Table::Whole),
            fetched: Mutex::default(),
        })
    }

    /// The same stream, as another process would open it.
    fn reopen(&self) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::new(self.store.reopen()),
            open: AtomicUsize::new(self.open.load(Relaxed)),
            shows: self.shows.clone(),
            order: self.order,
            table: Mutex::new(Table::Whole),
            fetched: Mutex::default(),
        })
    }

    fn on(&self, table: Table) {
        *self.table.lock().unwrap() = table;
    }

    fn run(self: &Arc<Self>, rig: &Rig, sink: &Arc<MemorySink>) -> Running {
        run(rig.relay_on(self.clone(), self.store.clone()).route(settings("all"), sink.clone()))
    }
}

#[async_trait]
impl Source for Stream {
    fn key_order(&self) -> KeyOrder {
        self.order
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        self.store.order(left, right)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        self.store.partitions().await
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.store.start(partition, registration).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        let all = Limit { events: usize::MAX, bytes: usize::MAX };
        let rows = self.store.read(partition, &Position::new("0"), all).await?.records;
        let begin = rows.iter().position(|row| row.position == *after).map_or(0, |row| row + 1);
        let open = self.open.load(Relaxed);
        let end = (begin + limit.events).min(open).max(begin);
        let records: Vec<_> = (begin..end)
            .map(|place| {
                Arc::new(Record { content: rows[self.shows[place]].content.clone(), ..(*rows[place]).clone() })
            })
            .collect();
        let next = records.last().map_or_else(|| after.clone(), |last| last.position.clone());
        Ok(Page { records, next, more: end < open, end: false })
    }

    async fn fetch(&self, key: &Key, sequences: &[u64]) -> Result<Vec<Option<Arc<Record>>>, StoreError> {
        self.fetched.lock().unwrap().push((key.clone(), sequences.to_vec()));
        let table = *self.table.lock().unwrap();
        match table {
            Table::Whole => self.store.fetch(key, sequences).await,
            Table::Empty => Ok(vec![None; sequences.len()]),
            Table::Throttled => Err(StoreError::new(ErrorKind::Unavailable, "the table is throttled")),
            Table::Refused => Err(StoreError::new(ErrorKind::Invalid, "nobody may read the table: allow it")),
        }
    }

    async fn changed(&self) {
        sleep(millis(20)).await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        self.store.backlog(partition, after).await
    }
}

/// What was counted of the source, by the last words of the metric's name.
fn counted<const N: usize>(measured: &Measured, names: [&str; N]) -> [u64; N] {
    names.map(|name| measured.counter(&format!("outbox_source_{name}_total all")))
}

/// How often each event arrived.
fn arrivals(sink: &MemorySink) -> BTreeMap<String, usize> {
    let mut arrivals = BTreeMap::new();
    for id in sink.ids() {
        *arrivals.entry(id).or_default() += 1;
    }
    arrivals
}

/// Entries of five keys, fifty each, in a stream that reverses every three of a key and gives every fourth again. The
/// first of a key comes first.
fn disordered(rig: &Rig) -> Arc<Stream> {
    const KEYS: usize = 5;
    for _ in 0..50 {
        (0..KEYS).for_each(|key| drop(rig.write(&format!("key/{key}"), 1)));
    }
    let (first, later): (Vec<_>, Vec<_>) = (0..50 * KEYS).partition(|row| *row < KEYS);
    let mut shows = first;
    for block in later.chunks(3 * KEYS) {
        shows.extend(block.iter().rev());
        shows.extend(block.iter().step_by(4));
    }
    Stream::new(rig, shows)
}

#[tokio::test(start_paused = true)]
async fn doubled_and_reordered_records_arrive_once_and_in_order() {
    let rig = Rig::new();
    let stream = disordered(&rig);
    let sink = Arc::new(MemorySink::default());
    let relay = stream.run(&rig, &sink);
    rig.caught_up("all").await;
    relay.stop().await;
    assert_eq!(arrivals(&sink).len(), 250);
    assert_eq!(sink.ids().len(), 250, "none twice");
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn what_the_stream_leaves_out_is_fetched_and_not_published_again_when_it_comes() {
    let measured = Measured::begin();
    let rig = Rig::new();
    let written = rig.write("a", 3);
    let stream = Stream::new(&rig, [0, 2, 1]);
    stream.open.store(2, Relaxed);
    let sink = Arc::new(MemorySink::default());
    let relay = stream.run(&rig, &sink);
    arrived(&sink, 3).await;
    assert_eq!(*stream.fetched.lock().unwrap(), [(key("a"), vec![2])]);
    stream.open.store(3, Relaxed);
    rig.caught_up("all").await;
    relay.stop().await;
    assert_eq!(sink.ids(), written);
    assert_eq!(counted(&measured, ["fetched", "duplicates", "inversions", "gaps"]), [1, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_is_repeated_and_other_keys_go_on() {
    let rig = Rig::new();
    let written = rig.write("a", 3);
    rig.write("b", 1);
    let stream = Stream::new(&rig, [0, 2, 3, 1]);
    stream.open.store(3, Relaxed);
    stream.on(Table::Throttled);
    let sink = Arc::new(MemorySink::default());
    let relay = stream.run(&rig, &sink);
    arrived(&sink, 2).await;
    sleep(seconds(600)).await;
    assert_eq!(sink.ids(), [&*written[0], "b@1.1.0"], "nobody goes on without an entry of which nothing is known");
    assert!(stream.fetched.lock().unwrap().len() > 5);
    stream.on(Table::Whole);
    arrived(&sink, 4).await;
    relay.stop().await;
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_wherever_the_relay_is_killed() {
    for open in [7, 23, 60, 111, 190] {
        let rig = Rig::new();
        let stream = disordered(&rig);
        let everything = stream.shows.len();
        stream.open.store(open, Relaxed);
        // What has to be fetched waits until the kill.
        stream.on(Table::Throttled);
        let sink = Arc::new(MemorySink::default());
        let relay = stream.run(&rig, &sink);
        arrived(&sink, open / 4).await;
        sleep(seconds(1)).await;
        relay.kill().await;
        no_breach(&sink);
        let again = stream.reopen();
        again.open.store(everything, Relaxed);
        let relay = again.run(&rig, &sink);
        rig.caught_up("all").await;
        relay.stop().await;
        assert_eq!(arrivals(&sink).len(), 250, "killed after {open} records");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_comes_late_to_a_relay_that_has_just_begun_is_published_and_told_of() {
    let (told, measured) = (Told::begin(), Measured::begin());
    let rig = Rig::new();
    rig.write("a", 4);
    let stream = Stream::new(&rig, [0, 2, 1, 3]);
    stream.open.store(2, Relaxed);
    stream.on(Table::Throttled);
    let sink = Arc::new(MemorySink::default());
    let relay = stream.run(&rig, &sink);
    arrived(&sink, 1).await;
    eventually("the first is behind the checkpoint", async || rig.checkpoint(&route("all")).await.is_some()).await;
    relay.kill().await;
    // The relay that takes over knows nothing of what is missing.
    let again = stream.reopen();
    let relay = again.run(&rig, &sink);
    arrived(&sink, 2).await;
    again.open.store(4, Relaxed);
    arrived(&sink, 4).await;
    relay.stop().await;
    assert_eq!(sink.ids(), ["a@1.1.0", "a@1.3.0", "a@1.2.0", "a@1.4.0"]);
    let [warning] = &told.lines("WARN", "after later ones of its key")[..] else { panic!("told once") };
    assert!(warning.contains("key=a") && warning.contains("place=1.2.0"), "{warning}");
    assert_eq!(counted(&measured, ["inversions", "duplicates", "gaps"]), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_nowhere_is_told_of_once_patience_has_passed_and_its_key_goes_on() {
    let (told, measured) = (Told::begin(), Measured::begin());
    let rig = Rig::new();
    rig.write("a", 3);
    rig.write("b", 1);
    let stream = Stream::new(&rig, [0, 2, 3, 1]);
    stream.open.store(3, Relaxed);
    stream.on(Table::Empty);
    let sink = Arc::new(MemorySink::default());
    let relay = rig.relay_on(stream.clone(), stream.store.clone()).missing_patience(seconds(100));
    let relay = run(relay.route(settings("all"), sink.clone()));
    arrived(&sink, 2).await;
    sleep(seconds(90)).await;
    assert_eq!(sink.ids().len(), 2);
    sleep(seconds(20)).await;
    assert_eq!(sink.ids(), ["a@1.1.0", "b@1.1.0", "a@1.3.0"]);
    relay.stop().await;
    let [error] = &told.lines("ERROR", "entries are missing")[..] else { panic!("told once") };
    assert!(error.contains("key=a") && error.contains("sequences=[2]"), "{error}");
    assert_eq!(counted(&measured, ["gaps", "fetched"]), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_read_stops_the_relay_with_its_remedy() {
    let rig = Rig::new();
    rig.write("a", 3);
    let stream = Stream::new(&rig, [0, 2, 1]);
    stream.open.store(2, Relaxed);
    stream.on(Table::Refused);
    let relay = stream.run(&rig, &Arc::new(MemorySink::default()));
    let error = relay.ended().await.unwrap_err().to_string();
    assert!(error.contains("nobody may read the table: allow it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_source_without_any_order_is_refused_with_the_reason() {
    let rig = Rig::new();
    let stream = Arc::new(Stream { order: KeyOrder::None, ..Arc::into_inner(Stream::new(&rig, [])).unwrap() });
    let relay = rig.relay_on(stream.clone(), stream.store.clone());
    let refused = relay.route(settings("all"), Arc::new(MemorySink::default())).build();
    let Err(RelayError::Invalid(message)) = refused.map(|_| ()) else { panic!("it is refused") };
    assert!(message.contains("in any order"), "{message}");
}

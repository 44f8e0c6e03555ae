use super::*;
use crate::{
    clock::Clock as _,
    event::NewEvent,
    memory::{ManualClock, SeededEntropy},
    route::{RouteName, Start},
};

const PLENTY: Limit = Limit { events: 1_000, bytes: 16 << 20 };
const HOUR: Duration = Duration::from_secs(3600);

struct Rig {
    clock: Arc<ManualClock>,
    store: MemoryStore,
    stream: MemoryStream,
}

fn rig(settings: StreamSettings) -> Rig {
    let clock = Arc::new(ManualClock::default());
    let store = MemoryStore::new("/tests", clock.clone(), Arc::new(SeededEntropy::new(1))).unwrap();
    let stream = MemoryStream::new(&store, settings);
    Rig { clock, store, stream }
}

impl Rig {
    fn write(&self, keys: &[&str]) {
        for key in keys {
            self.store.write([NewEvent::builder("t").key(*key).json(&1).build().unwrap()]).unwrap();
        }
    }

    fn only(&self) -> PartitionId {
        self.stream.open_shards().pop().unwrap()
    }

    async fn read_on(&self, partition: &PartitionId, after: &Position) -> (Vec<String>, Page) {
        let (mut ids, mut position) = (Vec::new(), after.clone());
        loop {
            let page = self.stream.read(partition, &position, PLENTY).await.unwrap();
            ids.extend(page.records.iter().flat_map(|r| r.events().to_vec()).map(|event| event.id().to_owned()));
            if !page.more {
                return (ids, page);
            }
            assert_ne!(page.next, position, "a page that says there is more gets on");
            position = page.next;
        }
    }

    async fn all(&self, partition: &PartitionId) -> Vec<String> {
        let beginning = self.stream.beginning(partition).await.unwrap();
        self.read_on(partition, &beginning).await.0
    }

    async fn checkpoint(&self, partition: &PartitionId) -> Checkpoint {
        let beginning = self.stream.beginning(partition).await.unwrap();
        let position = self.read_on(partition, &beginning).await.1.next;
        Checkpoint { partition: partition.clone(), position, finished: false }
    }
}

fn registration(start: Start) -> Registration {
    Registration {
        route: RouteName::stored("r"),
        filter: crate::filter::Filter::default(),
        start,
        start_position: None,
        max_event_bytes: 1 << 20,
        gapless: true,
        registered: Timestamp::UNIX_EPOCH,
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn a_split_shard_ends_and_each_key_goes_on_in_one_child() {
    let rig = rig(StreamSettings::default());
    let keys = ["a", "b", "c", "d", "e", "f"];
    rig.write(&keys);
    let parent = rig.only();
    let children = rig.stream.split(&parent).unwrap();
    rig.write(&keys);
    assert_eq!(rig.all(&parent).await.len(), 6);
    let beginning = rig.stream.beginning(&parent).await.unwrap();
    assert!(rig.read_on(&parent, &beginning).await.1.end);
    let mut later = Vec::new();
    for child in &children {
        assert!(!rig.all(child).await.is_empty(), "both take some keys");
        let beginning = rig.stream.beginning(child).await.unwrap();
        assert!(!rig.read_on(child, &beginning).await.1.end);
        later.extend(rig.all(child).await);
    }
    later.sort();
    assert_eq!(later, keys.map(|key| format!("{key}@1.2.0")));
    let merged = rig.stream.merge(&children[0], &children[1]).unwrap();
    rig.write(&keys);
    assert_eq!(rig.all(&merged).await.len(), 6);
    let listed = rig.stream.partitions().await.unwrap();
    assert_eq!(listed.iter().find(|listed| listed.id == merged).unwrap().parents, children);
    assert_eq!(kind(rig.stream.roll(&parent)), ErrorKind::Invalid);
}

#[tokio::test]
async fn what_was_trimmed_is_told_and_a_closed_shard_that_is_empty_goes() {
    let rig = rig(StreamSettings::default());
    rig.write(&["a", "a", "a"]);
    let shard = rig.only();
    let behind_all = rig.checkpoint(&shard).await.position;
    let beginning = rig.stream.beginning(&shard).await.unwrap();
    let first = rig.stream.read(&shard, &beginning, Limit { events: 1, ..PLENTY }).await.unwrap().next;
    assert_eq!(rig.stream.trim_to(2), 2);
    assert_eq!(kind(rig.stream.read(&shard, &beginning, PLENTY).await), ErrorKind::Trimmed);
    assert_eq!(kind(rig.stream.read(&shard, &first, PLENTY).await), ErrorKind::Trimmed);
    assert_eq!(kind(rig.stream.start(&shard, &registration(Start::Beginning)).await), ErrorKind::Trimmed);
    assert!(rig.stream.read(&shard, &behind_all, PLENTY).await.unwrap().records.is_empty());
    let child = rig.stream.roll(&shard).unwrap();
    rig.clock.advance(HOUR);
    rig.stream.trim_before(rig.clock.wall());
    let listed = rig.stream.partitions().await.unwrap();
    assert_eq!(listed, [Partition { id: child.clone(), parents: vec![shard.clone()] }]);
    assert_eq!(kind(rig.stream.read(&shard, &behind_all, PLENTY).await), ErrorKind::Trimmed);
    // What was before it is part of where a route would start.
    assert_eq!(kind(rig.stream.start(&child, &registration(Start::Beginning)).await), ErrorKind::Trimmed);
    assert!(rig.stream.beginning(&child).await.is_ok());
}

#[tokio::test]
async fn a_recovery_reads_the_table_key_by_key_from_what_was_read_last_and_shards_go_on_behind_it() {
    let rig = rig(StreamSettings::default());
    let shard = rig.only();
    rig.write(&["old"]);
    rig.clock.advance(HOUR * 10);
    rig.write(&["b", "a"]);
    let checkpoint = rig.checkpoint(&shard).await;
    rig.clock.advance(HOUR * 30);
    rig.write(&["b", "a", "b"]);
    rig.clock.advance(HOUR * 10);
    rig.stream.trim_before(rig.clock.wall());
    rig.write(&["a"]);
    let recovery = rig.stream.recovery(&registration(Start::Beginning), &[checkpoint]).await.unwrap().unwrap();
    assert!(recovery.partition.is_recovery());
    let expected = ["a@1.1.0", "a@1.2.0", "a@1.3.0", "b@1.1.0", "b@1.2.0", "b@1.3.0"];
    let (ids, last) = rig.read_on(&recovery.partition, &recovery.position).await;
    assert_eq!((ids.as_slice(), last.end), (expected.map(str::to_owned).as_slice(), true), "not what is older");
    let small = rig.stream.read(&recovery.partition, &recovery.position, Limit { events: 4, ..PLENTY }).await.unwrap();
    assert!(small.more && !small.end);
    assert_eq!(rig.read_on(&recovery.partition, &small.next).await.0, expected[4..]);
    assert_eq!(rig.stream.backlog(&recovery.partition, &small.next).await.unwrap().entries, 2);
    rig.clock.advance(HOUR * 2);
    rig.write(&["c"]);
    let after = rig.stream.after_recovery(&recovery.partition, &shard).await.unwrap();
    assert_eq!(rig.read_on(&shard, &after).await.0, ["a@1.3.0", "c@1.1.0"], "what the slack makes come again");
    rig.clock.advance(HOUR);
    rig.stream.trim_before(rig.clock.wall());
    assert_eq!(kind(rig.stream.after_recovery(&recovery.partition, &shard).await), ErrorKind::Trimmed);
}

#[tokio::test]
async fn a_route_that_never_began_recovers_from_its_start() {
    let rig = rig(StreamSettings { slack: Duration::ZERO, ..StreamSettings::default() });
    rig.write(&["a"]);
    rig.clock.advance(HOUR);
    let since = rig.clock.wall();
    rig.write(&["a"]);
    for (start, expected) in [(Start::Beginning, 2), (Start::Time(since), 1)] {
        let recovery = rig.stream.recovery(&registration(start), &[]).await.unwrap().unwrap();
        assert_eq!(rig.read_on(&recovery.partition, &recovery.position).await.0.len(), expected);
    }
    // A stream that is younger than the table says so.
    let younger = MemoryStream::new(&rig.store, StreamSettings::default());
    let shard = younger.open_shards().pop().unwrap();
    assert_eq!(kind(younger.start(&shard, &registration(Start::Beginning)).await), ErrorKind::Trimmed);
}

#[tokio::test]
async fn habits_befall_the_same_records_for_the_same_seed_and_leave_each_key_in_order() {
    let keys: Vec<String> = (0..200).map(|n| format!("k{}", n % 7)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let habits = Habits { seed: 5, doubling: true, swapping: true, empty_pages: true, reordering: false };
    let run = async |seed| {
        let rig = rig(StreamSettings { habits: Habits { seed, ..habits }, ..StreamSettings::default() });
        rig.write(&keys);
        rig.all(&rig.only()).await
    };
    let read = run(5).await;
    assert_eq!(read, run(5).await);
    assert_ne!(read, run(6).await);
    assert!(read.len() > 220, "some come twice: {}", read.len());
    let mut distinct = read.clone();
    distinct.dedup();
    let of_key = |ids: &[String], key: &str| {
        let mut ids: Vec<_> = ids.iter().filter(|id| id.starts_with(&format!("{key}@"))).cloned().collect();
        ids.dedup();
        ids
    };
    for key in &keys[..7] {
        let expected: Vec<_> = (1..=of_key(&read, key).len()).map(|n| format!("{key}@1.{n}.0")).collect();
        assert_eq!(of_key(&read, key), expected, "each key in order");
    }
    let first = distinct.iter().map(|id| id.split('@').next().unwrap()).take(7).collect::<Vec<_>>();
    let swapped = distinct
        .chunks(7)
        .any(|chunk| chunk.iter().map(|id| id.split('@').next().unwrap()).ne(keys[..7].iter().copied()));
    assert!(swapped, "some change places: {first:?}");
}

#[tokio::test]
async fn a_stream_that_reorders_says_that_it_promises_no_order_and_keeps_none() {
    let habits = Habits { reordering: true, seed: 1, ..Habits::default() };
    let rig = rig(StreamSettings { habits, ..StreamSettings::default() });
    assert_eq!(rig.stream.key_order(), KeyOrder::Observed);
    rig.write(&["a"; 50]);
    let read = rig.all(&rig.only()).await;
    let in_order: Vec<_> = (1..=50).map(|n| format!("a@1.{n}.0")).collect();
    assert_ne!(read, in_order);
    let key = Key::new("a").unwrap();
    assert!(rig.stream.fetch(&key, &[7]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn a_page_may_come_empty_first_and_says_that_there_is_more() {
    let habits = Habits { empty_pages: true, seed: 3, ..Habits::default() };
    let rig = rig(StreamSettings { habits, ..StreamSettings::default() });
    rig.write(&["a"; 30]);
    let shard = rig.only();
    let (mut position, mut empty) = (rig.stream.beginning(&shard).await.unwrap(), 0);
    loop {
        let page = rig.stream.read(&shard, &position, Limit { events: 1, ..PLENTY }).await.unwrap();
        let rises = rig.stream.order(&position, &page.next).is_lt();
        assert!(rises || !page.more);
        empty += u32::from(page.records.is_empty() && page.more);
        position = page.next;
        if !page.more {
            break;
        }
    }
    assert!(empty > 3, "{empty}");
    assert_eq!(rig.all(&shard).await.len(), 30);
}

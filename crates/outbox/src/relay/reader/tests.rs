//! Who is read for, where several stand at several positions.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Delivery, PAGE, Request, run, within};
use crate::{
    entry::{CommitId, Content, Position, Record},
    error::StoreError,
    relay::wake::Wake,
    route::RouteName,
    source::{Backlog, KeyOrder, Limit, Page, Partition, PartitionId, Source},
    store::Registration,
    testing_event,
};

/// Its positions are `NUMBER/NAME`, ordered by the number. Behind those with the name `nothing` nothing ever comes.
#[derive(Default)]
struct Quiet {
    reads: AtomicUsize,
    /// How much was to be read the last time.
    limit: Mutex<Option<Limit>>,
}

fn number(position: &Position) -> u64 {
    position.as_str().split('/').next().unwrap().parse().unwrap()
}

#[async_trait]
impl Source for Quiet {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Observed
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        number(left).cmp(&number(right))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(Vec::new())
    }

    async fn start(&self, _: &PartitionId, _: &Registration) -> Result<Position, StoreError> {
        Ok(Position::new("0/nothing"))
    }

    async fn read(&self, _: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        *self.limit.lock().unwrap() = Some(limit);
        self.reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let moved = Position::new(format!("{}/nothing", number(after) + 1));
        let next = if after.as_str().ends_with("/nothing") { after.clone() } else { moved };
        Ok(Page { records: Vec::new(), next, more: false, end: false })
    }

    async fn changed(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn backlog(&self, _: &PartitionId, _: &Position) -> Result<Backlog, StoreError> {
        Ok(Backlog { entries: 0, exact: true, oldest: None })
    }
}

/// Has a route stand at each of these positions, and once all but the last have been looked at for a while, at that. Only
/// there something comes.
async fn something_comes_at_the_last(positions: &[&str]) {
    let source = Arc::new(Quiet::default());
    let (asking, requests) = mpsc::unbounded_channel();
    let (reply, mut delivered) = mpsc::unbounded_channel::<Delivery>();
    let wake = Arc::new(Wake::new(source.clone()));
    let reading = tokio::spawn(run(source.clone(), wake, PartitionId::new("shard"), requests));
    let ask = |pipeline: usize| {
        let route = RouteName::new(format!("route-{pipeline}")).unwrap();
        let (after, credit) = (Position::new(positions[pipeline]), Limit { events: 10, bytes: 1000 });
        asking.send(Request { route, pipeline, after, credit, reply: reply.clone() }).unwrap();
    };
    let last = positions.len() - 1;
    (0..last).for_each(ask);
    let looked = async {
        while source.reads.load(std::sync::atomic::Ordering::SeqCst) < 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looked).await.expect("it goes on looking");
    ask(last);
    let found = tokio::time::timeout(Duration::from_secs(20), delivered.recv()).await.unwrap().unwrap();
    assert_eq!(found.pipeline, last);
    reading.abort();
}

#[tokio::test]
async fn a_route_at_the_front_keeps_none_waiting_that_stands_at_another_position_there() {
    something_comes_at_the_last(&["5/nothing", "5/something"]).await;
}

#[tokio::test]
async fn the_route_furthest_behind_keeps_none_waiting_while_nothing_comes_for_it() {
    something_comes_at_the_last(&["9/nothing", "1/nothing", "2/something"]).await;
}

/// Entries of so many events each.
fn records(events: &[u64]) -> Vec<Arc<Record>> {
    let record = |&count: &u64| {
        let events = (1..=count).map(|number| testing_event("order.placed", Some("a"), number));
        let (position, content) = (Position::new("1"), Content::Events(events.collect()));
        Arc::new(Record { position, commit: CommitId([7; 16]), recorded: jiff::Timestamp::UNIX_EPOCH, content })
    };
    events.iter().map(record).collect()
}

#[test]
fn a_route_gets_no_more_than_it_can_take_by_events_and_by_bytes_but_for_one_entry() {
    let records = records(&[1, 2, 3]);
    let bytes = |count: usize| records[..count].iter().map(|record| record.weight()).sum::<usize>();
    let given = |events, bytes| within(&records, Limit { events, bytes }).len();
    assert_eq!([0, 1, 2, 3, 5, 6].map(|events| given(events, usize::MAX)), [1, 1, 1, 2, 2, 3]);
    let bounds = [1, bytes(1), bytes(2) - 1, bytes(2), bytes(3) - 1, bytes(3)];
    assert_eq!(bounds.map(|bytes| given(usize::MAX, bytes)), [1, 1, 1, 2, 2, 3]);
}

#[tokio::test]
async fn no_more_is_read_than_the_route_that_asks_can_take_nor_than_a_page() {
    for (credit, read) in [
        (Limit { events: 10, bytes: 1000 }, Limit { events: 10, bytes: 1000 }),
        (Limit { events: PAGE.events * 2, bytes: PAGE.bytes * 2 }, PAGE),
    ] {
        let source = Arc::new(Quiet::default());
        let (asking, requests) = mpsc::unbounded_channel();
        let (reply, mut delivered) = mpsc::unbounded_channel::<Delivery>();
        let wake = Arc::new(Wake::new(source.clone()));
        let reading = tokio::spawn(run(source.clone(), wake, PartitionId::new("shard"), requests));
        let (route, after) = (RouteName::new("one").unwrap(), Position::new("5/something"));
        asking.send(Request { route, pipeline: 0, after, credit, reply }).unwrap();
        tokio::time::timeout(Duration::from_secs(20), delivered.recv()).await.unwrap().unwrap();
        assert_eq!(*source.limit.lock().unwrap(), Some(read));
        reading.abort();
    }
}

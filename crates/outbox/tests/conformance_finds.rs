//! A suite that finds nothing proves nothing: each of these backends has one defect, and the suite names it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{cmp::Ordering, sync::Arc};

use async_trait::async_trait;
use outbox::{
    Batch, Event, KeyOrder, Outcome, Page, Partition, PartitionId, Position, Sink, SinkError, SinkLimits, Source,
    StoreError, WriteError,
    memory::{ManualClock, MemorySink, MemoryStore, SeededEntropy},
    source::{Backlog, Limit},
    store::Registration,
    testing::{
        Delivery, Opened, SinkUnderTest, StoreUnderTest, Transaction, WriterUnderTest,
        conformance::{sink, source},
        faults::{FaultySink, SinkFault, SinkFaults},
    },
    writer::{Receipt, Settled},
};

#[derive(Clone, Copy, PartialEq)]
enum SinkDefect {
    ForgetsAnOutcome,
    Reorders,
    SwallowsDuplicates,
    AcceptsBeforeItArrives,
    BlamesTheEvent,
}

struct DefectiveSink {
    inner: Arc<MemorySink>,
    defect: SinkDefect,
}

#[async_trait]
impl Sink for DefectiveSink {
    fn limits(&self) -> SinkLimits {
        self.inner.limits()
    }

    fn size(&self, event: &Event) -> usize {
        self.inner.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.inner.check().await
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let mut batch = batch.clone();
        let accepted = vec![Outcome::Accepted; batch.events.len()];
        match self.defect {
            SinkDefect::ForgetsAnOutcome => {
                let faults = SinkFaults::default();
                faults.once(SinkFault::ShortAnswer);
                FaultySink::new(self.inner.clone(), faults).publish(&batch).await
            }
            SinkDefect::Reorders => {
                batch.events.reverse();
                self.inner.publish(&batch).await
            }
            SinkDefect::SwallowsDuplicates => {
                let known = self.inner.ids();
                batch.events.retain(|event| !known.iter().any(|id| id == event.id()));
                self.inner.publish(&batch).await?;
                Ok(accepted)
            }
            SinkDefect::AcceptsBeforeItArrives => Ok(accepted),
            SinkDefect::BlamesTheEvent => match self.inner.publish(&batch).await {
                Ok(outcomes) => Ok(outcomes),
                Err(error) => {
                    let refused = Outcome::Refused { permanent: true, reason: error.message };
                    Ok(vec![refused; batch.events.len()])
                }
            },
        }
    }
}

struct Defective(Arc<MemorySink>, SinkDefect);

#[async_trait]
impl SinkUnderTest for Defective {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(DefectiveSink { inner: self.0.clone(), defect: self.1 })
    }

    async fn delivered(&self) -> Vec<Delivery> {
        let accepted = self.0.accepted().into_iter();
        accepted.map(|a| Delivery { id: a.event.id().to_owned(), data: a.event.data().cloned() }).collect()
    }

    async fn take_away(&self) -> bool {
        self.0.break_down(outbox::Fault::Sink, "nobody listens: start the target");
        true
    }
}

async fn run_sink_suite(defect: SinkDefect) {
    sink::all(async || Defective(Arc::new(MemorySink::default()), defect)).await;
}

#[tokio::test]
#[should_panic(expected = "one outcome for each event")]
async fn a_sink_that_forgets_an_outcome_is_found() {
    let sink = Defective(Arc::new(MemorySink::default()), SinkDefect::ForgetsAnOutcome);
    sink::there_is_one_outcome_for_each_event(&sink).await;
}

#[tokio::test]
#[should_panic(expected = "events of an ordered call arrive in order")]
async fn a_sink_that_reorders_is_found() {
    run_sink_suite(SinkDefect::Reorders).await;
}

#[tokio::test]
#[should_panic(expected = "no dedup id may swallow it")]
async fn a_sink_that_swallows_replays_is_found() {
    run_sink_suite(SinkDefect::SwallowsDuplicates).await;
}

#[tokio::test]
#[should_panic(expected = "what is accepted has arrived")]
async fn a_sink_that_accepts_too_early_is_found() {
    run_sink_suite(SinkDefect::AcceptsBeforeItArrives).await;
}

#[tokio::test]
#[should_panic(expected = "an absent target is the sink's fault")]
async fn a_sink_that_blames_events_for_its_target_is_found() {
    run_sink_suite(SinkDefect::BlamesTheEvent).await;
}

#[derive(Clone, Copy, PartialEq)]
enum SourceDefect {
    SkipsWhatFollowsAPage,
    NeverSaysMore,
    SpinsAtTheEnd,
    TakesAnyPosition,
}

struct DefectiveSource {
    inner: MemoryStore,
    defect: SourceDefect,
}

impl DefectiveSource {
    async fn read_defectively(
        &self,
        partition: &PartitionId,
        after: &Position,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let mut page = self.inner.read(partition, after, limit).await?;
        match self.defect {
            SourceDefect::SkipsWhatFollowsAPage if page.more => {
                page.next = self.inner.read(partition, &page.next, Limit { events: 1, bytes: 1 }).await?.next;
            }
            SourceDefect::NeverSaysMore => page.more = false,
            SourceDefect::SpinsAtTheEnd => page.more = true,
            SourceDefect::SkipsWhatFollowsAPage | SourceDefect::TakesAnyPosition => {}
        }
        Ok(page)
    }
}

#[async_trait]
impl Source for DefectiveSource {
    fn key_order(&self) -> KeyOrder {
        self.inner.key_order()
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        self.inner.order(left, right)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        self.inner.partitions().await
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.inner.start(partition, registration).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        let read = self.read_defectively(partition, after, limit).await;
        if self.defect == SourceDefect::TakesAnyPosition && read.is_err() {
            return Ok(Page { records: Vec::new(), next: after.clone(), more: false, end: false });
        }
        read
    }

    async fn changed(&self) {
        self.inner.changed().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        self.inner.backlog(partition, after).await
    }
}

struct DefectiveStore(MemoryStore, outbox::memory::Snapshot, SourceDefect);

impl DefectiveStore {
    fn new(defect: SourceDefect) -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(7)));
        let store = MemoryStore::new("/tests", clock, entropy).unwrap();
        let empty = store.snapshot();
        Self(store, empty, defect)
    }
}

#[async_trait]
impl WriterUnderTest for DefectiveStore {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut transaction = self.0.transaction();
        let mut receipts = Vec::new();
        for write in asked.writes {
            receipts.extend(transaction.write_expecting(write.expected, write.events)?);
        }
        transaction.commit()?;
        Ok(receipts)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        self.0.settle(receipt)
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(DefectiveSource { inner: self.0.clone(), defect: self.2 })
    }
}

#[async_trait]
impl StoreUnderTest for DefectiveStore {
    async fn open(&self) -> Opened {
        Opened { source: self.source().await, store: Arc::new(self.0.clone()) }
    }

    async fn back_up(&self) {}

    async fn restore(&self) {
        self.0.restore(&self.1);
    }
}

#[tokio::test]
#[should_panic(expected = "pages of any size give the same records")]
async fn a_source_that_skips_is_found() {
    source::all(async || DefectiveStore::new(SourceDefect::SkipsWhatFollowsAPage)).await;
}

#[tokio::test]
#[should_panic(expected = "more is said only if there is more: it ended too early")]
async fn a_source_that_never_says_more_is_found() {
    let store = DefectiveStore::new(SourceDefect::NeverSaysMore);
    source::reading::more_is_said_only_if_there_is_more(&store).await;
}

#[tokio::test]
#[should_panic(expected = "a page that says there is more gets on")]
async fn a_source_that_spins_at_the_end_is_found() {
    let store = DefectiveStore::new(SourceDefect::SpinsAtTheEnd);
    source::reading::more_is_said_only_if_there_is_more(&store).await;
}

#[tokio::test]
#[should_panic(expected = "an older history is noticed")]
async fn a_source_that_takes_any_position_is_found() {
    let store = DefectiveStore::new(SourceDefect::TakesAnyPosition);
    source::positions::an_older_history_is_noticed(&store).await;
}

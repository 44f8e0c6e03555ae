//! Sources with a defect.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use outbox::{
    CommitId, KeyOrder, Page, Partition, PartitionId, Position, Record, Source, StoreError, WriteError,
    memory::{ManualClock, MemoryStore, SeededEntropy, Snapshot},
    source::{Backlog, Limit},
    store::Registration,
    testing::{Opened, StoreUnderTest, Transaction, WriterUnderTest, conformance::source},
    writer::{Receipt, Settled},
};
use tokio::{sync::Notify, task::yield_now};

#[derive(Clone, Copy, PartialEq)]
enum SourceDefect {
    SkipsWhatFollowsAPage,
    NeverSaysMore,
    SpinsAtTheEnd,
    TakesAnyPosition,
    TakesAnyPartition,
    GivesNothingForALimitOfNothing,
    LosesWhatADroppedReadTook,
    PassesWhatCommitsLate,
    WakesOneReader,
    WakesForNothing,
}

struct DefectiveSource {
    inner: MemoryStore,
    defect: SourceDefect,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Which transaction each commit was, by their beginnings.
    begun: Mutex<HashMap<CommitId, u64>>,
    transactions: AtomicU64,
    reading: AtomicBool,
    committed: Notify,
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
            SourceDefect::GivesNothingForALimitOfNothing if limit.events == 0 => page.records.clear(),
            SourceDefect::LosesWhatADroppedReadTook => {
                let left_over = self.shared.reading.swap(true, SeqCst);
                yield_now().await;
                self.shared.reading.store(false, SeqCst);
                page.records.drain(..usize::from(left_over).min(page.records.len()));
            }
            SourceDefect::PassesWhatCommitsLate => {
                let passed = self.read_so_far(partition, after).await?;
                page.records.retain(|record| self.begun(record) > passed);
            }
            SourceDefect::SkipsWhatFollowsAPage
            | SourceDefect::TakesAnyPosition
            | SourceDefect::TakesAnyPartition
            | SourceDefect::GivesNothingForALimitOfNothing
            | SourceDefect::WakesOneReader
            | SourceDefect::WakesForNothing => {}
        }
        Ok(page)
    }

    /// The latest beginning among what lies before `after`.
    async fn read_so_far(&self, partition: &PartitionId, after: &Position) -> Result<u64, StoreError> {
        let plenty = Limit { events: usize::MAX, bytes: usize::MAX };
        let beginning = Position::new("0");
        let all = self.inner.read(partition, &beginning, plenty).await?.records;
        let before = all.iter().filter(|record| self.inner.order(&record.position, after) != Ordering::Greater);
        Ok(before.map(|record| self.begun(record)).max().unwrap_or(0))
    }

    fn begun(&self, record: &Record) -> u64 {
        self.shared.begun.lock().unwrap().get(&record.commit).copied().unwrap_or(0)
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

    fn passed_by_both(&self, one: &Position, other: &Position) -> Position {
        self.inner.passed_by_both(one, other)
    }

    fn after_loss(&self, position: &Position, agreed: &Position) -> Position {
        self.inner.after_loss(position, agreed)
    }

    fn leading_to(&self, from: &Position, end: &Position) -> Position {
        self.inner.leading_to(from, end)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        self.inner.partitions().await
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.inner.start(partition, registration).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        let known = self.inner.partitions().await?.remove(0).id;
        let asked = if self.defect == SourceDefect::TakesAnyPartition { &known } else { partition };
        let read = self.read_defectively(asked, after, limit).await;
        if self.defect == SourceDefect::TakesAnyPosition && read.is_err() {
            return Ok(Page { records: Vec::new(), next: after.clone(), more: false, end: false });
        }
        read
    }

    async fn changed(&self) {
        match self.defect {
            SourceDefect::WakesOneReader => self.shared.committed.notified().await,
            SourceDefect::WakesForNothing => yield_now().await,
            _ => self.inner.changed().await,
        }
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        self.inner.backlog(partition, after).await
    }
}

struct DefectiveStore(MemoryStore, Snapshot, SourceDefect, Arc<Shared>);

impl DefectiveStore {
    fn new(defect: SourceDefect) -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(7)));
        let store = MemoryStore::new("/tests", clock, entropy).unwrap();
        let empty = store.snapshot();
        Self(store, empty, defect, Arc::default())
    }
}

#[async_trait]
impl WriterUnderTest for DefectiveStore {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let number = self.3.transactions.fetch_add(1, SeqCst) + 1;
        let mut transaction = self.0.transaction();
        let mut receipts: Vec<Receipt> = Vec::new();
        for write in asked.writes {
            receipts.extend(transaction.write_expecting(write.expected, write.events)?);
        }
        self.3.begun.lock().unwrap().extend(receipts.iter().map(|receipt| (receipt.commit, number)));
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        transaction.commit()?;
        self.3.committed.notify_one();
        Ok(receipts)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        self.0.settle(receipt)
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(DefectiveSource { inner: self.0.clone(), defect: self.2, shared: self.3.clone() })
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

#[tokio::test]
#[should_panic(expected = "an unknown partition is refused")]
async fn a_source_that_takes_any_partition_is_found() {
    let store = DefectiveStore::new(SourceDefect::TakesAnyPartition);
    source::positions::an_unknown_partition_is_refused(&store).await;
}

#[tokio::test]
#[should_panic(expected = "limits hold at their edges: of nothing")]
async fn a_source_that_gives_nothing_for_a_limit_of_nothing_is_found() {
    let store = DefectiveStore::new(SourceDefect::GivesNothingForALimitOfNothing);
    source::reading::limits_hold_at_their_edges(&store).await;
}

#[tokio::test]
#[should_panic(expected = "a dropped read consumes nothing")]
async fn a_source_that_loses_what_a_dropped_read_took_is_found() {
    let store = DefectiveStore::new(SourceDefect::LosesWhatADroppedReadTook);
    source::reading::a_dropped_read_consumes_nothing(&store).await;
}

#[tokio::test]
#[should_panic(expected = "what commits late is not passed by")]
async fn a_source_that_passes_what_commits_late_is_found() {
    let store = Arc::new(DefectiveStore::new(SourceDefect::PassesWhatCommitsLate));
    source::reading::what_commits_late_is_not_passed_by(store).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "every reader is woken: nothing happened")]
async fn a_source_that_wakes_one_reader_is_found() {
    let store = DefectiveStore::new(SourceDefect::WakesOneReader);
    source::waking::every_reader_is_woken(&store).await;
}

#[tokio::test]
#[should_panic(expected = "a wait rests while nothing is committed")]
async fn a_source_that_wakes_for_nothing_is_found() {
    let store = DefectiveStore::new(SourceDefect::WakesForNothing);
    source::waking::a_wait_rests_while_nothing_is_committed(&store).await;
}

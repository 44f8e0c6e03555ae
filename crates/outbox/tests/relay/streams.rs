//! Relays on a stream in memory whose shards split, end and are trimmed.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    BusinessStore, ErrorKind, KeyOrder, Operator, Page, Partition, PartitionId, Position, Recovery, Sink, Source,
    StoreError,
    bookkeeping::Checkpoint,
    clock::Clock as _,
    memory::{MemorySink, MemoryStream, StreamSettings},
    relay::{PartitionStatus, RelayBuilder},
    source::{Backlog, Limit},
    store::Registration,
    testing::StepGate,
};

use crate::rig::{Rig, Running, eventually, key, route, run, settings};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A business store with a stream of its commits.
pub(crate) struct StreamRig {
    pub(crate) rig: Rig,
    pub(crate) stream: MemoryStream,
    written: Mutex<Vec<String>>,
}

impl StreamRig {
    pub(crate) fn new() -> Self {
        Self::with(StreamSettings::default())
    }

    pub(crate) fn with(settings: StreamSettings) -> Self {
        let rig = Rig::new();
        let stream = MemoryStream::new(&rig.store, settings);
        Self { rig, stream, written: Mutex::default() }
    }

    /// Writes an event of each of `keys`, `rounds` times.
    pub(crate) fn write(&self, keys: &[&str], rounds: u64) {
        for _ in 0..rounds {
            for key in keys {
                self.written.lock().unwrap().extend(self.rig.write(key, 1));
            }
        }
    }

    /// All that was written, by key.
    pub(crate) fn written(&self) -> BTreeMap<String, Vec<String>> {
        by_key(self.written.lock().unwrap().clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.written.lock().unwrap().len()
    }

    /// A relay without routes, in a process of its own.
    pub(crate) fn relay(&self) -> RelayBuilder {
        let store = Arc::new(self.rig.store.reopen());
        self.rig.relay_on(Arc::new(self.stream.on(&store)), store)
    }

    /// The same with every I/O behind `gate`, and a route `all` to `sink`.
    pub(crate) fn gated(&self, gate: &StepGate, sink: &Arc<MemorySink>) -> RelayBuilder {
        let store = Arc::new(self.rig.store.reopen());
        let source = gate.source(Arc::new(self.stream.on(&store)));
        self.rig
            .relay_on(source, gate.store(store as Arc<dyn BusinessStore>))
            .bookkeeping(gate.bookkeeping(self.rig.bookkeeping.clone() as Arc<dyn Operator>))
            .route(settings("all"), gate.sink(sink.clone()))
    }

    /// The same with a source that is not quite right.
    pub(crate) fn bent(&self, bend: Bend) -> RelayBuilder {
        let store = Arc::new(self.rig.store.reopen());
        self.rig.relay_on(Arc::new(Bent { inner: self.stream.on(&store), bend }), store)
    }

    /// A running relay with one route, `all`, to `sink`.
    pub(crate) fn run(&self, sink: Arc<dyn Sink>) -> Running {
        run(self.relay().route(settings("all"), sink))
    }

    pub(crate) fn only_shard(&self) -> PartitionId {
        let mut open = self.stream.open_shards();
        assert_eq!(open.len(), 1);
        open.remove(0)
    }

    pub(crate) fn shard_of(&self, name: &str) -> PartitionId {
        self.stream.shard_of(&key(name))
    }

    /// Forgets all that is older than a day.
    pub(crate) fn trim(&self) {
        self.stream.trim_before(self.rig.clock.wall() - 24 * HOUR);
    }

    pub(crate) async fn checkpoints(&self, name: &str) -> Vec<Checkpoint> {
        use outbox::Bookkeeping as _;
        self.rig.bookkeeping.checkpoints(&route(name)).await.unwrap()
    }

    /// Waits until the sink accepted everything, and each route's checkpoint is stored behind it.
    pub(crate) async fn published(&self, sink: &MemorySink) {
        eventually("everything is published", async || {
            let mut ids = sink.ids();
            ids.sort();
            ids.dedup();
            ids.len() == self.count()
        })
        .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// Everything came, the first publications of each key in their order.
    pub(crate) fn assert_complete(&self, sink: &MemorySink) {
        let mut seen = std::collections::BTreeSet::new();
        let first = sink.ids().into_iter().filter(|id| seen.insert(id.clone())).collect();
        assert_eq!(by_key(first), self.written());
        crate::rig::no_breach(sink);
    }

    /// Everything came once, in order.
    pub(crate) fn assert_once(&self, sink: &MemorySink) {
        assert_eq!(by_key(sink.ids()), self.written());
    }
}

pub(crate) fn by_key(ids: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut keys = BTreeMap::<String, Vec<String>>::new();
    for id in ids {
        keys.entry(id.split('@').next().unwrap().to_owned()).or_default().push(id);
    }
    keys
}

/// What `all` says of a partition.
pub(crate) fn status_of(relay: &Running, partition: &PartitionId) -> Option<PartitionStatus> {
    relay.route("all").partitions.into_iter().find(|status| status.name == partition.as_str())
}

/// What is wrong with a source.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Bend {
    /// It never says that a shard has ended.
    NoEnd,
    /// It cannot read the table again.
    NoRecovery,
    /// Until then it remembers nothing that follows a recovery.
    TooLateUntil(tokio::time::Instant),
    /// So long it takes to say where a shard goes on behind a recovery.
    SlowAfterRecovery(Duration),
}

struct Bent {
    inner: MemoryStream,
    bend: Bend,
}

#[async_trait]
impl Source for Bent {
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
        let page = self.inner.read(partition, after, limit).await?;
        Ok(Page { end: page.end && self.bend != Bend::NoEnd, ..page })
    }

    async fn changed(&self) {
        self.inner.changed().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        self.inner.backlog(partition, after).await
    }

    async fn beginning(&self, partition: &PartitionId) -> Result<Position, StoreError> {
        self.inner.beginning(partition).await
    }

    async fn recovery(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<Option<Recovery>, StoreError> {
        match self.bend {
            Bend::NoRecovery => Ok(None),
            Bend::NoEnd | Bend::TooLateUntil(_) | Bend::SlowAfterRecovery(_) => {
                self.inner.recovery(registration, checkpoints).await
            }
        }
    }

    async fn after_recovery(&self, recovery: &PartitionId, partition: &PartitionId) -> Result<Position, StoreError> {
        match self.bend {
            Bend::TooLateUntil(end) if tokio::time::Instant::now() < end => {
                return Err(StoreError::new(ErrorKind::Trimmed, "what follows is forgotten"));
            }
            Bend::SlowAfterRecovery(pause) => tokio::time::sleep(pause).await,
            Bend::NoEnd | Bend::NoRecovery | Bend::TooLateUntil(_) => {}
        }
        self.inner.after_recovery(recovery, partition).await
    }
}

//! What relays read: one of several sources, each with the worst habits of its kind.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;

use super::{
    checks::ids,
    fault::Fault,
    late::{LateRows, Snapshots},
    schedule::{Resharding, SourceScene},
    world::World,
};
use crate::{
    bookkeeping::Checkpoint,
    entry::{Position, Record},
    error::StoreError,
    event::Key,
    memory::{Habits, MemoryStore, MemoryStream, StreamSettings},
    source::{Backlog, KeyOrder, Limit, Page, Partition, PartitionId, Recovery, Source},
    store::Registration,
};

/// By how much recoveries go back: longer than records are apart that change places.
const SLACK: Duration = Duration::from_secs(20);

/// The source of a run.
pub(super) enum Supply {
    /// A table whose rows are in the order of commits.
    Table(MemoryStore),
    /// One whose rows become visible late.
    Late(LateRows),
    /// A stream of its changes.
    Shards(MemoryStream),
}

impl Supply {
    pub(super) fn new(scene: SourceScene, store: &MemoryStore, seed: u64) -> Self {
        match scene {
            SourceScene::Table => Self::Table(store.clone()),
            SourceScene::Late => {
                let snapshots = Arc::new(Mutex::new(Snapshots::default()));
                Self::Late(LateRows { store: store.clone(), snapshots, seed })
            }
            SourceScene::Shards { shards, page, doubling, swapping, empty_pages, reordering } => {
                let settings = StreamSettings {
                    shards,
                    page: Limit { events: page, bytes: usize::MAX },
                    slack: SLACK,
                    habits: Habits { seed, doubling, swapping, empty_pages, reordering },
                };
                Self::Shards(MemoryStream::new(store, settings))
            }
        }
    }

    /// As a process opens it that has opened the store as `store`.
    pub(super) fn open(&self, store: &MemoryStore) -> Arc<dyn Source> {
        match self {
            Self::Table(_) => Arc::new(store.clone()),
            Self::Late(late) => Arc::new(LateRows { store: store.clone(), ..late.clone() }),
            Self::Shards(stream) => Arc::new(stream.on(store)),
        }
    }

    /// As nobody's process: whoever owns the store, it can be looked at.
    pub(super) fn watch(&self) -> &dyn Source {
        match self {
            Self::Table(store) => store,
            Self::Late(late) => late,
            Self::Shards(stream) => stream,
        }
    }
}

/// Somebody splits, merges or rolls over a shard.
pub(super) fn reshard(world: &World, rng: &mut Rng, how: Resharding) {
    let Supply::Shards(stream) = &world.supply else { return };
    let open = stream.open_shards();
    let one = &open[rng.usize(..open.len())];
    let resharded = match how {
        Resharding::Split => stream.split(one).map(drop),
        Resharding::Roll => stream.roll(one).map(drop),
        Resharding::Merge => {
            let other = &open[rng.usize(..open.len())];
            if one == other {
                return;
            }
            stream.merge(one, other).map(drop)
        }
    };
    world.note(|| match &resharded {
        Ok(()) => format!("{how}: {one}"),
        Err(error) => format!("{how}, {one} does not: {error}"),
    });
    let mut state = world.state();
    if resharded.is_ok() {
        state.strikes(match how {
            Resharding::Split => Fault::Split,
            Resharding::Roll => Fault::RolledOver,
            Resharding::Merge => Fault::Merged,
        });
    }
    // A child's pipeline knows nothing of what its parent's let out.
    state.truth.begins_anew();
}

/// The stream forgets all but the newest records.
pub(super) fn trim(world: &World, kept: u64) {
    let Supply::Shards(stream) = &world.supply else { return };
    let forgotten = stream.trim_to(stream.latest().saturating_sub(kept));
    world.note(|| format!("the stream forgets {forgotten} records"));
    if forgotten > 0 {
        world.state().strikes(Fault::Trimmed);
    }
}

/// A source whose pages are remembered, so that it is known what lies before a checkpoint.
pub(super) struct Seen<S> {
    pub(super) inner: S,
    pub(super) world: Arc<World>,
}

impl<S: Source> Seen<S> {
    fn remember(&self, partition: &PartitionId, records: &[Arc<Record>]) {
        let mut state = self.world.state();
        let truth = &mut state.truth;
        let read = truth.read.entry(partition.clone()).or_default();
        let (mut habits, mut twice) = (Vec::new(), Vec::new());
        for record in records {
            // A route that is behind may be the first to read what others were past already.
            let found = read.binary_search_by(|(position, _)| self.inner.order(position, &record.position));
            let Err(index) = found else { continue };
            if read.iter().any(|(_, other)| other.commit == record.commit && first_id(other) == first_id(record)) {
                habits.push(Fault::RecordTwice);
                twice.extend(ids(record).into_iter().filter(|_| key(record).is_none()));
            } else if read[..index]
                .iter()
                .any(|(_, other)| same_key(other, record) && sequence(other) > sequence(record))
            {
                habits.push(Fault::OutOfOrder);
            }
            read.insert(index, (record.position.clone(), record.clone()));
            for checked in truth.routes.iter_mut().filter_map(|route| route.checked.get_mut(partition)) {
                *checked = index.min(*checked);
            }
        }
        let twice: Vec<usize> = twice.into_iter().filter_map(|(id, _)| truth.find(&id)).collect();
        for habit in habits {
            state.strikes(habit);
        }
        drop(state);
        // Without a key nobody looks whether a record came before.
        for route in 0..self.world.routes.len() {
            self.world.excuse(route, &twice);
        }
    }
}

fn first_id(record: &Record) -> Option<String> {
    ids(record).into_iter().next().map(|(id, _)| id)
}

fn key(record: &Record) -> Option<&Key> {
    record.events().first().and_then(|event| event.key())
}

fn same_key(one: &Record, other: &Record) -> bool {
    key(one).is_some() && key(one) == key(other)
}

fn sequence(record: &Record) -> Option<u64> {
    record.events().first().and_then(|event| event.placing()).map(|placing| placing.place.sequence)
}

#[async_trait]
impl<S: Source> Source for Seen<S> {
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
        let partitions = self.inner.partitions().await?;
        let is_listed = |id: &PartitionId| partitions.iter().any(|partition| partition.id == *id);
        if partitions.iter().flat_map(|partition| &partition.parents).any(|parent| !is_listed(parent)) {
            self.world.state().strikes(Fault::ParentTrimmed);
        }
        Ok(partitions)
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.inner.start(partition, registration).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        let page = self.inner.read(partition, after, limit).await?;
        self.remember(partition, &page.records);
        if page.records.is_empty() && page.more {
            self.world.state().strikes(Fault::EmptyPage);
        }
        if let Supply::Late(rows) = &self.world.supply {
            (0..rows.late_rows()).for_each(|_| self.world.state().strikes(Fault::LateRow));
        }
        Ok(page)
    }

    async fn fetch(&self, key: &Key, sequences: &[u64]) -> Result<Vec<Option<Arc<Record>>>, StoreError> {
        let fetched = self.inner.fetch(key, sequences).await?;
        if fetched.iter().any(Option::is_some) {
            self.world.state().strikes(Fault::Fetched);
        }
        Ok(fetched)
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
        let recovery = self.inner.recovery(registration, checkpoints).await?;
        self.world.state().strikes(Fault::Recovered);
        // That of a replay says nothing of its route.
        if let Some(route) = self.world.routes.iter().position(|route| *route == registration.route) {
            self.world.state().truth.recovers(route);
            // It gives more than was lost.
            self.world.excuse_all(route);
        }
        Ok(recovery)
    }

    async fn after_recovery(&self, recovery: &PartitionId, partition: &PartitionId) -> Result<Position, StoreError> {
        let after = self.inner.after_recovery(recovery, partition).await?;
        self.world.recovered();
        Ok(after)
    }
}

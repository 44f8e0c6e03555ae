//! What outlives every relay: the stores, the target, and what was committed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{StoresUnderTest, target::Target};
use crate::{
    bookkeeping::{KeptCounts, Operator},
    clock::Clock,
    entry::Position,
    error::StoreError,
    event::NewEvent,
    filter::Filter,
    memory::TokioClock,
    route::{RouteName, Start},
    source::{Limit, PartitionId, Source},
    store::Registration,
};

const PLENTY: Limit = Limit { events: 10_000, bytes: 64 << 20 };
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How long it may take to come true, in the time that passes for the relay.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// An event that was committed, as a source gives it.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub(super) id: String,
    pub(super) key: Option<String>,
    /// The position behind its record.
    pub(super) position: Position,
}

pub(super) struct World {
    pub(super) stores: Arc<dyn StoresUnderTest>,
    pub(super) target: Target,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) route: RouteName,
    /// The replay's temporary route.
    pub(super) replay: RouteName,
    /// Handles that see what is there, and that no gate stops.
    pub(super) source: Arc<dyn Source>,
    pub(super) books: Arc<dyn Operator>,
    pub(super) partition: PartitionId,
    beginning: Position,
    committed: Mutex<Vec<Committed>>,
    /// What was retained when a replay was asked for: retention waits for it.
    to_replay: Mutex<Vec<Committed>>,
}

impl World {
    pub(super) async fn new(
        stores: Arc<dyn StoresUnderTest>,
        route: RouteName,
        replay: &str,
    ) -> Result<Self, StoreError> {
        let source = stores.open().await.source;
        let books = stores.bookkeeping().await;
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::default());
        let partitions = source.partitions().await?;
        let partition = partitions.into_iter().next().expect("the source has a partition").id;
        let registration = Registration {
            route: route.clone(),
            filter: Filter::default(),
            start: Start::Beginning,
            start_position: None,
            max_event_bytes: u64::MAX,
            gapless: true,
            registered: clock.wall(),
        };
        let beginning = source.start(&partition, &registration).await?;
        let (replay, target) = (route.replay(replay), Target::default());
        let (committed, to_replay) = (Mutex::default(), Mutex::default());
        Ok(Self { stores, target, clock, route, replay, source, books, partition, beginning, committed, to_replay })
    }

    /// Commits each of `commits` in a transaction of its own.
    pub(super) async fn commit(&self, commits: Vec<Vec<NewEvent>>) -> Result<(), StoreError> {
        for events in commits {
            let count = events.len();
            self.stores.write(events).await;
            // Nothing purges the latest row, so that what follows it can always be read.
            let found = self.read_after(&self.end()).await?;
            assert_eq!(found.len(), count, "a commit of {count} events can be read at once: {found:?}");
            self.committed.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
        Ok(())
    }

    async fn read_after(&self, after: &Position) -> Result<Vec<Committed>, StoreError> {
        let page = self.source.read(&self.partition, after, PLENTY).await?;
        let events = page.records.iter().flat_map(|record| record.events().iter().map(move |event| (record, event)));
        let committed = |(record, event): (&Arc<crate::entry::Record>, &crate::event::Event)| Committed {
            id: event.id().to_owned(),
            key: event.key().map(|key| key.as_str().to_owned()),
            position: record.position.clone(),
        };
        Ok(events.map(committed).collect())
    }

    /// Everything that was committed, in order.
    pub(super) fn committed(&self) -> Vec<Committed> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is still retained of it.
    pub(super) async fn retained(&self) -> Result<Vec<Committed>, StoreError> {
        self.read_after(&self.beginning).await
    }

    /// Notes that a replay was asked for, of what is retained now.
    pub(super) async fn replay_retained(&self) -> Result<(), StoreError> {
        let retained = self.retained().await?;
        *self.to_replay.lock().unwrap_or_else(PoisonError::into_inner) = retained;
        Ok(())
    }

    /// What was retained when a replay was asked for.
    pub(super) fn to_replay(&self) -> Vec<Committed> {
        self.to_replay.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where everything that was committed ends.
    pub(super) fn end(&self) -> Position {
        self.committed().last().map_or_else(|| self.beginning.clone(), |last| last.position.clone())
    }

    pub(super) async fn counts(&self) -> Result<KeptCounts, StoreError> {
        self.books.kept_counts(&self.route).await
    }

    /// Whether the route's checkpoint is at the end.
    pub(super) async fn is_through(&self) -> Result<bool, StoreError> {
        let stored = self.checkpoint(&self.route).await?;
        Ok(stored.is_some_and(|stored| self.source.order(&stored, &self.end()).is_ge()))
    }

    pub(super) async fn checkpoint(&self, route: &RouteName) -> Result<Option<Position>, StoreError> {
        let stored = self.books.checkpoints(route).await?;
        Ok(stored.into_iter().find(|stored| stored.partition == self.partition).map(|stored| stored.position))
    }

    /// How often a relay that starts now may publish each event to `route`: once from what is kept, and once where it
    /// lies not behind the stored checkpoint.
    pub(super) async fn unsettled(&self, route: &RouteName) -> Result<BTreeMap<String, usize>, StoreError> {
        let stored = self.checkpoint(route).await?;
        let is_behind = |event: &Committed| {
            stored.as_ref().is_some_and(|stored| self.source.order(&event.position, stored).is_le())
        };
        let mut unsettled: BTreeMap<String, usize> =
            self.committed().into_iter().map(|event| (event.id.clone(), usize::from(!is_behind(&event)))).collect();
        for trouble in self.books.troubles(route, None, 1000).await? {
            for kept in self.books.kept(route, &trouble.lane, 1000).await? {
                *unsettled.entry(kept.content.id().to_owned()).or_default() += 1;
            }
        }
        Ok(unsettled)
    }

    /// Waits until `is_so`.
    pub(super) async fn until(
        &self,
        what: &str,
        is_so: impl AsyncFn() -> Result<bool, StoreError>,
    ) -> Result<(), String> {
        let deadline = self.clock.moment() + PATIENCE;
        while !is_so().await.map_err(|error| format!("looking whether {what}: {error}"))? {
            if self.clock.moment() > deadline {
                let counts = self.counts().await;
                return Err(format!("it never came that {what}; kept: {counts:?}, arrived: {:?}", self.arrived()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn arrived(&self) -> Vec<String> {
        self.target.arrivals().into_iter().map(|arrival| arrival.id).collect()
    }
}

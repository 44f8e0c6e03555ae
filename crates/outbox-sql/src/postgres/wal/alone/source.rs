//! The log as a source.

use std::{cmp::Ordering, sync::atomic::Ordering::Relaxed, time::Duration};

use async_trait::async_trait;
use outbox::{
    BusinessStore as _, ErrorKind, KeyOrder, Page, Partition, PartitionId, Position, Source, Start, StoreError,
    source::{Backlog, Limit},
    store::Registration,
};
use tokio::time::{Instant, timeout};

use super::{LogStore, anchor::start_of, place::Place, store};

/// The only partition. It is not that of a table: the positions are others.
const PARTITION: &str = "log";
/// While nothing is heard, it is looked whether a stream has to be begun anew.
const LOOK_ANEW: Duration = Duration::from_secs(10);
/// The same while there is no stream.
const WITHOUT_STREAM: Duration = Duration::from_millis(100);

/// A checkpoint of another source's partition is no position here.
fn check_partition(partition: &PartitionId) -> Result<(), StoreError> {
    if partition.as_str() == PARTITION {
        return Ok(());
    }
    let message = format!("there is no partition `{partition}` in this database's log, only `{PARTITION}`");
    Err(StoreError::new(ErrorKind::Invalid, message))
}

#[async_trait]
impl Source for LogStore {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Promised
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        match (Place::parse(left), Place::parse(right)) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            // What is none comes first.
            (Err(_), Ok(_)) => Ordering::Less,
            (Ok(_), Err(_)) => Ordering::Greater,
            (Err(_), Err(_)) => left.as_str().cmp(right.as_str()),
        }
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(vec![Partition { id: PartitionId::new(PARTITION), parents: Vec::new() }])
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        check_partition(partition)?;
        match (&registration.start_position, registration.start) {
            (Some(fixed), _) => Ok(start_of(fixed)),
            (None, Start::Beginning) => {
                // A route that is registered has a start: what begins elsewhere is a replay of it.
                let routes = self.inner.store.routes().await?;
                if routes.iter().any(|known| known.route == registration.route) {
                    return Err(store::no_history("a replay"));
                }
                Ok(Place::BEGINNING.position())
            }
            (None, Start::Now) => {
                let look = self.inner.look().await?;
                Ok(Place::before(look.written, look.timeline).position())
            }
            (None, Start::Time(_)) => Err(store::no_history("a start at a time")),
        }
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        check_partition(partition)?;
        self.inner.read(Place::parse(after)?, limit).await
    }

    async fn changed(&self) {
        let mut news = self.inner.news.subscribe();
        let now = *news.borrow_and_update();
        if now > self.inner.told.load(Relaxed) {
            self.inner.told.fetch_max(now, Relaxed);
            return;
        }
        let began = Instant::now();
        loop {
            let is_streaming = !self.inner.streams.lock().await.is_empty();
            let most = if is_streaming { LOOK_ANEW } else { WITHOUT_STREAM };
            match timeout(most.saturating_sub(began.elapsed()), news.changed()).await {
                Ok(_) => {
                    let now = *news.borrow_and_update();
                    self.inner.told.fetch_max(now, Relaxed);
                    return;
                }
                Err(_) if began.elapsed() >= most => return,
                Err(_) => {}
            }
        }
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        check_partition(partition)?;
        self.inner.behind(Place::parse(after)?).await
    }
}

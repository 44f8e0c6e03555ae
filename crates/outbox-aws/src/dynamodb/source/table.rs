//! The table alone, for routes whose events functions of Lambda publish as the stream hands them in: a relay reads it only
//! for replays.

use std::{cmp::Ordering, sync::Arc};

use async_trait::async_trait;
use outbox::{
    KeyOrder, Page, Partition, PartitionId, Position, Source, Start, StoreError,
    bookkeeping::Checkpoint,
    source::{Backlog, Limit},
    store::Registration,
};

use super::{
    Inner, StreamsSource, invalid,
    place::{InScan, Place},
};

/// The one partition's name.
const TABLE: &str = "table";

/// The table of entries as one partition, which ends where the table does: a [`Source`] for replays beside functions that
/// publish. A route of theirs has a checkpoint here that says it is done ([`published_elsewhere`](Self::published_elsewhere)),
/// and so a relay never reads it for the route itself. Each key's entries come together and in their order. Cheap to clone.
#[derive(Clone)]
pub struct TableSource {
    inner: Arc<Inner>,
}

impl TableSource {
    /// The table behind `source`.
    pub fn of(source: &StreamsSource) -> Self {
        Self { inner: source.inner.clone() }
    }

    /// The checkpoint of a route whose events are published elsewhere: at the end of the table, whatever is in it. It is
    /// where replays of the route end.
    pub fn published_elsewhere() -> Checkpoint {
        let end = InScan { rows: u64::MAX, ..InScan::beginning(i64::MIN) };
        Checkpoint { partition: PartitionId::new(TABLE), position: end.position(), finished: true }
    }
}

/// Whether it is the partition that is marked as [published elsewhere](TableSource::published_elsewhere).
pub(super) fn is_elsewhere(partition: &PartitionId) -> bool {
    partition.as_str() == TABLE
}

fn is_end(position: &Position) -> bool {
    matches!(Place::of(position), Some(Place::Scan(place)) if place.rows == u64::MAX)
}

#[async_trait]
impl Source for TableSource {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Promised
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        match (Place::of(left), Place::of(right)) {
            (Some(left), Some(right)) => left.order(&right),
            (left, right) => left.is_some().cmp(&right.is_some()),
        }
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(vec![Partition { id: PartitionId::new(TABLE), parents: Vec::new() }])
    }

    async fn start(&self, _: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        let since = match registration.start {
            Start::Beginning => i64::MIN,
            Start::Now => registration.registered.as_millisecond(),
            Start::Time(time) => time.as_millisecond(),
        };
        Ok(InScan::beginning(since).position())
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        if !is_elsewhere(partition) {
            return Err(invalid(format!(
                "`{partition}` is not the table, and functions publish what the stream holds: cancel the replay that a relay left, and ask for it again"
            )));
        }
        if is_end(after) {
            return Ok(Page { records: Vec::new(), next: after.clone(), more: false, end: true });
        }
        self.inner.read_table(partition, after, limit).await
    }

    /// Nothing new ever comes: a relay waits for its operator.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }

    async fn backlog(&self, _: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        if is_end(after) {
            return Ok(Backlog { entries: 0, exact: true, oldest: None });
        }
        self.inner.backlog_of_table(after).await
    }
}

//! Reading committed entries, in the order of their ids.
//!
//! One writer at a time commits to an `SQLite` database, and ids are given in a transaction that holds the write lock,
//! so ids become visible in their order: nothing is committed late below a cursor. `AUTOINCREMENT` sees to it that an id
//! is never given twice, whatever was purged.

use std::cmp::Ordering;

use async_trait::async_trait;
use jiff::Timestamp;
use outbox::{
    ErrorKind, KeyOrder, Page, Partition, PartitionId, Position, Source, StoreError,
    source::{Backlog, Limit},
    store::Registration,
};
use rusqlite::Connection;

use super::{
    SqliteStore,
    connection::query_optional,
    decode::position,
    failure::store_error,
    store::{parse_position, start_position},
};

mod reader;

pub(super) use reader::Reader;

/// The only partition: the whole table.
pub(crate) const PARTITION: &str = "entries";

#[async_trait]
impl Source for SqliteStore {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Promised
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        // Positions are decimal numbers without leading zeros: the longer is the greater.
        let (left, right) = (left.as_str(), right.as_str());
        left.len().cmp(&right.len()).then_with(|| left.cmp(right))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(vec![Partition { id: PartitionId::new(PARTITION), parents: Vec::new() }])
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        check_partition(partition)?;
        if let Some(fixed) = &registration.start_position {
            return Ok(Position::new(fixed));
        }
        let start = registration.start;
        self.blocking(move |inner| inner.with_reader(|reader| start_position(reader.connection(), start)).map(position))
            .await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        check_partition(partition)?;
        let after = parse_position(after)?;
        self.blocking(move |inner| inner.read(after, limit)).await
    }

    async fn changed(&self) {
        self.inner.changes.changed().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        check_partition(partition)?;
        let after = parse_position(after)?;
        self.blocking(move |inner| inner.with_reader(|reader| backlog(reader.connection(), after))).await
    }
}

/// A checkpoint of another source's partition is no position here, whatever its number.
fn check_partition(partition: &PartitionId) -> Result<(), StoreError> {
    if partition.as_str() == PARTITION {
        return Ok(());
    }
    let message = format!("there is no partition `{partition}` in this database, only `{PARTITION}`");
    Err(StoreError::new(ErrorKind::Invalid, message))
}

/// Counts by ids, as counting entries would read them all.
fn backlog(connection: &Connection, after: i64) -> Result<Backlog, StoreError> {
    const MEASURING: &str = "measuring the backlog";
    let next = query_optional(
        connection,
        MEASURING,
        "SELECT id, CASE typeof(recorded_at) WHEN 'integer' THEN recorded_at END \
         FROM outbox_entries WHERE id > ?1 ORDER BY id LIMIT 1",
        [after],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
    )?;
    let Some((first, recorded)) = next else { return Ok(Backlog { entries: 0, exact: true, oldest: None }) };
    let last: i64 = connection
        .query_row("SELECT max(id) FROM outbox_entries", [], |row| row.get(0))
        .map_err(store_error(MEASURING))?;
    Ok(Backlog {
        entries: (last - first + 1).max(1).unsigned_abs(),
        exact: false,
        oldest: recorded.and_then(|recorded| Timestamp::from_millisecond(recorded).ok()),
    })
}

impl super::store::Inner {
    /// Reads a page behind `after` and makes it durable.
    fn read(&self, after: i64, limit: Limit) -> Result<Page, StoreError> {
        // Before the snapshot of the read, so that the snapshot must show all that is known.
        let known = super::blocking::locked(&self.history).known(after);
        let found = self.with_reader(|reader| reader.page(self, after, limit, &known))?;
        let Some(last) = found.last else {
            return Ok(Page { records: Vec::new(), next: position(after), more: false, end: false });
        };
        if let Some(highest) = found.unsynced {
            self.durable.sync(highest)?;
        }
        super::blocking::locked(&self.history).remember(last);
        let next = position(last.id);
        Ok(Page { records: found.records, next, more: found.more, end: false })
    }
}

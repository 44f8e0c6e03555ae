//! A table whose rows become visible late: each got its id some time before its commit, as from a sequence, so that ids
//! are not in the order of commits. Read by snapshots, as such a table has to be.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use fastrand::Rng;

use crate::{
    entry::{Content, Position, Record},
    error::{ErrorKind, StoreError},
    event::Key,
    memory::{MemoryStore, PARTITION},
    source::{Backlog, KeyOrder, Limit, Page, Partition, PartitionId, Source},
    store::Registration,
};

/// The ids, and the snapshots that were taken, which every reader uses.
#[derive(Default)]
pub(super) struct Snapshots {
    /// How many rows there were at each; rising.
    cuts: Vec<u64>,
    /// Rows that were read behind one with a later id, since that was last asked.
    late: u64,
}

/// The source, as one process has it open.
#[derive(Clone)]
pub(super) struct LateRows {
    pub(super) store: MemoryStore,
    pub(super) snapshots: Arc<Mutex<Snapshots>>,
    pub(super) seed: u64,
}

/// What lies between two snapshots is read in the order of ids: up to `last` of it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    from: u64,
    last: Id,
    to: u64,
}

/// An id that was drawn, and the number of the row's commit, which makes it one of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    drawn: u64,
    row: u64,
}

impl Cursor {
    /// `row` and its commit come first, so that the store knows its history by them.
    fn position(self, row: &str) -> Position {
        let Self { from, to, last } = self;
        Position::new(format!("{row}@l{from}.{to}.{}.{}", last.drawn, last.row))
    }

    fn parse(position: &Position) -> Option<(Self, &str)> {
        let (row, place) = position.as_str().split_once("@l")?;
        let mut numbers = place.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let (from, to) = (next()?, next()?);
        Some((Self { from, to, last: Id { drawn: next()?, row: next()? } }, row))
    }
}

impl LateRows {
    /// Every row in the order of commits, with its id. Of one key, ids are drawn in the order of commits, for its head is
    /// locked before.
    async fn rows(&self) -> Result<Vec<(Id, Arc<Record>)>, StoreError> {
        const ALL: Limit = Limit { events: usize::MAX, bytes: usize::MAX };
        const BETWEEN: u64 = 8;
        let page = self.store.read(&PartitionId::new(PARTITION), &Position::new("0"), ALL).await?;
        let mut latest = BTreeMap::<Key, u64>::new();
        let rows = page.records.into_iter().zip(1..).map(|(record, row)| {
            let early = Rng::with_seed(self.seed ^ row).u64(0..6) * BETWEEN;
            let mut drawn = (row * BETWEEN).saturating_sub(early).max(1);
            if let Some(key) = key_of(&record) {
                let before = latest.entry(key).or_default();
                drawn = drawn.max(*before);
                *before = drawn;
            }
            (Id { drawn, row }, record)
        });
        Ok(rows.collect())
    }

    /// How many rows were read behind one with a later id since this was last asked.
    pub(super) fn late_rows(&self) -> u64 {
        std::mem::take(&mut self.snapshots().late)
    }

    fn snapshots(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot behind `from`, taken now if there is none yet and something was committed since.
    fn snapshot_behind(&self, from: u64, rows: u64) -> u64 {
        let mut snapshots = self.snapshots();
        if let Some(cut) = snapshots.cuts.iter().find(|cut| **cut > from) {
            return *cut;
        }
        if rows > from {
            snapshots.cuts.push(rows);
        }
        rows.max(from)
    }
}

fn parse(position: &Position) -> Result<(Cursor, &str), StoreError> {
    let foreign = || StoreError::new(ErrorKind::Invalid, format!("`{position}` is not a position of this table"));
    Cursor::parse(position).ok_or_else(foreign)
}

#[async_trait]
impl Source for LateRows {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Promised
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        let cursor = |position| Cursor::parse(position).map(|(cursor, _)| cursor);
        cursor(left).cmp(&cursor(right))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        self.store.partitions().await
    }

    async fn start(&self, _: &PartitionId, _: &Registration) -> Result<Position, StoreError> {
        Ok(Cursor { from: 0, to: 0, last: Id::default() }.position("0"))
    }

    async fn read(&self, _: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        let (mut cursor, row) = parse(after)?;
        let rows = self.rows().await?;
        let all = rows.len() as u64;
        if cursor.from == cursor.to {
            cursor.to = self.snapshot_behind(cursor.from, all);
        }
        let passed = rows.iter().filter(|(id, _)| id.row <= cursor.from).map(|(id, _)| id.drawn).max();
        let mut behind: Vec<_> = rows
            .into_iter()
            .filter(|(id, _)| id.row > cursor.from && id.row <= cursor.to && *id > cursor.last)
            .collect();
        behind.sort_by_key(|(id, _)| *id);
        let mut page = Page { records: Vec::new(), next: after.clone(), more: false, end: false };
        let (mut events, mut last_row) = (0, row.to_owned());
        let mut left = behind.len();
        for (id, record) in behind {
            events += record.len();
            if events > limit.events && !page.records.is_empty() {
                break;
            }
            left -= 1;
            self.snapshots().late += u64::from(passed.is_some_and(|passed| id.drawn < passed));
            cursor = if left == 0 {
                Cursor { from: cursor.to, to: cursor.to, last: Id::default() }
            } else {
                Cursor { last: id, ..cursor }
            };
            last_row = record.position.to_string();
            let position = cursor.position(&last_row);
            page.records.push(Arc::new(Record { position, ..(*record).clone() }));
        }
        page.next = cursor.position(&last_row);
        page.more = left > 0 || cursor.to < all;
        Ok(page)
    }

    async fn changed(&self) {
        self.store.changed().await;
    }

    async fn backlog(&self, _: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        let (cursor, _) = parse(after)?;
        let rows = self.rows().await?;
        let is_behind = |id: &Id| id.row > cursor.to || id.row > cursor.from && *id > cursor.last;
        let mut behind = rows.iter().filter(|(id, _)| is_behind(id));
        let oldest = behind.next().map(|(_, record)| record.recorded);
        Ok(Backlog { entries: u64::from(oldest.is_some()) + behind.count() as u64, exact: true, oldest })
    }
}

fn key_of(record: &Record) -> Option<Key> {
    match &record.content {
        Content::Events(events) => events.first().and_then(|event| event.key().cloned()),
        Content::Undecodable(row) => row.key.clone(),
    }
}

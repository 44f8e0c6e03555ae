//! The in-memory store as a source.

use std::{
    cmp::Ordering,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    lock,
    store::{Cursor, Data, MemoryStore, PARTITION},
};
use crate::{
    entry::{Position, Record},
    error::{ErrorKind, StoreError},
    event::{Event, Key},
    route::Start,
    source::{Backlog, KeyOrder, Limit, Page, Partition, PartitionId, Source},
    store::Registration,
};

impl MemoryStore {
    /// A handle whose claim is no longer the store's reads for an owner that has been replaced.
    pub(super) fn check_claim(&self, data: &Data) -> Result<(), StoreError> {
        let own = lock(&self.handle.claim);
        let Some(own) = own.as_ref() else { return Ok(()) };
        match &data.claim {
            Some(now) if now == own => Ok(()),
            Some(now) if now.bookkeeping == own.bookkeeping && now.epoch > own.epoch => Err(StoreError::new(
                ErrorKind::Fenced,
                format!("the store is read under epoch {} now, no longer under {}", now.epoch, own.epoch),
            )),
            _ => Err(StoreError::new(
                ErrorKind::Ownership,
                "the store no longer belongs to this bookkeeping: run `outbox adopt` with the one that is to own it",
            )),
        }
    }
}

fn check_partition(partition: &PartitionId) -> Result<(), StoreError> {
    if partition.as_str() == PARTITION {
        return Ok(());
    }
    Err(StoreError::new(ErrorKind::Invalid, format!("there is no partition `{partition}`, only `{PARTITION}`")))
}

#[async_trait]
impl Source for MemoryStore {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Promised
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        let row = |position| Cursor::parse(position).map(|cursor| cursor.row);
        row(left).cmp(&row(right))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(vec![Partition { id: PartitionId::new(PARTITION), parents: Vec::new() }])
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        check_partition(partition)?;
        if let Some(fixed) = &registration.start_position {
            return Ok(Position::new(fixed));
        }
        let data = lock(&self.shared.data);
        Ok(match registration.start {
            Start::Beginning => Cursor::beginning(),
            Start::Now => data.end(),
            Start::Time(time) => {
                let before = data.entries.values().take_while(|entry| entry.record.recorded < time).last();
                before.map_or_else(Cursor::beginning, |entry| entry.record.position.clone())
            }
        })
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        check_partition(partition)?;
        let data = lock(&self.shared.data);
        self.check_claim(&data)?;
        let cursor = data.cursor(after)?;
        let mut page = Page { records: Vec::new(), next: after.clone(), more: false, end: false };
        let (mut events, mut bytes) = (0, 0);
        for (_, entry) in data.entries.range((Excluded(cursor.row), Unbounded)) {
            events += entry.record.len();
            bytes += entry.record.weight();
            if !page.records.is_empty() && (events > limit.events || bytes > limit.bytes) {
                page.more = true;
                break;
            }
            page.next = entry.record.position.clone();
            page.records.push(entry.record.clone());
        }
        Ok(page)
    }

    async fn fetch(&self, key: &Key, sequences: &[u64]) -> Result<Vec<Option<Arc<Record>>>, StoreError> {
        let data = lock(&self.shared.data);
        self.check_claim(&data)?;
        let numbered = |record: &Record, sequence: u64| {
            let placing = record.events().first().and_then(Event::placing);
            placing.is_some_and(|placing| placing.place.sequence == sequence)
        };
        let of_key: Vec<_> = data.entries.values().filter(|entry| entry.key.as_ref() == Some(key)).collect();
        // The latest one counts: a history that went back gives numbers again.
        let found = |&sequence: &u64| of_key.iter().rev().find(|entry| numbered(&entry.record, sequence));
        Ok(sequences.iter().map(|sequence| found(sequence).map(|entry| entry.record.clone())).collect())
    }

    async fn changed(&self) {
        loop {
            // Listened for before it is looked, so that no commit falls between the two.
            let committed = self.shared.committed.notified();
            let now = self.shared.commits.load(std::sync::atomic::Ordering::Acquire);
            let seen = std::mem::replace(&mut *lock(&self.handle.seen), now);
            if now > seen {
                return;
            }
            committed.await;
        }
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        check_partition(partition)?;
        let data = lock(&self.shared.data);
        let cursor = data.cursor(after)?;
        let mut behind = data.entries.range((Excluded(cursor.row), Unbounded)).map(|(_, entry)| entry);
        let oldest = behind.next().map(|entry| entry.record.recorded);
        let entries = u64::from(oldest.is_some()) + behind.count() as u64;
        Ok(Backlog { entries, exact: true, oldest })
    }
}

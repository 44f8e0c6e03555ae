//! Identities of what lanes keep, as a handle has read them.
//!
//! An index is never changed, and of one trouble a later one has higher numbers: its lane's row, on whose version every keep
//! depends, puts them in order. So each is read once, however much a lane keeps already.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use outbox::StoreError;

use super::{
    batch::Index,
    books::{Books, damaged},
    lanes::LaneRow,
    rows::Row,
};

/// So many identities are remembered by a handle, in some 35 MB.
const REMEMBERED: usize = 900_000;

/// What of one trouble is kept.
#[derive(Clone, Default)]
pub(super) struct Identities {
    generation: u64,
    /// What has a lower number is done with.
    first: u64,
    /// The number behind the last one that was read.
    next: u64,
    numbers: HashMap<u128, u64>,
}

impl Identities {
    /// Whether an event is kept.
    pub(super) fn contains(&self, identity: &str) -> bool {
        bits(identity).is_some_and(|bits| self.numbers.contains_key(&bits))
    }

    fn take_in(&mut self, index: &Index) -> Result<(), StoreError> {
        for entry in index.entries.iter().filter(|entry| entry.0 >= self.next) {
            let bits = bits(&entry.1).ok_or_else(|| damaged(&index.row.kind, &index.row.name, "events"))?;
            self.numbers.insert(bits, entry.0);
        }
        self.next = index.entries.last().map_or(self.next, |last| last.0 + 1);
        Ok(())
    }

    fn forget_before(&mut self, first: u64) {
        if self.first < first {
            self.numbers.retain(|_, number| *number >= first);
            self.first = first;
        }
    }
}

/// Lanes by their rows.
#[derive(Default)]
pub(super) struct Remembered(HashMap<Row, Arc<Identities>>);

impl Remembered {
    /// Takes out what is known of the lane's present trouble.
    fn take(&mut self, lane: &LaneRow) -> Arc<Identities> {
        let generation = lane.trouble.generation;
        let known = self.0.remove(&lane.row).filter(|known| known.generation == generation);
        known.unwrap_or_else(|| Arc::new(Identities { generation, ..Identities::default() }))
    }

    /// Of more than are remembered, only those of this lane are, and of a lane with more none.
    fn put(&mut self, lane: &LaneRow, known: Arc<Identities>) {
        let all: usize = self.0.values().map(|known| known.numbers.len() + 1).sum();
        if all + known.numbers.len() > REMEMBERED {
            self.0.clear();
        }
        if known.numbers.len() <= REMEMBERED {
            self.0.insert(lane.row.clone(), known);
        }
    }
}

impl Books {
    /// Identities of what a lane keeps.
    pub(super) async fn identities(&self, lane: &LaneRow) -> Result<Arc<Identities>, StoreError> {
        let mut known = self.remembered().take(lane);
        let from = known.next.max(lane.first);
        let indexes = self.indexes_from(lane, from).await?;
        // Nobody else has them: they were taken out.
        let now = Arc::make_mut(&mut known);
        for index in &indexes {
            now.take_in(index)?;
        }
        now.forget_before(lane.first);
        self.remembered().put(lane, known.clone());
        Ok(known)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An identity is 128 bits in hexadecimal digits.
fn bits(identity: &str) -> Option<u128> {
    u128::from_str_radix(identity, 16).ok()
}

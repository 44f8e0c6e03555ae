//! The writer of the in-memory store.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    lock,
    store::{Data, Shared, Written},
};
use crate::{
    entry::{CommitId, Content, Events},
    event::{Key, NewEvent},
    place::Place,
    writer::{EntryPlan, Expected, Receipt, WriteError, counted_bytes, plan, time_ordered_id},
};

/// A transaction on a [`MemoryStore`](super::MemoryStore): its writes appear all at once with
/// [`commit`](Self::commit), or never.
///
/// Transactions do not wait for each other: of two that move the same key, the first to commit wins, and the other is
/// told so by its own commit.
#[must_use = "a transaction that is dropped without `commit` leaves nothing"]
pub struct MemoryTransaction {
    shared: Arc<Shared>,
    restores: u64,
    incarnation: u32,
    /// Each key's head as this transaction first saw it.
    seen: BTreeMap<Key, Seen>,
    /// Each key's head as this transaction leaves it.
    heads: BTreeMap<Key, Place>,
    staged: Vec<Staged>,
}

#[derive(Clone, Copy)]
struct Seen {
    head: Option<Place>,
    expected: Expected,
}

struct Staged {
    commit: CommitId,
    recorded: Timestamp,
    key: Option<Key>,
    events: Events,
    written: Arc<Written>,
}

impl MemoryTransaction {
    pub(super) fn begin(shared: Arc<Shared>) -> Self {
        let data = lock(&shared.data);
        let (restores, incarnation) = (data.restores, data.incarnation);
        drop(data);
        Self { shared, restores, incarnation, seen: BTreeMap::new(), heads: BTreeMap::new(), staged: Vec::new() }
    }

    /// Writes `events` whatever is current: one entry for each key, keys in sorted order, then one for each event
    /// without a key. Gives a receipt an entry, in that order.
    ///
    /// # Errors
    /// As [`write_expecting`](Self::write_expecting), but for a conflict.
    pub fn write(&mut self, events: impl IntoIterator<Item = NewEvent>) -> Result<Vec<Receipt>, WriteError> {
        self.write_expecting(Expected::Any, events)
    }

    /// Writes `events` if each of their keys is at `expected`; meant for events of one key.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if a key is elsewhere, [`WriteError::TooLarge`] and [`WriteError::EntryTooLarge`] for
    /// what routes or entries do not take. The transaction is then as it was before the call.
    pub fn write_expecting(
        &mut self,
        expected: Expected,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Vec<Receipt>, WriteError> {
        let plans = plan(events)?;
        let shared = self.shared.clone();
        let data = lock(&shared.data);
        check_sizes(&data, &plans)?;
        let mut receipts = Vec::with_capacity(plans.len());
        let mut staged = Vec::with_capacity(plans.len());
        for plan in plans {
            let entry = self.stage(&data, expected, plan)?;
            receipts.push(Receipt {
                key: entry.key.clone(),
                commit: entry.commit,
                first: entry.written.first,
                count: u32::try_from(entry.events.len()).unwrap_or(u32::MAX),
            });
            staged.push(entry);
        }
        // Only now, so that an error leaves the transaction as it was.
        for entry in &staged {
            if let (Some(key), Some(last)) = (&entry.key, entry.written.last()) {
                let head = data.heads.get(key).copied();
                self.seen.entry(key.clone()).or_insert(Seen { head, expected });
                self.heads.insert(key.clone(), last);
            }
        }
        self.staged.extend(staged);
        Ok(receipts)
    }

    fn stage(&self, data: &Data, expected: Expected, plan: EntryPlan) -> Result<Staged, WriteError> {
        let EntryPlan { key, events } = plan;
        let mut first = None;
        let mut after = Place::ORIGIN;
        if let Some(key) = &key {
            let head = self.heads.get(key).or_else(|| data.heads.get(key)).copied();
            let actual = head.map_or(0, |place| place.sequence);
            if let Expected::Sequence(expected) = expected
                && expected != actual
            {
                return Err(WriteError::Conflict { key: key.clone(), expected, actual });
            }
            first = Some(Place::new(self.incarnation, actual + 1, 0));
            after = head.unwrap_or(Place::ORIGIN);
        }
        let recorded = self.shared.clock.wall();
        let events: Vec<NewEvent> = events.into_iter().map(|(_, event)| event).collect();
        let fallback_ids = events.iter().map(|_| time_ordered_id(recorded, &*self.shared.entropy)).collect();
        let written = Arc::new(Written { events, fallback_ids, first, after });
        let commit = CommitId(self.shared.entropy.sixteen());
        Ok(Staged { commit, recorded, key, events: written.events(&data.producer, recorded)?, written })
    }

    /// Makes every write of this transaction visible.
    ///
    /// # Errors
    /// Another transaction moved one of the keys meanwhile: [`WriteError::Conflict`] where the caller expected a
    /// version, else [`WriteError::RetryTransaction`]. Nothing is written then.
    pub fn commit(self) -> Result<(), WriteError> {
        let mut data = lock(&self.shared.data);
        self.check_unmoved(&data)?;
        if self.staged.is_empty() {
            return Ok(());
        }
        data.heads.extend(self.heads);
        for entry in self.staged {
            data.append(entry.commit, entry.recorded, Content::Events(entry.events), entry.key, Some(entry.written));
        }
        drop(data);
        self.shared.note_commit();
        Ok(())
    }

    fn check_unmoved(&self, data: &Data) -> Result<(), WriteError> {
        if data.restores != self.restores || data.incarnation != self.incarnation {
            return Err(WriteError::RetryTransaction { message: "the store was restored or adopted".to_owned() });
        }
        for (key, seen) in &self.seen {
            let now = data.heads.get(key).copied();
            if now == seen.head {
                continue;
            }
            return Err(match seen.expected {
                Expected::Sequence(expected) => {
                    WriteError::Conflict { key: key.clone(), expected, actual: now.map_or(0, |place| place.sequence) }
                }
                Expected::Any => WriteError::RetryTransaction { message: format!("another transaction moved `{key}`") },
            });
        }
        Ok(())
    }
}

fn check_sizes(data: &Data, plans: &[EntryPlan]) -> Result<(), WriteError> {
    let Some(limit) = data.routes.values().map(|route| route.max_event_bytes).min() else { return Ok(()) };
    for (index, event) in plans.iter().flat_map(|plan| &plan.events) {
        let bytes = counted_bytes(event);
        if bytes as u64 > limit {
            return Err(WriteError::TooLarge { index: *index, bytes, limit });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{ManualClock, MemoryStore, SeededEntropy};

    fn store() -> MemoryStore {
        MemoryStore::new("/tests", Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1))).unwrap()
    }

    fn event(key: &str) -> NewEvent {
        NewEvent::builder("t").key(key).json(&1).build().unwrap()
    }

    #[test]
    fn of_two_open_transactions_on_a_key_the_first_to_commit_wins() {
        let store = store();
        let (mut first, mut second) = (store.transaction(), store.transaction());
        first.write([event("a")]).unwrap();
        second.write([event("a")]).unwrap();
        second.commit().unwrap();
        assert!(matches!(first.commit(), Err(WriteError::RetryTransaction { .. })));
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn a_lost_race_with_an_expected_version_is_a_conflict() {
        let store = store();
        let (mut first, mut second) = (store.transaction(), store.transaction());
        first.write_expecting(Expected::Sequence(0), [event("a")]).unwrap();
        second.write_expecting(Expected::Sequence(0), [event("a")]).unwrap();
        second.commit().unwrap();
        assert!(matches!(first.commit(), Err(WriteError::Conflict { expected: 0, actual: 1, .. })));
    }

    #[test]
    fn a_refused_write_leaves_the_transaction_as_it_was() {
        let store = store();
        let mut transaction = store.transaction();
        transaction.write([event("a")]).unwrap();
        transaction.write_expecting(Expected::Sequence(5), [event("b")]).unwrap_err();
        transaction.commit().unwrap();
        assert_eq!((store.len(), store.sequence(&Key::new("b").unwrap())), (1, 0));
    }

    #[test]
    fn a_transaction_begun_before_a_restore_does_not_commit() {
        let store = store();
        let backup = store.snapshot();
        let mut transaction = store.transaction();
        transaction.write([event("a")]).unwrap();
        store.restore(&backup);
        assert!(matches!(transaction.commit(), Err(WriteError::RetryTransaction { .. })));
    }
}

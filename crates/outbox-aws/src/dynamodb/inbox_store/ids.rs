//! Ids that are remembered.

use jiff::Timestamp;
use outbox::{StoreError, inbox_store::EventId};

use super::{table::name_of, tx::DynamoTx};
use crate::dynamodb::item::{Item, flag_of, number_of};

const READING: &str = "reading remembered ids";

/// A remembered id in a transaction.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    /// What is known of the item as it was.
    pub(super) before: Before,
    pub(super) now: Option<Id>,
    /// It has to be at the commit as it was read, though it does not change: a lane begins to wait for it.
    pub(super) checked: bool,
}

/// An id's item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) expires: Timestamp,
    pub(super) done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It is taken for not being there, or forgotten.
    Guessed,
    /// It was read.
    Read(Option<Id>),
}

impl Id {
    fn of(item: &Item) -> Option<Self> {
        let expires = number_of(item, "until").and_then(|micros| Timestamp::from_microsecond(micros).ok())?;
        Some(Self { expires, done: flag_of(item, "done") })
    }

    /// Whether it counts as not being there.
    fn is_forgotten(self, until: Option<Timestamp>) -> bool {
        self.done && until.is_some_and(|until| self.expires <= until)
    }
}

impl DynamoTx<'_> {
    pub(super) async fn remember_ids(
        &mut self,
        ids: &[EventId],
        expires: Timestamp,
        done: bool,
    ) -> Result<Vec<bool>, StoreError> {
        if self.hints.reads_ids {
            self.read_ids(ids).await?;
        }
        let until = self.table.forgotten();
        let mut new = Vec::with_capacity(ids.len());
        for id in ids {
            let guessed = Remembered { before: Before::Guessed, now: None, checked: false };
            let remembered = self.ids.entry(id.clone()).or_insert(guessed);
            let is_new = remembered.now.is_none_or(|id| id.is_forgotten(until));
            if is_new {
                remembered.now = Some(Id { expires, done });
            }
            new.push(is_new);
        }
        Ok(new)
    }

    pub(super) async fn set_id_done(&mut self, id: &EventId, done: bool) -> Result<(), StoreError> {
        self.read_ids(std::slice::from_ref(id)).await?;
        if let Some(Remembered { now: Some(id), .. }) = self.ids.get_mut(id) {
            id.done = done;
        }
        Ok(())
    }

    pub(super) async fn ids_done(&mut self, ids: &[EventId]) -> Result<Vec<bool>, StoreError> {
        self.read_ids(ids).await?;
        let until = self.table.forgotten();
        let done = |id: &EventId| {
            let now = self.ids.get(id).and_then(|remembered| remembered.now);
            now.is_some_and(|id| id.done && !id.is_forgotten(until))
        };
        Ok(ids.iter().map(done).collect())
    }

    /// Has the commit fail if `id` is not as it is known here by then.
    pub(super) async fn check_id(&mut self, id: EventId) -> Result<(), StoreError> {
        self.read_ids(std::slice::from_ref(&id)).await?;
        if let Some(remembered) = self.ids.get_mut(&id) {
            remembered.checked = true;
        }
        Ok(())
    }

    /// Reads those of `ids` that nothing is known of.
    async fn read_ids(&mut self, ids: &[EventId]) -> Result<(), StoreError> {
        let mut missing: Vec<_> = ids.iter().filter(|id| !self.ids.contains_key(id)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        missing.dedup();
        let keys = missing.iter().map(|id| self.table.names.event(id)).collect();
        let mut found = self.table.items(keys, READING).await?;
        for id in missing {
            let item = found.remove(&name_of(&self.table.names.event(&id)));
            let read = item.as_ref().and_then(Id::of);
            self.ids.insert(id, Remembered { before: Before::Read(read), now: read, checked: false });
        }
        Ok(())
    }
}

/// Whether an item is a remembered id, and not forgotten.
pub(super) fn counts(item: &Item, until: Option<Timestamp>) -> bool {
    item.contains_key("until") && Id::of(item).is_some_and(|id| !id.is_forgotten(until))
}

/// Whether an item is an id whose event is done with.
pub(super) fn is_done(item: &Item) -> bool {
    Id::of(item).is_some_and(|id| id.done)
}

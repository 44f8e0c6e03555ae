//! Whether the claim under which this process reads is still the store's. Shared by the business store, which makes claims,
//! and the source, whose reads depend on them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outbox::{ErrorKind, StoreError, store::Claim};

use super::claim;
use crate::dynamodb::{
    calls::{Calls, attempted},
    schema::{self, Tables},
};

/// The claim that was made through a store. Cheap to clone; clones share it.
#[derive(Clone)]
pub(in crate::dynamodb) struct Claimed {
    calls: Calls,
    tables: Tables,
    store_id: Arc<str>,
    latest: Arc<Mutex<Option<Claim>>>,
}

impl Claimed {
    pub(super) fn new(calls: Calls, tables: Tables, store_id: &str) -> Self {
        Self { calls, tables, store_id: store_id.into(), latest: Arc::default() }
    }

    fn latest(&self) -> MutexGuard<'_, Option<Claim>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, claim: Option<Claim>) {
        *self.latest() = claim;
    }

    /// Looks at the store: one small consistent read. Nothing is looked at as long as no claim was made here.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if the next owner of the lease has claimed the store, [`ErrorKind::Ownership`] if another
    /// bookkeeping has, [`ErrorKind::HistoryChanged`] if it is an older copy of the store or another one.
    pub(in crate::dynamodb) async fn check(&self) -> Result<(), StoreError> {
        let Some(ours) = self.latest().clone() else { return Ok(()) };
        let found = self.calls.get(self.tables.heads(), schema::store_key()).await;
        let found = found.map_err(attempted("looking who reads the tables"))?.unwrap_or_default();
        self.check_store(&found)?;
        match claim::in_item(&found)? {
            Some(now) if now.bookkeeping == ours.bookkeeping && now.nonce == ours.nonce => Ok(()),
            other => Err(self.taken_over(&ours, other.as_ref())),
        }
    }

    /// Whether the item `store` is that of the store that was opened.
    pub(super) fn check_store(&self, found: &crate::dynamodb::item::Item) -> Result<(), StoreError> {
        let id = crate::dynamodb::item::text_of(found, "store_id").unwrap_or("nothing");
        if *id == *self.store_id {
            return Ok(());
        }
        let message = format!(
            "the tables {:?} hold another store now, {id} rather than {}: stop the service's writers and run `outbox adopt`",
            self.tables, self.store_id
        );
        Err(StoreError::new(ErrorKind::HistoryChanged, message))
    }

    fn taken_over(&self, ours: &Claim, now: Option<&Claim>) -> StoreError {
        let tables = &self.tables;
        match now.filter(|now| now.bookkeeping == ours.bookkeeping) {
            // A claim is never taken back to a lower epoch but by `adopt`, by another id: an older copy it is.
            Some(now) if now.epoch < ours.epoch => {
                let message = format!(
                    "the tables {tables:?} were claimed under epoch {}, but say {} now: they are an older copy. Stop the service's writers and run `outbox adopt`",
                    ours.epoch, now.epoch
                );
                StoreError::new(ErrorKind::HistoryChanged, message)
            }
            // The next owner of the lease: this one stands by.
            Some(now) if now.epoch > ours.epoch => {
                let message = format!("another relay took over the tables {tables:?}, under epoch {}", now.epoch);
                StoreError::new(ErrorKind::Fenced, message)
            }
            Some(_) | None => {
                let who = now.map_or_else(|| "nobody".to_owned(), |now| format!("bookkeeping {}", now.bookkeeping));
                let message = format!(
                    "another relay took over the tables {tables:?}: they are read by {who} now. This one stops; run one bookkeeping a store"
                );
                StoreError::new(ErrorKind::Ownership, message)
            }
        }
    }
}

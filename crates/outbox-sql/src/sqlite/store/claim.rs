//! Which bookkeeping reads a store.

use std::path::Path;

use outbox::{
    ErrorKind, StoreError,
    store::{Claim, StoreIdentity},
};
use rusqlite::Connection;

use super::Inner;
use crate::sqlite::{
    blocking::locked,
    failure::store_error,
    schema::{self, Meta},
};

/// Who the store is.
pub(super) fn identity(connection: &Connection) -> Result<StoreIdentity, StoreError> {
    let meta = schema::check(connection)?;
    let claim = meta.claim();
    Ok(StoreIdentity { id: meta.store_id, incarnation: meta.incarnation, producer: meta.producer, claim })
}

impl Inner {
    /// Compare and set under the write lock.
    pub(super) fn claim(&self, claim: Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        let is_ours = self.write("claiming the database", |tx| {
            let meta = schema::check(tx)?;
            self.check_store(&meta.store_id)?;
            let now = meta.claim();
            if now.as_ref() != seen && now.as_ref() != Some(&claim) {
                return Ok(false);
            }
            let epoch = i64::try_from(claim.epoch).unwrap_or(i64::MAX);
            tx.execute(
                "UPDATE outbox_meta SET bookkeeping = ?1, claim_epoch = ?2, claim_nonce = ?3",
                (&claim.bookkeeping, epoch, &claim.nonce),
            )
            .map_err(store_error("claiming the database"))?;
            Ok(true)
        })?;
        if is_ours {
            *locked(&self.claimed) = Some(claim);
        }
        Ok(is_ours)
    }

    pub(super) fn disown(&self) -> Result<(), StoreError> {
        self.write("giving the database to another bookkeeping", |tx| {
            tx.execute("UPDATE outbox_meta SET bookkeeping = NULL, claim_epoch = 0, claim_nonce = NULL", [])
                .map_err(store_error("giving the database to another bookkeeping"))
                .map(|_| ())
        })?;
        *locked(&self.claimed) = None;
        Ok(())
    }
}

/// Whether `claim` is still what the database says.
pub(super) fn still_ours(path: &Path, claim: &Claim, meta: &Meta) -> Result<(), StoreError> {
    if meta.claim_nonce.as_ref() == Some(&claim.nonce) {
        return Ok(());
    }
    // A claim is never taken back to a lower epoch but by `adopt`, by another id: an older copy it is.
    if meta.bookkeeping.as_ref() == Some(&claim.bookkeeping) && meta.claim_epoch < claim.epoch {
        let found =
            format!("was claimed under epoch {}, but says {} now: it is an older copy", claim.epoch, meta.claim_epoch);
        return Err(crate::sqlite::history::changed(path, &found));
    }
    // The next owner of the lease: this one stands by. If it is a copy of the bookkeeping instead, the next claim says so.
    if meta.bookkeeping.as_ref() == Some(&claim.bookkeeping) && meta.claim_epoch > claim.epoch {
        let path = path.display();
        return Err(StoreError::new(
            ErrorKind::Fenced,
            format!("another relay took over the database `{path}`, under epoch {}", meta.claim_epoch),
        ));
    }
    let who = meta.bookkeeping.as_deref().map_or_else(|| "nobody".to_owned(), |owner| format!("bookkeeping {owner}"));
    Err(StoreError::new(
        ErrorKind::Ownership,
        format!(
            "another relay took over the database `{}`: it is read by {who} now, under epoch {}. This one stops; run one bookkeeping a database",
            path.display(),
            meta.claim_epoch
        ),
    ))
}

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
    Ok(StoreIdentity {
        id: meta.store_id,
        incarnation: meta.incarnation,
        producer: meta.producer,
        bookkeeping: meta.bookkeeping,
    })
}

impl Inner {
    /// Compare and set under the write lock; a repeated claim, as after a lost answer, is granted again.
    pub(super) fn claim(&self, claim: Claim) -> Result<(), StoreError> {
        self.write("claiming the database", |tx| {
            let meta = schema::check(tx)?;
            self.check_store(&meta.store_id)?;
            grant(&self.path, &claim, &meta)?;
            let epoch = i64::try_from(claim.epoch).unwrap_or(i64::MAX);
            tx.execute(
                "UPDATE outbox_meta SET bookkeeping = ?1, claim_epoch = ?2, claim_nonce = ?3",
                (&claim.bookkeeping, epoch, &claim.nonce),
            )
            .map_err(store_error("claiming the database"))?;
            Ok(())
        })?;
        *locked(&self.claimed) = Some(claim);
        Ok(())
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

fn grant(path: &Path, claim: &Claim, meta: &Meta) -> Result<(), StoreError> {
    let path = path.display();
    match &meta.bookkeeping {
        None => Ok(()),
        Some(owner) if *owner != claim.bookkeeping => Err(StoreError::new(
            ErrorKind::Ownership,
            format!(
                "the database `{path}` is read by bookkeeping {owner}, not by {}: name that bookkeeping's file; if it is lost, run `outbox adopt`",
                claim.bookkeeping
            ),
        )),
        Some(_) if claim.epoch > meta.claim_epoch => Ok(()),
        Some(_) if claim.epoch == meta.claim_epoch && meta.claim_nonce.as_ref() == Some(&claim.nonce) => Ok(()),
        Some(owner) => Err(StoreError::new(
            ErrorKind::Ownership,
            format!(
                "the database `{path}` was claimed under epoch {} of bookkeeping {owner}, and this copy of it is at epoch {}: another copy of the bookkeeping is in use, or this one is an old backup. Keep one of them; for this one, run `outbox adopt`",
                meta.claim_epoch, claim.epoch
            ),
        )),
    }
}

/// Whether `claim` is still what the database says.
pub(super) fn still_ours(path: &Path, claim: &Claim, meta: &Meta) -> Result<(), StoreError> {
    if meta.claim_nonce.as_ref() == Some(&claim.nonce) {
        return Ok(());
    }
    // A claim is never taken back to a lower epoch but by `adopt`, which disowns first: an older copy it is.
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

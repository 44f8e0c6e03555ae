//! Raising the incarnation, after history went backwards.
//!
//! An entry that was published and then lost left its place with the consumers; the entry that a restored store writes
//! under the same number has to have another place, or inboxes take it for a duplicate and swallow it. So everything
//! written after the raise is of a higher incarnation: writers take it from `outbox_meta`.
//!
//! Entries that were written between the restore and the raise carry the old incarnation. Which ones those are cannot be
//! told from the store alone: entries behind the last agreement are either older than the backup, and then consumers may
//! have them, or newer, and then consumers have others under their numbers. `restamp` says that they are newer:
//!
//! - Without it, entries and heads stay as they are; only what is written from now on is of the new incarnation.
//! - With it, every entry behind `agreed` moves into the new incarnation, and so does the head of each key whose latest
//!   entry is one of them. A predecessor that moves takes the `after` of its successor along; the first that moves of
//!   each key keeps naming a predecessor of the old incarnation, which is where consumers of that key stand if nothing
//!   of it was lost. Ids derived from places change with them. Entries that are older than the backup are published
//!   again under new places then: a duplicate that no inbox can suppress. The runbook therefore says to adopt before
//!   writers start, when nothing has to be decided.

use outbox::{ErrorKind, StoreError};
use rusqlite::Transaction;

use crate::sqlite::{failure::store_error, schema};

/// Raises the incarnation, and moves the entries behind `agreed` into it if `restamp`. Gives the new one.
pub(super) fn raise(tx: &Transaction<'_>, agreed: i64, restamp: bool) -> Result<u32, StoreError> {
    const RAISING: &str = "raising the incarnation";
    let raised = schema::check(tx)?.incarnation.checked_add(1).ok_or_else(|| {
        StoreError::new(ErrorKind::Invalid, "the incarnation cannot rise any further: make a new store and adopt it")
    })?;
    tx.execute("UPDATE outbox_meta SET incarnation = ?1", [raised]).map_err(store_error(RAISING))?;
    if restamp {
        tx.execute(
            "UPDATE outbox_entries SET incarnation = ?1, \
             after = CASE WHEN previous_id > ?2 THEN ?1 || substr(after, instr(after, '.')) ELSE after END \
             WHERE id > ?2",
            (raised, agreed),
        )
        .map_err(store_error(RAISING))?;
        tx.execute("UPDATE outbox_heads SET incarnation = ?1 WHERE entry_id > ?2", (raised, agreed))
            .map_err(store_error(RAISING))?;
    }
    Ok(raised)
}

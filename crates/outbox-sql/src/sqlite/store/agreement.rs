//! Whether a store still holds what its bookkeeping has seen.

use outbox::{
    CommitId, StoreError,
    store::{Agreement, Witness},
};
use rusqlite::Connection;

use super::{Inner, start};
use crate::sqlite::{
    blocking::locked,
    failure::store_error,
    history::{Seen, commit_at},
};

const COMPARING: &str = "comparing the database with what was read before";

impl Inner {
    /// Compares, and remembers the newest witness for the reads that follow, if it is found.
    ///
    /// Witnesses of several routes are not recorded in the order of their positions, so they are sorted here. A witness
    /// whose entry was purged says nothing: retention removes entries from the front only, and never the newest that
    /// was read.
    pub(super) fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        let mut seen = witnesses
            .iter()
            .map(|witness| Ok(Seen { id: start::parse(&witness.position)?, commit: witness.commit }))
            .collect::<Result<Vec<_>, StoreError>>()?;
        seen.sort_by_key(|one| std::cmp::Reverse(one.id));
        let agreement = self.with_reader(|reader| {
            let transaction = reader.connection().unchecked_transaction().map_err(store_error(COMPARING))?;
            compare(&transaction, &seen)
        })?;
        if let (Agreement::Whole, Some(newest)) = (&agreement, seen.first()) {
            locked(&self.history).remember(*newest);
        }
        Ok(agreement)
    }
}

/// `seen`, the highest id first.
fn compare(connection: &Connection, seen: &[Seen]) -> Result<Agreement, StoreError> {
    let Some(newest) = seen.first() else { return Ok(Agreement::Whole) };
    if commit_at(connection, newest.id)? == Some(newest.commit) {
        return Ok(Agreement::Whole);
    }
    let oldest_kept = count(connection, "SELECT coalesce(min(id), 0) FROM outbox_entries", [])?;
    let (mut lost, mut agreed) = (newest.id, None);
    for one in seen {
        match commit_at(connection, one.id)? {
            Some(commit) if commit == one.commit => {
                agreed = Some(one.id);
                break;
            }
            None if one.id < oldest_kept => break,
            Some(CommitId(_)) | None => lost = one.id,
        }
    }
    let behind =
        count(connection, "SELECT count(*) FROM outbox_entries WHERE id > ?1", [agreed.unwrap_or(0)])?.unsigned_abs();
    let position = crate::sqlite::decode::position;
    Ok(Agreement::Lost { agreed: agreed.map(position), lost: position(lost), behind })
}

fn count(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<i64, StoreError> {
    connection.query_row(sql, params, |row| row.get(0)).map_err(store_error(COMPARING))
}

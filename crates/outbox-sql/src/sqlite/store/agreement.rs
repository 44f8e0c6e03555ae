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
    history::{Mark, commit_at},
};

const COMPARING: &str = "comparing the database with what was read before";

impl Inner {
    /// Compares, and remembers the newest witness for the reads that follow, if it is found.
    ///
    /// Witnesses of several routes are not recorded in the order of their positions, so they are sorted here. A witness
    /// whose entry was purged says nothing: retention removes entries from the front only, and never the newest that
    /// was read.
    pub(super) fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        let mut marks = witnesses
            .iter()
            .map(|witness| Ok(Mark { id: start::parse(&witness.position)?, commit: witness.commit }))
            .collect::<Result<Vec<_>, StoreError>>()?;
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.id));
        let agreement = self.with_reader(|reader| {
            let transaction = reader.connection().unchecked_transaction().map_err(store_error(COMPARING))?;
            compare(&transaction, &marks)
        })?;
        if let (Agreement::Whole, Some(newest)) = (&agreement, marks.first()) {
            locked(&self.history).remember(*newest);
        }
        Ok(agreement)
    }
}

/// `marks`, the highest id first.
fn compare(connection: &Connection, marks: &[Mark]) -> Result<Agreement, StoreError> {
    let Some(newest) = marks.first() else { return Ok(Agreement::Whole) };
    if commit_at(connection, newest.id)? == Some(newest.commit) {
        return Ok(Agreement::Whole);
    }
    let oldest_kept = count(connection, "SELECT coalesce(min(id), 0) FROM outbox_entries", [])?;
    let (mut lost, mut agreed) = (newest.id, None);
    for mark in marks {
        match commit_at(connection, mark.id)? {
            Some(commit) if commit == mark.commit => {
                agreed = Some(mark.id);
                break;
            }
            None if mark.id < oldest_kept => break,
            Some(CommitId(_)) | None => lost = mark.id,
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

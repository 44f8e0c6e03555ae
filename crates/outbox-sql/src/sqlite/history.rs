//! Whether a store still holds the history that was read before.
//!
//! A restored copy has the same tables, the same ids and, soon, the same numbers with other entries under them; a cursor
//! cannot see that. Only commit ids tell, so those of positions that were handed out are remembered, and the newest of
//! them is looked up again with every read. Retention never removes the entry a route stands on, so that a missing one
//! proves a loss as well.

use std::{collections::VecDeque, path::Path};

use outbox::{CommitId, ErrorKind, StoreError};
use rusqlite::{Connection, types::ValueRef};

use super::connection::query_optional;

/// Positions remembered besides the newest.
const RECENT: usize = 256;

/// What was read before, in memory.
#[derive(Default)]
pub(crate) struct History {
    newest: Option<Seen>,
    recent: VecDeque<Seen>,
}

/// An entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: i64,
    pub(crate) commit: CommitId,
}

/// What a read has to find. Taken before the read's snapshot, so that the snapshot must show all of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    newest: Option<Seen>,
    anchor: Option<CommitId>,
}

impl History {
    /// Remembers an entry that was handed out, or that a witness names.
    pub(crate) fn remember(&mut self, seen: Seen) {
        if self.newest.is_none_or(|newest| newest.id < seen.id) {
            self.newest = Some(seen);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
    }

    /// What a read behind `after` has to find.
    pub(crate) fn known(&self, after: i64) -> Known {
        let anchor = self.recent.iter().rev().find(|seen| seen.id == after).map(|seen| seen.commit);
        Known { newest: self.newest, anchor }
    }
}

impl Known {
    /// Whether the newest entry that was read before is still there, the same.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`] if it is not.
    pub(crate) fn check_newest(&self, connection: &Connection, path: &Path) -> Result<(), StoreError> {
        let Some(newest) = self.newest else { return Ok(()) };
        match commit_at(connection, newest.id)? {
            Some(commit) if commit == newest.commit => Ok(()),
            Some(_) => Err(other_entry(path, newest.id)),
            None => Err(missing_entry(connection, path, newest.id)),
        }
    }

    /// Whether the entry at the position that is read behind is the one that was handed out there.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`] if it is not.
    pub(crate) fn check_anchor(&self, path: &Path, id: i64, found: CommitId) -> Result<(), StoreError> {
        match self.anchor {
            Some(commit) if commit != found => Err(other_entry(path, id)),
            Some(_) | None => Ok(()),
        }
    }
}

/// The commit id of entry `id`: zeros where a foreign writer put something else there.
pub(crate) fn commit_at(connection: &Connection, id: i64) -> Result<Option<CommitId>, StoreError> {
    query_optional(
        connection,
        "looking for an entry that was read before",
        "SELECT commit_id FROM outbox_entries WHERE id = ?1",
        [id],
        |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Blob(bytes) => CommitId(bytes.try_into().unwrap_or([0; 16])),
                ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => CommitId([0; 16]),
            })
        },
    )
}

/// The entry that a reader stands on is not there.
pub(crate) fn missing_entry(connection: &Connection, path: &Path, id: i64) -> StoreError {
    let given = query_optional(
        connection,
        "reading the last id",
        "SELECT seq FROM sqlite_sequence WHERE name = 'outbox_entries'",
        [],
        |row| row.get::<_, i64>(0),
    );
    let why = match given {
        Ok(Some(last)) if last < id => format!("its last entry is {last}: it is an older copy"),
        Ok(None) => "it never had an entry: it is an older copy, or another database".to_owned(),
        Ok(Some(_)) => "it is an older copy that was written to since, or its entries were deleted by hand".to_owned(),
        Err(error) => return error,
    };
    changed(path, &format!("does not hold entry {id}, which was read before; {why}"))
}

fn other_entry(path: &Path, id: i64) -> StoreError {
    changed(
        path,
        &format!("holds another entry {id} than was read before: it is an older copy that was written to since"),
    )
}

/// History went backwards: what was found, and what to do.
pub(crate) fn changed(path: &Path, found: &str) -> StoreError {
    let message =
        format!("the database `{}` {found}. Stop its writers and run `outbox adopt` before they start", path.display());
    StoreError::new(ErrorKind::HistoryChanged, message)
}

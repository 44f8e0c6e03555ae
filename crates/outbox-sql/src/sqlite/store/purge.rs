//! Retention: removing published entries, a few at a time.

use std::time::Duration;

use outbox::{
    StoreError,
    store::{Purged, Retention},
};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::Inner;
use crate::sqlite::{blocking::locked, connection::Access, failure::store_error, schema};

/// Entries removed in one transaction at most: about a millisecond under the write lock.
const BATCH: usize = 500;
/// Their bytes, beyond the last one.
const BATCH_BYTES: i64 = 4 << 20;
/// How long a purge waits for the write lock before it gives way.
const PATIENCE: Duration = Duration::from_millis(20);
const PURGING: &str = "purging published entries";

impl Inner {
    /// Removes one batch from the front. It stops at the first entry that is not old enough, and never reaches the one
    /// at `passed`. What it removes needs no sync, so that no writer waits for the disk: a crash merely brings entries
    /// back that are purged again. If a writer holds the lock, nothing is removed and `more` says to come again.
    pub(super) fn purge(&self, passed: i64, retention: Retention) -> Result<Purged, StoreError> {
        let mut slot = locked(&self.purger);
        let connection = &self.current(&mut slot, Access::Relaxed)?.connection;
        // What to remove is found before the lock is taken: nobody else removes entries from the front.
        let Some(batch) = batch(connection, passed, retention)? else { return Ok(Purged::default()) };
        connection.busy_timeout(PATIENCE).map_err(store_error(PURGING))?;
        let transaction = match Transaction::new_unchecked(connection, TransactionBehavior::Immediate) {
            Ok(transaction) => transaction,
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                return Ok(Purged { entries: 0, more: true });
            }
            Err(error) => return Err(store_error(PURGING)(error)),
        };
        let meta = schema::check(&transaction)?;
        self.check_store(&meta.store_id)?;
        self.check_claim(&meta)?;
        let removed = transaction
            .prepare_cached("DELETE FROM outbox_entries WHERE id <= ?1")
            .and_then(|mut statement| statement.execute([batch.through]))
            .map_err(store_error(PURGING))?;
        transaction.commit().map_err(|error| store_error(PURGING)(error).uncertain())?;
        Ok(Purged { entries: removed as u64, more: batch.more })
    }
}

struct Batch {
    through: i64,
    more: bool,
}

/// The front entries that may go; `None` if none may.
fn batch(connection: &Connection, passed: i64, retention: Retention) -> Result<Option<Batch>, StoreError> {
    // Ids rise by one with each entry, so they count them; a gap that a foreign writer made counts as entries.
    let (below, before) = match retention {
        Retention::Off => return Ok(None),
        Retention::Before(time) => (passed, time.as_millisecond()),
        Retention::Newest(kept) => {
            let kept = i64::try_from(kept).unwrap_or(i64::MAX);
            (passed.min(passed.saturating_sub(kept).saturating_add(1)), i64::MAX)
        }
    };
    let mut statement = connection
        .prepare_cached(
            "SELECT id, CASE typeof(recorded_at) WHEN 'integer' THEN recorded_at ELSE 0 END, \
             coalesce(octet_length(data), 0) + coalesce(octet_length(more), 0) \
             FROM outbox_entries WHERE id < ?1 ORDER BY id",
        )
        .map_err(store_error(PURGING))?;
    let mut rows = statement.query([below]).map_err(store_error(PURGING))?;
    let (mut through, mut entries, mut bytes, mut more) = (None, 0, 0, false);
    while let Some(row) = rows.next().map_err(store_error(PURGING))? {
        let read = || -> rusqlite::Result<(i64, i64, i64)> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
        let (id, recorded, size) = read().map_err(store_error(PURGING))?;
        if recorded >= before {
            break;
        }
        if entries == BATCH || bytes >= BATCH_BYTES {
            more = true;
            break;
        }
        (through, entries, bytes) = (Some(id), entries + 1, bytes + size);
    }
    Ok(through.map(|through| Batch { through, more }))
}

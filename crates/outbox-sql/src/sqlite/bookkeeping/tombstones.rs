//! Discarded events that a restart may read again.

use outbox::{
    StoreError,
    bookkeeping::{Lease, Tombstone},
};
use rusqlite::Connection;

use super::{codec, leases::fence};
use crate::sqlite::failure::store_error;

const READING: &str = "reading tombstones";

pub(super) fn of_route(connection: &Connection, route: &str) -> Result<Vec<Tombstone>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT event_id, partition, position FROM tombstones WHERE route = ?1 ORDER BY event_id")
        .map_err(store_error(READING))?;
    statement.query_map([route], codec::tombstone).and_then(Iterator::collect).map_err(store_error(READING))
}

pub(super) fn forget(
    connection: &Connection,
    lease: &Lease,
    route: &str,
    passed: &[Tombstone],
) -> Result<(), StoreError> {
    const FORGETTING: &str = "forgetting tombstones";
    fence(connection, lease)?;
    let mut statement = connection
        .prepare_cached(
            "DELETE FROM tombstones WHERE route = ?1 AND event_id = ?2 AND partition = ?3 AND position = ?4",
        )
        .map_err(store_error(FORGETTING))?;
    for (id, partition, position) in passed {
        statement.execute([route, id, partition.as_str(), position.as_str()]).map_err(store_error(FORGETTING))?;
    }
    Ok(())
}

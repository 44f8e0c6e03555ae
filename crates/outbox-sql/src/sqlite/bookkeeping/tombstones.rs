//! Discarded events that a restart may read again.

use std::sync::Arc;

use outbox::{PartitionId, Position, StoreError, bookkeeping::Lease};
use rusqlite::Connection;

use super::{codec, leases::fence};
use crate::sqlite::failure::store_error;

const READING: &str = "reading tombstones";

pub(super) fn of_route(
    connection: &Connection,
    route: &str,
) -> Result<Vec<(Arc<str>, PartitionId, Position)>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT event_id, partition, position FROM tombstones WHERE route = ?1 ORDER BY event_id")
        .map_err(store_error(READING))?;
    statement.query_map([route], codec::tombstone).and_then(Iterator::collect).map_err(store_error(READING))
}

pub(super) fn forget(connection: &Connection, lease: &Lease, route: &str, ids: &[Arc<str>]) -> Result<(), StoreError> {
    const FORGETTING: &str = "forgetting tombstones";
    fence(connection, lease)?;
    let mut statement = connection
        .prepare_cached("DELETE FROM tombstones WHERE route = ?1 AND event_id = ?2")
        .map_err(store_error(FORGETTING))?;
    for id in ids {
        statement.execute([route, id]).map_err(store_error(FORGETTING))?;
    }
    Ok(())
}

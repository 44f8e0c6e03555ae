//! Checkpoints: how far each route is in each partition.

use outbox::{
    PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Checkpoint, Lease},
    store::Witness,
};
use rusqlite::Connection;

use super::{leases::fence, witnesses};
use crate::sqlite::failure::store_error;

pub(super) fn of_route(connection: &Connection, route: &str) -> Result<Vec<Checkpoint>, StoreError> {
    const READING: &str = "reading checkpoints";
    let mut statement = connection
        .prepare_cached("SELECT partition, position, finished FROM checkpoints WHERE route = ?1 ORDER BY partition")
        .map_err(store_error(READING))?;
    let rows = statement.query_map([route], |row| {
        Ok(Checkpoint {
            partition: PartitionId::new(row.get_ref(0)?.as_str()?),
            position: Position::new(row.get_ref(1)?.as_str()?),
            finished: row.get(2)?,
        })
    });
    rows.and_then(Iterator::collect).map_err(store_error(READING))
}

/// Every name that has one.
pub(super) fn routes(connection: &Connection) -> Result<Vec<RouteName>, StoreError> {
    const READING: &str = "reading whose checkpoints there are";
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT route FROM checkpoints ORDER BY route")
        .map_err(store_error(READING))?;
    let rows = statement.query_map([], |row| Ok(RouteName::stored(row.get_ref(0)?.as_str()?)));
    rows.and_then(Iterator::collect).map_err(store_error(READING))
}

pub(super) fn store(
    connection: &Connection,
    lease: &Lease,
    route: &str,
    checkpoint: &Checkpoint,
    witness: Option<&Witness>,
) -> Result<(), StoreError> {
    fence(connection, lease)?;
    put(connection, route, checkpoint)?;
    match witness {
        Some(witness) => witnesses::record(connection, route, &checkpoint.partition, witness),
        None => Ok(()),
    }
}

/// Sets a checkpoint whatever it was, and forgets what the route read behind it.
pub(super) fn reset(connection: &Connection, route: &str, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    put(connection, route, checkpoint)?;
    witnesses::go_back_to(connection, route, checkpoint)
}

/// Forgets the route's checkpoints in `partitions`, and all that is only of use with them.
pub(super) fn forget(
    connection: &Connection,
    lease: &Lease,
    route: &str,
    partitions: &[PartitionId],
) -> Result<(), StoreError> {
    fence(connection, lease)?;
    for table in ["checkpoints", "witnesses", "tombstones"] {
        let forget = format!("DELETE FROM {table} WHERE route = ?1 AND partition = ?2");
        let mut statement = connection.prepare_cached(&forget).map_err(store_error("forgetting checkpoints"))?;
        for partition in partitions {
            statement.execute([route, partition.as_str()]).map_err(store_error("forgetting checkpoints"))?;
        }
    }
    Ok(())
}

fn put(connection: &Connection, route: &str, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO checkpoints (route, partition, position, finished) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (route, partition) DO UPDATE SET position = excluded.position, finished = excluded.finished",
        )
        .and_then(|mut statement| {
            let (partition, position) = (checkpoint.partition.as_str(), checkpoint.position.as_str());
            statement.execute((route, partition, position, checkpoint.finished))
        })
        .map_err(store_error("storing a checkpoint"))?;
    Ok(())
}

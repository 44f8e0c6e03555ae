//! Witnesses: what each route read, as proof of which history it has seen. The latest, and an ever thinner sample of what
//! came before.

use outbox::{CommitId, PartitionId, Position, StoreError, bookkeeping::Checkpoint, store::Witness};
use rusqlite::Connection;

use crate::sqlite::{connection::query_optional, failure::store_error};

/// So many of a route's latest all stay.
const RECENT: i64 = 64;

/// Those of all routes, newest first, each once.
pub(super) fn of_partition(connection: &Connection, partition: &str) -> Result<Vec<Witness>, StoreError> {
    const READING: &str = "reading witnesses";
    let mut statement = connection
        .prepare_cached(
            "SELECT position, commit_id FROM witnesses WHERE partition = ?1 \
             GROUP BY position, commit_id ORDER BY max(id) DESC",
        )
        .map_err(store_error(READING))?;
    let rows = statement.query_map([partition], |row| {
        Ok(Witness { position: Position::new(row.get_ref(0)?.as_str()?), commit: CommitId(row.get(1)?) })
    });
    rows.and_then(Iterator::collect).map_err(store_error(READING))
}

/// Records a witness under the route's next number, and thins out the older ones. One that is the latest already is not
/// recorded again.
pub(super) fn record(
    connection: &Connection,
    route: &str,
    partition: &PartitionId,
    witness: &Witness,
) -> Result<(), StoreError> {
    let partition = partition.as_str();
    let position = witness.position.as_str();
    let latest = query_optional(
        connection,
        "reading the latest witness",
        "SELECT number, position = ?3 AND commit_id = ?4 FROM witnesses \
         WHERE route = ?1 AND partition = ?2 ORDER BY number DESC LIMIT 1",
        (route, partition, position, witness.commit.0),
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)),
    )?;
    let number = match latest {
        Some((_, true)) => return Ok(()),
        Some((number, false)) => number + 1,
        None => 1,
    };
    connection
        .prepare_cached(
            "INSERT INTO witnesses (route, partition, number, position, commit_id) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .and_then(|mut statement| statement.execute((route, partition, number, position, witness.commit.0)))
        .map_err(store_error("recording a witness"))?;
    thin_out(connection, route, partition, number)
}

/// A witness that is 64, 128, 256 … numbers old stays only if its number is a multiple of 2, 4, 8 …: each witness passes
/// each of these ages once, so a few deletions suffice. Of n witnesses about 64 + 32 log n stay.
fn thin_out(connection: &Connection, route: &str, partition: &str, latest: i64) -> Result<(), StoreError> {
    let ages = std::iter::successors(Some(RECENT), |age| age.checked_mul(2));
    let grids = std::iter::successors(Some(2_i64), |grid| grid.checked_mul(2));
    for (age, grid) in ages.zip(grids).take_while(|(age, _)| *age < latest) {
        let number = latest - age;
        if number % grid != 0 {
            connection
                .prepare_cached("DELETE FROM witnesses WHERE route = ?1 AND partition = ?2 AND number = ?3")
                .and_then(|mut statement| statement.execute((route, partition, number)))
                .map_err(store_error("thinning out witnesses"))?;
        }
    }
    Ok(())
}

/// Forgets what the route read after the checkpoint's position: all, if it is not that of a witness. Positions are
/// opaque here, so their order is that in which they were recorded.
pub(super) fn go_back_to(connection: &Connection, route: &str, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    connection
        .execute(
            "DELETE FROM witnesses WHERE route = ?1 AND partition = ?2 AND number > coalesce(\
             (SELECT max(number) FROM witnesses WHERE route = ?1 AND partition = ?2 AND position = ?3), 0)",
            (route, checkpoint.partition.as_str(), checkpoint.position.as_str()),
        )
        .map_err(store_error("forgetting witnesses"))?;
    Ok(())
}

//! Lanes in trouble, and the events kept in them.
//!
//! A lane in trouble is one row with its count of kept events. Parking behind it and releasing it exclude each other in
//! their transactions, so no event is stranded whichever comes first.

use outbox::{
    PartitionId, Position, StoreError,
    bookkeeping::{
        Apart, Front, FrontState, Keep, KeepOutcome, Kept, KeptCounts, KeptId, Lane, Lease, SettleOutcome, Settlement,
        Trouble,
    },
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    codec::{self, Encoded, StoredFront, StoredTrouble},
    leases::fence,
};
use crate::sqlite::failure::store_error;

const KEEPING: &str = "keeping events";
const SETTLING: &str = "settling kept events";
const READING: &str = "reading kept events";

/// A [`Keep`] ready to be stored: encoding is done before the transaction.
pub(super) struct Draft {
    lane: String,
    front: Option<Front>,
    partition: PartitionId,
    events: Vec<(Encoded, Position)>,
}

impl Draft {
    pub(super) fn new(partition: &PartitionId, keep: &Keep) -> Self {
        Self {
            lane: keep.lane.to_text(),
            front: keep.front.clone(),
            partition: partition.clone(),
            events: keep.events.iter().map(|(content, position)| (codec::encode(content), position.clone())).collect(),
        }
    }
}

pub(super) fn keep(
    connection: &Connection,
    lease: &Lease,
    route: &str,
    draft: &Draft,
) -> Result<KeepOutcome, StoreError> {
    fence(connection, lease)?;
    let known = generation(connection, route, &draft.lane)?;
    if known.is_none() && draft.front.is_none() {
        return Ok(KeepOutcome::KeyFree);
    }
    let mut stored = Vec::new();
    let mut front_is_new = false;
    for (event, position) in &draft.events {
        let id = insert(connection, route, draft, event, position)?;
        front_is_new |= id.is_none() && stored.is_empty();
        stored.extend(id);
    }
    let generation = match (known, &draft.front, stored.first()) {
        (Some(generation), _, _) => {
            connection
                .prepare_cached("UPDATE troubles SET kept = kept + ?3 WHERE route = ?1 AND lane = ?2")
                .and_then(|mut statement| statement.execute(params![route, draft.lane, number(stored.len())]))
                .map_err(store_error(KEEPING))?;
            generation
        }
        (None, Some(front), Some(first)) => {
            let front = if front_is_new { untried(front) } else { front.clone() };
            open_trouble(connection, route, &draft.lane, &front, *first, stored.len())?
        }
        // All of them had been discarded: there is no trouble to open, and nothing to publish.
        (None, _, _) => next_generation(connection)?,
    };
    Ok(KeepOutcome::Stored { generation: generation.unsigned_abs() })
}

/// What was said of a front that was discarded since does not apply to the event behind it: that one is tried at once.
fn untried(front: &Front) -> Front {
    Front { state: FrontState::Retrying { due: front.failed_since }, attempts: 0, ..front.clone() }
}

/// Stores one event, unless it is kept already or was discarded. Gives its number if it was stored.
fn insert(
    connection: &Connection,
    route: &str,
    draft: &Draft,
    event: &Encoded,
    position: &Position,
) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO kept (route, lane, event_id, partition, position, key, type, content, undecodable, \
             event_index) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 \
             WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE route = ?1 AND event_id = ?3 \
             AND partition = ?4 AND substr(position, 1, instr(position || '@', '@') - 1) = ?11 AND event_index = ?10) \
             ON CONFLICT DO NOTHING RETURNING id",
        )
        .and_then(|mut statement| {
            let row = params![
                route,
                draft.lane,
                event.id,
                draft.partition.as_str(),
                position.as_str(),
                event.key,
                event.kind,
                event.content,
                event.undecodable,
                event.index,
                position.record(),
            ];
            statement.query_row(row, |row| row.get(0)).optional()
        })
        .map_err(store_error(KEEPING))
}

fn open_trouble(
    connection: &Connection,
    route: &str,
    lane: &str,
    front: &Front,
    first: i64,
    kept: usize,
) -> Result<i64, StoreError> {
    let generation = next_generation(connection)?;
    let StoredFront { state, due, discard_reason, attempts, failed_since, reason } = StoredFront::of(front);
    connection
        .prepare_cached(
            "INSERT INTO troubles (route, lane, generation, front, kept, state, due, discard_reason, attempts, \
             failed_since, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .and_then(|mut statement| {
            let kept = number(kept);
            statement.execute(params![
                route,
                lane,
                generation,
                first,
                kept,
                state,
                due,
                discard_reason,
                attempts,
                failed_since,
                reason
            ])
        })
        .map_err(store_error(KEEPING))?;
    Ok(generation)
}

/// A number that no trouble had before.
pub(super) fn next_generation(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .prepare_cached("UPDATE bookkeeping SET generation = generation + 1 RETURNING generation")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(store_error(KEEPING))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn generation(connection: &Connection, route: &str, lane: &str) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT generation FROM troubles WHERE route = ?1 AND lane = ?2")
        .and_then(|mut statement| statement.query_row([route, lane], |row| row.get(0)).optional())
        .map_err(store_error(KEEPING))
}

pub(super) fn settle(
    connection: &Connection,
    lease: &Lease,
    route: &str,
    settlement: &Settlement,
) -> Result<SettleOutcome, StoreError> {
    fence(connection, lease)?;
    let lane = settlement.lane.to_text();
    let known = generation(connection, route, &lane)?;
    if known.map(i64::unsigned_abs) != Some(settlement.generation) {
        return Ok(SettleOutcome::Changed);
    }
    let mut removed = 0;
    if let (Some(apart), Some(dead)) = (&settlement.apart, settlement.remove.first()) {
        set_apart(connection, route, &lane, *dead, apart)?;
    }
    for id in &settlement.remove {
        removed += remove(connection, route, &lane, *id, settlement.discarded)?;
    }
    left(connection, route, &lane, removed, settlement.front.as_ref())
}

/// Copies a dead letter to a lane of its own, which is opened if it is not there yet.
fn set_apart(connection: &Connection, route: &str, lane: &str, dead: KeptId, apart: &Apart) -> Result<(), StoreError> {
    let name = apart.lane.to_text();
    let copy = connection
        .prepare_cached(
            "INSERT INTO kept (route, lane, event_id, partition, position, key, type, content, undecodable, \
             event_index) \
             SELECT route, ?4, event_id, partition, position, key, type, content, undecodable, event_index \
             FROM kept WHERE id = ?3 AND route = ?1 AND lane = ?2 \
             ON CONFLICT DO NOTHING RETURNING id",
        )
        .and_then(|mut statement| {
            let dead = i64::try_from(dead.0).unwrap_or(i64::MAX);
            statement.query_row(params![route, lane, dead, name], |row| row.get::<_, i64>(0)).optional()
        })
        .map_err(store_error(SETTLING))?;
    let Some(copy) = copy else { return Ok(()) };
    if generation(connection, route, &name)?.is_some() {
        return execute(
            connection,
            "UPDATE troubles SET kept = kept + 1 WHERE route = ?1 AND lane = ?2",
            [route, &name],
        );
    }
    open_trouble(connection, route, &name, &apart.front(), copy, 1).map(|_| ())
}

/// Removes one kept event; a discarded one leaves a tombstone. Gives how many were there: one or none.
fn remove(connection: &Connection, route: &str, lane: &str, id: KeptId, discarded: bool) -> Result<usize, StoreError> {
    let id = i64::try_from(id.0).unwrap_or(i64::MAX);
    if discarded {
        bury(connection, "route = ?1 AND lane = ?2 AND id = ?3", params![route, lane, id])?;
    }
    connection
        .prepare_cached("DELETE FROM kept WHERE id = ?3 AND route = ?1 AND lane = ?2")
        .and_then(|mut statement| statement.execute(params![route, lane, id]))
        .map_err(store_error(SETTLING))
}

/// Leaves tombstones for kept events that match, so that a restart that reads them again does not publish them.
pub(super) fn bury(connection: &Connection, which: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT OR REPLACE INTO tombstones (route, event_id, partition, position, event_index) \
         SELECT route, event_id, partition, position, event_index FROM kept WHERE {which}"
    );
    execute(connection, &sql, params)
}

/// Releases the lane if nothing is left of it; else notes its new front and how it fares.
fn left(
    connection: &Connection,
    route: &str,
    lane: &str,
    removed: usize,
    front: Option<&Front>,
) -> Result<SettleOutcome, StoreError> {
    let (kept, first) = connection
        .prepare_cached(
            "UPDATE troubles SET kept = kept - ?3, \
             front = coalesce((SELECT min(id) FROM kept WHERE route = ?1 AND lane = ?2), 0) \
             WHERE route = ?1 AND lane = ?2 RETURNING kept, front",
        )
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
            statement.query_row(params![route, lane, number(removed)], read)
        })
        .map_err(store_error(SETTLING))?;
    if first == 0 {
        execute(connection, "DELETE FROM troubles WHERE route = ?1 AND lane = ?2", [route, lane])?;
        return Ok(SettleOutcome::Released);
    }
    if let Some(front) = front {
        let StoredFront { state, due, discard_reason, attempts, failed_since, reason } = StoredFront::of(front);
        execute(
            connection,
            "UPDATE troubles SET state = ?3, due = ?4, discard_reason = ?5, attempts = ?6, failed_since = ?7, \
             reason = ?8 WHERE route = ?1 AND lane = ?2",
            params![route, lane, state, due, discard_reason, attempts, failed_since, reason],
        )?;
    }
    Ok(SettleOutcome::Left(kept.unsigned_abs()))
}

fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map(|_| ())
        .map_err(store_error(SETTLING))
}

/// Lanes with a key first, each kind in the order of its text.
pub(super) fn troubles(
    connection: &Connection,
    route: &str,
    after: Option<&Lane>,
    limit: usize,
) -> Result<Vec<Trouble>, StoreError> {
    let after = after.map(Lane::to_text);
    let sql = format!(
        "SELECT {} FROM troubles WHERE route = ?1 AND (?2 IS NULL OR substr(lane, 1, 1) < substr(?2, 1, 1) \
         OR (substr(lane, 1, 1) = substr(?2, 1, 1) AND lane > ?2)) \
         ORDER BY substr(lane, 1, 1) DESC, lane LIMIT ?3",
        StoredTrouble::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql).map_err(store_error(READING))?;
    let limit = number(limit);
    let rows = statement.query_map(params![route, after, limit], StoredTrouble::read).map_err(store_error(READING))?;
    rows.map(|row| row.map_err(store_error(READING))?.trouble()).collect()
}

pub(super) fn trouble(connection: &Connection, route: &str, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {} FROM troubles WHERE route = ?1 AND lane = ?2", StoredTrouble::COLUMNS))
        .and_then(|mut statement| statement.query_row([route, &lane.to_text()], StoredTrouble::read).optional())
        .map_err(store_error(READING))?
        .map(StoredTrouble::trouble)
        .transpose()
}

pub(super) fn kept(connection: &Connection, route: &str, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError> {
    let sql = format!("SELECT {} FROM kept WHERE route = ?1 AND lane = ?2 ORDER BY id LIMIT ?3", codec::KEPT);
    let mut statement = connection.prepare_cached(&sql).map_err(store_error(READING))?;
    let limit = number(limit);
    let rows = statement
        .query_map(params![route, lane.to_text(), limit], codec::StoredKept::read)
        .map_err(store_error(READING))?;
    rows.map(|row| row.map_err(store_error(READING))?.kept()).collect()
}

pub(super) fn counts(connection: &Connection, route: &str) -> Result<KeptCounts, StoreError> {
    connection
        .prepare_cached(
            "SELECT coalesce(sum(state = 'retrying'), 0), coalesce(sum(state = 'dead'), 0), \
             coalesce(sum(kept - 1), 0), count(*) FROM troubles WHERE route = ?1",
        )
        .and_then(|mut statement| {
            statement.query_row([route], |row| {
                let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
                Ok(KeptCounts { retrying: number(0)?, dead: number(1)?, parked: number(2)?, lanes: number(3)? })
            })
        })
        .map_err(store_error("counting kept events"))
}

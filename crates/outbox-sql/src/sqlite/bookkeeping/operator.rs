//! What an operator does: redrive, discard, erase, pause; and how routes are doing.

use jiff::Timestamp;
use outbox::{
    ErrorKind, Key, RouteName, StoreError,
    bookkeeping::{DeadLetter, HealthState, KeptId, Lease, RouteHealth, Selector},
};
use rusqlite::{Connection, named_params, params};

use super::{
    codec::{self, StoredKept, StoredTrouble},
    kept::{bury, next_generation},
    leases::fence,
};
use crate::sqlite::{connection::query_optional, failure::store_error};

/// Tells a running relay to look again.
pub(super) fn changed(connection: &Connection) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE bookkeeping SET operator_changes = operator_changes + 1")
        .and_then(|mut statement| statement.execute([]))
        .map(|_| ())
        .map_err(store_error("noting an operator's change"))
}

pub(super) fn changes(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT operator_changes FROM bookkeeping")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
        .map(i64::unsigned_abs)
        .map_err(store_error("looking for an operator's changes"))
}

/// Which dead letters of a route are meant, as a condition on `troubles` and `kept`.
const SELECTED: &str = "troubles.route = :route AND troubles.state = 'dead' \
     AND (:id IS NULL OR kept.id = :id) AND (:key IS NULL OR kept.key = :key) AND (:type IS NULL OR kept.type = :type)";

fn id(selector: &Selector) -> Option<i64> {
    selector.id.map(|id| i64::try_from(id.0).unwrap_or(i64::MAX))
}

pub(super) fn dead_letters(
    connection: &Connection,
    route: &RouteName,
    selector: &Selector,
    after: Option<KeptId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    const READING: &str = "reading dead letters";
    let qualified = |table: &str, columns: &str| {
        columns.split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
    };
    let sql = format!(
        "SELECT {}, {} FROM troubles JOIN kept ON kept.id = troubles.front \
         WHERE {SELECTED} AND kept.id > :after ORDER BY kept.id LIMIT :limit",
        qualified("troubles", StoredTrouble::COLUMNS),
        qualified("kept", codec::KEPT),
    );
    let mut statement = connection.prepare_cached(&sql).map_err(store_error(READING))?;
    let rows = statement.query_map(
        named_params! {
            ":route": route.as_str(),
            ":id": id(selector),
            ":key": selector.key.as_ref().map(Key::as_str),
            ":type": selector.kind,
            ":after": after.map_or(0, |id| i64::try_from(id.0).unwrap_or(i64::MAX)),
            ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
        },
        |row| Ok((StoredTrouble::read(row)?, StoredKept::read_from(row, StoredTrouble::WIDTH)?)),
    );
    rows.map_err(store_error(READING))?
        .map(|row| {
            let (trouble, kept) = row.map_err(store_error(READING))?;
            let trouble = trouble.trouble()?;
            let parked = trouble.kept.saturating_sub(1);
            Ok(DeadLetter { route: route.clone(), kept: kept.kept()?, front: trouble.front, parked })
        })
        .collect()
}

/// The redriven front is tried at once, with no attempt counted.
pub(super) fn redrive(
    connection: &Connection,
    route: &str,
    selector: &Selector,
    now: Timestamp,
) -> Result<u64, StoreError> {
    change(connection, route, selector, "state = 'retrying', due = :value, attempts = 0", &now.to_string())
}

pub(super) fn discard(
    connection: &Connection,
    route: &str,
    selector: &Selector,
    reason: &str,
) -> Result<u64, StoreError> {
    change(connection, route, selector, "state = 'discarded', due = NULL, discard_reason = :value", reason)
}

/// Changes the fronts that are meant, and gives each trouble another generation, so that a keeper that does not know of
/// the change yet cannot settle over it.
fn change(
    connection: &Connection,
    route: &str,
    selector: &Selector,
    set: &str,
    value: &str,
) -> Result<u64, StoreError> {
    const CHANGING: &str = "changing dead letters";
    let meant = format!(
        "SELECT troubles.lane FROM troubles JOIN kept ON kept.id = troubles.front WHERE {SELECTED} ORDER BY kept.id"
    );
    let mut statement = connection.prepare_cached(&meant).map_err(store_error(CHANGING))?;
    let lanes = statement.query_map(
        named_params! {
            ":route": route,
            ":id": id(selector),
            ":key": selector.key.as_ref().map(Key::as_str),
            ":type": selector.kind,
        },
        |row| row.get(0),
    );
    let lanes: Vec<String> = lanes.and_then(Iterator::collect).map_err(store_error(CHANGING))?;
    let sql = format!("UPDATE troubles SET {set}, generation = :generation WHERE route = :route AND lane = :lane");
    let mut statement = connection.prepare_cached(&sql).map_err(store_error(CHANGING))?;
    for lane in &lanes {
        let generation = next_generation(connection)?;
        statement
            .execute(named_params! { ":route": route, ":lane": lane, ":generation": generation, ":value": value })
            .map_err(store_error(CHANGING))?;
    }
    changed(connection)?;
    Ok(lanes.len() as u64)
}

/// Erases every kept event of `key`, and releases its lanes. Tombstones stay, or a restart would read the events again
/// and publish them.
pub(super) fn erase(connection: &Connection, key: &Key) -> Result<u64, StoreError> {
    const ERASING: &str = "erasing kept events";
    bury(connection, "key = ?1", [key.as_str()])?;
    connection
        .execute(
            "DELETE FROM troubles WHERE (route, lane) IN (SELECT route, lane FROM kept WHERE key = ?1)",
            [key.as_str()],
        )
        .map_err(store_error(ERASING))?;
    let erased = connection.execute("DELETE FROM kept WHERE key = ?1", [key.as_str()]).map_err(store_error(ERASING))?;
    changed(connection)?;
    Ok(erased as u64)
}

pub(super) fn note_health(
    connection: &Connection,
    lease: &Lease,
    route: &str,
    health: &RouteHealth,
) -> Result<(), StoreError> {
    fence(connection, lease)?;
    let (state, reason) = match &health.state {
        HealthState::Flowing => ("flowing", None),
        HealthState::BackingOff { reason } => ("backing_off", Some(reason)),
        HealthState::Overloaded => ("overloaded", None),
        HealthState::Recovering { reason } => ("recovering", Some(reason)),
        HealthState::Stopped { reason } => ("stopped", Some(reason)),
    };
    connection
        .execute(
            "INSERT OR REPLACE INTO health (route, state, reason, since) VALUES (?1, ?2, ?3, ?4)",
            params![route, state, reason, health.since.to_string()],
        )
        .map(|_| ())
        .map_err(store_error("noting a route's health"))
}

pub(super) fn health(connection: &Connection, route: &str) -> Result<Option<RouteHealth>, StoreError> {
    let stored = query_optional(
        connection,
        "reading a route's health",
        "SELECT state, reason, since FROM health WHERE route = ?1",
        [route],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, String>(2)?)),
    )?;
    let Some((state, reason, since)) = stored else { return Ok(None) };
    let damaged = || {
        let message = format!("the health of route `{route}` in the bookkeeping cannot be read: restart its relay");
        StoreError::new(ErrorKind::Invalid, message)
    };
    let state = match (state.as_str(), reason) {
        ("flowing", _) => HealthState::Flowing,
        ("overloaded", _) => HealthState::Overloaded,
        ("backing_off", Some(reason)) => HealthState::BackingOff { reason },
        ("recovering", Some(reason)) => HealthState::Recovering { reason },
        ("stopped", Some(reason)) => HealthState::Stopped { reason },
        _ => return Err(damaged()),
    };
    let since = codec::time(&since).map_err(|error| damaged().because(error))?;
    Ok(Some(RouteHealth { state, since }))
}

/// Claims are stored without the id, so those of the former one would read as the new one's.
pub(super) fn renew_id(connection: &Connection, id: &str) -> Result<(), StoreError> {
    const RENEWING: &str = "giving the bookkeeping another id";
    connection.execute("UPDATE bookkeeping SET id = ?1", [id]).map_err(store_error(RENEWING))?;
    connection.execute("DELETE FROM claims", []).map_err(store_error(RENEWING))?;
    changed(connection)
}

pub(super) fn paused(connection: &Connection) -> Result<Vec<RouteName>, StoreError> {
    const READING: &str = "reading paused routes";
    let mut statement =
        connection.prepare_cached("SELECT route FROM paused ORDER BY route").map_err(store_error(READING))?;
    let rows = statement.query_map([], |row| Ok(RouteName::stored(row.get_ref(0)?.as_str()?)));
    rows.and_then(Iterator::collect).map_err(store_error(READING))
}

pub(super) fn pause(connection: &Connection, route: &str, paused: bool) -> Result<(), StoreError> {
    let sql =
        if paused { "INSERT OR IGNORE INTO paused (route) VALUES (?1)" } else { "DELETE FROM paused WHERE route = ?1" };
    connection.execute(sql, [route]).map_err(store_error("pausing or resuming a route"))?;
    changed(connection)
}

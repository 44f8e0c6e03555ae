//! What belongs to a route as a whole: renaming, forgetting, replays.

use jiff::Timestamp;
use outbox::{
    ErrorKind, PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Lease, Replay},
};
use rusqlite::{Connection, Row, params};

use super::{codec, leases::fence, operator::changed};
use crate::sqlite::failure::{shown, store_error};

/// Every table with a column `route`.
const TABLES: [&str; 8] = ["checkpoints", "witnesses", "troubles", "kept", "tombstones", "health", "paused", "replays"];

/// A route's own rows, and those of the temporary routes that carry out its replays.
const OF_ROUTE: &str = "(route = ?1 OR substr(route, 1, length(?1) + 8) = ?1 || '/replay/')";

pub(super) fn rename(connection: &Connection, from: &str, to: &str) -> Result<(), StoreError> {
    const RENAMING: &str = "renaming a route";
    for table in TABLES {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {OF_ROUTE})");
        let taken: bool = connection.query_row(&sql, [to], |row| row.get(0)).map_err(store_error(RENAMING))?;
        if taken {
            let message = format!(
                "the bookkeeping knows a route `{to}` already (its {table}): choose another name, or `outbox route retire {to}` first"
            );
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
    }
    for table in TABLES {
        let sql = format!("UPDATE {table} SET route = ?2 || substr(route, length(?1) + 1) WHERE {OF_ROUTE}");
        connection.execute(&sql, [from, to]).map_err(store_error(RENAMING))?;
    }
    changed(connection)
}

pub(super) fn forget(connection: &Connection, route: &str) -> Result<(), StoreError> {
    for table in TABLES {
        connection
            .execute(&format!("DELETE FROM {table} WHERE {OF_ROUTE}"), [route])
            .map_err(store_error("forgetting a route"))?;
    }
    changed(connection)
}

pub(super) fn replays(connection: &Connection) -> Result<Vec<Replay>, StoreError> {
    const READING: &str = "reading replays";
    let mut statement = connection
        .prepare_cached(
            "SELECT id, route, filter, event, since, until, ends, finished FROM replays ORDER BY finished, number",
        )
        .map_err(store_error(READING))?;
    let rows = statement.query_map([], StoredReplay::read).map_err(store_error(READING))?;
    rows.map(|row| row.map_err(store_error(READING))?.replay()).collect()
}

pub(super) fn put_replay(connection: &Connection, replay: &Replay) -> Result<(), StoreError> {
    const PUTTING: &str = "storing a replay";
    let failed = |error: serde_json::Error| StoreError::new(ErrorKind::Invalid, format!("{PUTTING}: {error}"));
    let ends: Vec<_> =
        replay.ends.iter().map(|(partition, position)| (partition.as_str(), position.as_str())).collect();
    connection
        .execute(
            "INSERT INTO replays (id, route, filter, event, since, until, ends, finished) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET \
             route = excluded.route, filter = excluded.filter, event = excluded.event, since = excluded.since, \
             until = excluded.until, ends = excluded.ends, finished = excluded.finished",
            params![
                replay.id,
                replay.route.as_str(),
                serde_json::to_string(&replay.filter).map_err(failed)?,
                replay.event,
                replay.since.map(|time| time.to_string()),
                replay.until.map(|time| time.to_string()),
                serde_json::to_string(&ends).map_err(failed)?,
                replay.finished,
            ],
        )
        .map_err(store_error(PUTTING))?;
    changed(connection)
}

pub(super) fn note_replayed(connection: &Connection, lease: &Lease, replay: &str) -> Result<(), StoreError> {
    fence(connection, lease)?;
    connection
        .execute("UPDATE replays SET finished = 1 WHERE id = ?1", [replay])
        .map(|_| ())
        .map_err(store_error("noting a replay as finished"))
}

/// A row of `replays`.
pub(super) struct StoredReplay {
    id: String,
    route: String,
    filter: String,
    event: Option<String>,
    since: Option<String>,
    until: Option<String>,
    ends: String,
    finished: bool,
}

impl StoredReplay {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            route: row.get(1)?,
            filter: row.get(2)?,
            event: row.get(3)?,
            since: row.get(4)?,
            until: row.get(5)?,
            ends: row.get(6)?,
            finished: row.get(7)?,
        })
    }

    pub(super) fn replay(self) -> Result<Replay, StoreError> {
        let damaged = |what: &str| {
            let message = format!(
                "replay {} of the bookkeeping cannot be read: its {what} is damaged; `outbox route retire {}` removes it with its route",
                shown(&self.id, 64),
                shown(&self.route, 64)
            );
            StoreError::new(ErrorKind::Invalid, message)
        };
        let time = |text: &Option<String>, what: &str| -> Result<Option<Timestamp>, StoreError> {
            text.as_deref().map(codec::time).transpose().map_err(|error| damaged(what).because(error))
        };
        let ends: Vec<(String, String)> =
            serde_json::from_str(&self.ends).map_err(|error| damaged("end").because(error))?;
        Ok(Replay {
            route: RouteName::stored(&self.route),
            filter: serde_json::from_str(&self.filter).map_err(|error| damaged("filter").because(error))?,
            since: time(&self.since, "beginning")?,
            until: time(&self.until, "time limit")?,
            ends: ends
                .into_iter()
                .map(|(partition, position)| (PartitionId::new(partition), Position::new(position)))
                .collect(),
            finished: self.finished,
            event: self.event.clone(),
            id: self.id.clone(),
        })
    }
}

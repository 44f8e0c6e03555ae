//! The routes registered in a store.

use jiff::Timestamp;
use outbox::{ErrorKind, RouteName, Start, StoreError, store::Registration};
use rusqlite::{Connection, Row, Transaction};

use super::{Inner, start};
use crate::sqlite::{
    connection::query_optional,
    failure::{shown, store_error},
    schema::DEFAULT_MAX_EVENT_BYTES,
};

const COLUMNS: &str = "name, filter, start, start_position, max_event_bytes, gapless, registered_at";

/// Every registered route, by name.
pub(in crate::sqlite) fn all(connection: &Connection) -> Result<Vec<Registration>, StoreError> {
    const READING: &str = "reading the registered routes";
    let mut statement = connection
        .prepare(&format!("SELECT {COLUMNS} FROM outbox_routes ORDER BY name"))
        .map_err(store_error(READING))?;
    let rows = statement.query_map([], Stored::read).map_err(store_error(READING))?;
    rows.map(|row| row.map_err(store_error(READING))?.registration()).collect()
}

impl Inner {
    /// Registers a route, or takes over what may change of one; writes nothing if nothing changes. A start at a time to
    /// come is a start now: a position cannot lie ahead.
    pub(super) fn register(&self, wanted: &Registration) -> Result<Registration, StoreError> {
        let known = self.with_reader(|reader| get(reader.connection(), &wanted.route))?;
        if let Some(known) = &known
            && *known == updated(known.clone(), wanted)
        {
            return Ok(known.clone());
        }
        // Looked up before the write lock is taken, for it may take a while. Entries that come meanwhile lie behind it.
        let by_time = match (wanted.start, known.is_some() || wanted.start_position.is_some()) {
            (Start::Time(time), false) => Some(self.position_at(&wanted.route, time)?),
            (Start::Beginning | Start::Now | Start::Time(_), _) => None,
        };
        self.write("registering a route", |tx| {
            let registered = if let Some(known) = get(tx, &wanted.route)? {
                updated(known, wanted)
            } else {
                let position = match (&wanted.start_position, by_time) {
                    (Some(given), _) => given.clone(),
                    (None, Some(id)) => id.to_string(),
                    (None, None) => start::start_position(tx, wanted.start)?.to_string(),
                };
                Registration { start_position: Some(position), ..wanted.clone() }
            };
            put(tx, &registered)?;
            limit_events(tx)?;
            Ok(registered)
        })
    }

    fn position_at(&self, route: &RouteName, time: Timestamp) -> Result<i64, StoreError> {
        if time > self.options.clock.wall() {
            tracing::warn!(%route, start = %time, "the start of a new route lies in the future: it starts now");
        }
        self.with_reader(|reader| start::start_position(reader.connection(), Start::Time(time)))
    }
}

/// What is registered once `wanted` is taken over: its start stays, and it is not gapless again once it was not.
fn updated(known: Registration, wanted: &Registration) -> Registration {
    Registration {
        filter: wanted.filter.clone(),
        max_event_bytes: wanted.max_event_bytes,
        gapless: known.gapless && wanted.gapless,
        ..known
    }
}

pub(super) fn rename(tx: &Transaction<'_>, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
    if get(tx, to)?.is_some() {
        let message = format!("a route `{to}` is registered already: choose another name, or retire it first");
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    let renamed = tx
        .execute("UPDATE outbox_routes SET name = ?2 WHERE name = ?1", (from.as_str(), to.as_str()))
        .map_err(store_error("renaming a route"))?;
    found(renamed, from)
}

pub(super) fn retire(tx: &Transaction<'_>, route: &RouteName) -> Result<(), StoreError> {
    let removed = tx
        .execute("DELETE FROM outbox_routes WHERE name = ?1", [route.as_str()])
        .map_err(store_error("retiring a route"))?;
    found(removed, route)?;
    limit_events(tx)
}

fn found(changed: usize, route: &RouteName) -> Result<(), StoreError> {
    if changed == 0 {
        let message = format!("no route `{route}` is registered: `outbox route list` shows those that are");
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    Ok(())
}

fn get(connection: &Connection, route: &RouteName) -> Result<Option<Registration>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM outbox_routes WHERE name = ?1");
    query_optional(connection, "reading a registered route", &sql, [route.as_str()], Stored::read)?
        .map(Stored::registration)
        .transpose()
}

fn put(tx: &Transaction<'_>, registration: &Registration) -> Result<(), StoreError> {
    let filter = serde_json::to_string(&registration.filter)
        .map_err(|error| StoreError::new(ErrorKind::Invalid, format!("a route's filter: {error}")).because(error))?;
    tx.execute(
        &format!("INSERT OR REPLACE INTO outbox_routes ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
        (
            registration.route.as_str(),
            filter,
            start_text(registration.start),
            &registration.start_position,
            i64::try_from(registration.max_event_bytes).unwrap_or(i64::MAX),
            registration.gapless,
            registration.registered.as_millisecond(),
        ),
    )
    .map_err(store_error("registering a route"))?;
    Ok(())
}

/// What the writers may write is what every route's sink takes.
fn limit_events(tx: &Transaction<'_>) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE outbox_meta SET max_event_bytes = min(?1, (SELECT coalesce(min(max_event_bytes), ?1) FROM outbox_routes))",
        [DEFAULT_MAX_EVENT_BYTES],
    )
    .map_err(store_error("limiting the size of events"))?;
    Ok(())
}

fn start_text(start: Start) -> String {
    match start {
        Start::Beginning => "beginning".to_owned(),
        Start::Now => "now".to_owned(),
        Start::Time(time) => time.to_string(),
    }
}

/// A row of `outbox_routes`.
struct Stored {
    name: String,
    filter: String,
    start: String,
    start_position: Option<String>,
    max_event_bytes: i64,
    gapless: bool,
    registered_at: i64,
}

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            filter: row.get(1)?,
            start: row.get(2)?,
            start_position: row.get(3)?,
            max_event_bytes: row.get(4)?,
            gapless: row.get(5)?,
            registered_at: row.get(6)?,
        })
    }

    fn registration(self) -> Result<Registration, StoreError> {
        let route = self.name;
        let wrong = |column: &str| {
            let route = shown(&route, 64);
            let message = format!(
                "the registration of route `{route}` in outbox_routes cannot be read: its `{column}` is not one that Outbox wrote; run `outbox route retire {route}` and register it anew"
            );
            StoreError::new(ErrorKind::Invalid, message)
        };
        let start = match self.start.as_str() {
            "beginning" => Start::Beginning,
            "now" => Start::Now,
            time => Start::Time(time.parse().map_err(|error| wrong("start").because(error))?),
        };
        Ok(Registration {
            route: RouteName::stored(&route),
            filter: serde_json::from_str(&self.filter).map_err(|error| wrong("filter").because(error))?,
            start,
            start_position: self.start_position,
            max_event_bytes: u64::try_from(self.max_event_bytes)
                .map_err(|error| wrong("max_event_bytes").because(error))?,
            gapless: self.gapless,
            registered: Timestamp::from_millisecond(self.registered_at)
                .map_err(|error| wrong("registered_at").because(error))?,
        })
    }
}

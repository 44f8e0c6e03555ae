//! The routes registered in a store.

use jiff::Timestamp;
use outbox::{ErrorKind, RouteName, Start, StoreError, store::Registration};
use tokio_postgres::{IsolationLevel, Row, Transaction, types::Type};

use super::{Inner, invalid, start};
use crate::{
    decode::shown,
    postgres::{
        connection::StatementLimit,
        decode::{from_micros, to_micros},
        failure::store_error,
        schema::DEFAULT_MAX_EVENT_BYTES,
        source::{Eight, Param},
    },
};

const READING: &str = "reading the registered routes";
const REGISTERING: &str = "registering a route";
const COLUMNS: &str = "name, filter, start, start_position, max_event_bytes, gapless, registered_at";

impl Inner {
    /// Every registered route, by name.
    pub(super) async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM outbox.routes ORDER BY name COLLATE \"C\"");
        let client = self.keeper.client().await?;
        let rows = client.limit().within(READING, client.query_typed(&sql, &[])).await?;
        rows.iter().map(registration).collect()
    }

    /// Registers a route, or takes over what may change of one; writes nothing if nothing changes. A start at a time to come is
    /// a start now: a position cannot lie ahead.
    pub(super) async fn register(&self, wanted: Registration) -> Result<Registration, StoreError> {
        // Times are kept in microseconds.
        let registered = Timestamp::from_microsecond(wanted.registered.as_microsecond()).unwrap_or(wanted.registered);
        let wanted = Registration { registered, ..wanted };
        let known = self.routes().await?.into_iter().find(|known| known.route == wanted.route);
        if let Some(known) = &known
            && *known == updated(known.clone(), &wanted)
        {
            return Ok(known.clone());
        }
        // Looked up before anything is locked, for it may take a while. Entries that come meanwhile lie behind it.
        let start = match (&known, &wanted.start_position) {
            (None, None) => Some(self.start_of(&wanted).await?),
            (Some(_), _) | (_, Some(_)) => wanted.start_position.clone(),
        };
        self.change(REGISTERING, async |transaction, limit| {
            let registered = match limit.within(REGISTERING, get(transaction, &wanted.route)).await? {
                Some(row) => updated(registration(&row)?, &wanted),
                None => Registration { start_position: start, ..wanted },
            };
            put(transaction, limit, &registered).await?;
            limit_events(transaction, limit).await?;
            Ok(registered)
        })
        .await
    }

    async fn start_of(&self, wanted: &Registration) -> Result<String, StoreError> {
        if let Start::Time(time) = wanted.start
            && time > self.settings.clock.wall()
        {
            let route = &wanted.route;
            tracing::warn!(%route, start = %time, "the start of a new route lies in the future: it starts now");
        }
        let mut session = self.session().await;
        let mut using = session.begin().await?;
        let position = start::position(self, &mut using, wanted.start).await?;
        Ok(position.as_str().to_owned())
    }

    pub(super) async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        const RENAMING: &str = "renaming a route";
        self.change(RENAMING, async |transaction, limit| {
            if limit.within(RENAMING, get(transaction, to)).await?.is_some() {
                let message = format!("a route `{to}` is registered already: choose another name, or retire it first");
                return Err(invalid(message));
            }
            let sql = "UPDATE outbox.routes SET name = $2 WHERE name = $1";
            let names: [Param<'_>; 2] = [(&from.as_str(), Type::TEXT), (&to.as_str(), Type::TEXT)];
            let renamed = limit.within(RENAMING, transaction.execute_typed(sql, &names)).await?;
            found(renamed, from)
        })
        .await
    }

    pub(super) async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        const RETIRING: &str = "retiring a route";
        self.change(RETIRING, async |transaction, limit| {
            let sql = "DELETE FROM outbox.routes WHERE name = $1";
            let names: [Param<'_>; 1] = [(&route.as_str(), Type::TEXT)];
            found(limit.within(RETIRING, transaction.execute_typed(sql, &names)).await?, route)?;
            limit_events(transaction, limit).await
        })
        .await
    }

    /// Runs `work` in a transaction that holds the lock on `outbox.meta`, and commits it: changes of routes come one after the
    /// other, and change functions.
    async fn change<T>(
        &self,
        attempted: &'static str,
        work: impl AsyncFnOnce(&Transaction<'_>, &StatementLimit) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut client = self.keeper.client().await?;
        let limit = client.limit();
        let begin = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
        let transaction = limit.within(attempted, begin).await?;
        let locked = transaction.query_typed("SELECT store_id FROM outbox.meta FOR UPDATE", &[]);
        let locked = limit.within(attempted, locked).await?;
        let id = locked.first().map(|row| row.try_get(0)).transpose().map_err(store_error(attempted))?;
        self.check_store(id.unwrap_or_default())?;
        let result = work(&transaction, &limit).await?;
        limit.within(attempted, transaction.commit()).await.map_err(StoreError::uncertain)?;
        Ok(result)
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

fn found(changed: u64, route: &RouteName) -> Result<(), StoreError> {
    if changed == 0 {
        let message = format!("no route `{route}` is registered: `outbox route list` shows those that are");
        return Err(invalid(message));
    }
    Ok(())
}

async fn get(transaction: &Transaction<'_>, route: &RouteName) -> Result<Option<Row>, tokio_postgres::Error> {
    let sql = format!("SELECT {COLUMNS} FROM outbox.routes WHERE name = $1");
    transaction.query_typed_opt(&sql, &[(&route.as_str(), Type::TEXT)]).await
}

async fn put(
    transaction: &Transaction<'_>,
    limit: &StatementLimit,
    registration: &Registration,
) -> Result<(), StoreError> {
    let filter = serde_json::to_string(&registration.filter)
        .map_err(|error| invalid(format!("a route's filter: {error}")).because(error))?;
    let sql = format!(
        "INSERT INTO outbox.routes ({COLUMNS}) \
         VALUES ($1, $2, $3, $4, $5, $6, timestamptz '2000-01-01 00:00:00Z' + $7 * interval '1 microsecond') \
         ON CONFLICT (name) DO UPDATE SET filter = excluded.filter, max_event_bytes = excluded.max_event_bytes, \
         gapless = excluded.gapless"
    );
    let (bytes, registered) =
        (i64::try_from(registration.max_event_bytes).unwrap_or(i64::MAX), to_micros(registration.registered));
    let start = start_text(registration.start);
    let params: [Param<'_>; 7] = [
        (&registration.route.as_str(), Type::TEXT),
        (&filter, Type::TEXT),
        (&start, Type::TEXT),
        (&registration.start_position, Type::TEXT),
        (&bytes, Type::INT8),
        (&registration.gapless, Type::BOOL),
        (&registered, Type::INT8),
    ];
    limit.within(REGISTERING, transaction.execute_typed(&sql, &params)).await.map(drop)
}

/// What the writers may write is what every route's sink takes. It is a function that changes with the table, so nothing is
/// written unless it is another limit.
async fn limit_events(transaction: &Transaction<'_>, limit: &StatementLimit) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE outbox.meta SET max_event_bytes = l.bytes \
        FROM (SELECT least($1, min(r.max_event_bytes)) AS bytes FROM outbox.routes AS r) AS l \
        WHERE max_event_bytes <> l.bytes";
    let most: [Param<'_>; 1] = [(&DEFAULT_MAX_EVENT_BYTES, Type::INT8)];
    limit.within("limiting the size of events", transaction.execute_typed(SQL, &most)).await.map(drop)
}

fn start_text(start: Start) -> String {
    match start {
        Start::Beginning => "beginning".to_owned(),
        Start::Now => "now".to_owned(),
        Start::Time(time) => time.to_string(),
    }
}

/// Reads [`COLUMNS`].
fn registration(row: &Row) -> Result<Registration, StoreError> {
    let of = |error| store_error(READING)(error);
    let route: &str = row.try_get(0).map_err(of)?;
    let wrong = |column: &str| {
        let route = shown(route, 64);
        let message = format!(
            "the registration of route `{route}` in outbox.routes cannot be read: its `{column}` is not one that Outbox wrote; run `outbox route retire {route}` and register it anew"
        );
        StoreError::new(ErrorKind::Invalid, message)
    };
    let start = match row.try_get(2).map_err(of)? {
        "beginning" => Start::Beginning,
        "now" => Start::Now,
        time => Start::Time(time.parse().map_err(|error: jiff::Error| wrong("start").because(error))?),
    };
    let filter: &str = row.try_get(1).map_err(of)?;
    let registered: Eight = row.try_get(6).map_err(of)?;
    Ok(Registration {
        route: RouteName::stored(route),
        filter: serde_json::from_str(filter).map_err(|error| wrong("filter").because(error))?,
        start,
        start_position: row.try_get(3).map_err(of)?,
        max_event_bytes: u64::try_from(row.try_get::<_, i64>(4).map_err(of)?)
            .map_err(|error| wrong("max_event_bytes").because(error))?,
        gapless: row.try_get(5).map_err(of)?,
        registered: from_micros(registered.0).ok_or_else(|| wrong("registered_at"))?,
    })
}

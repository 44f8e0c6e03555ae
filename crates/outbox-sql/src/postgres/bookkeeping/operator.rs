//! What an operator does: redrive, discard, erase, pause; and how routes are doing.

use jiff::Timestamp;
use outbox::{
    ErrorKind, Key, RouteName, StoreError,
    bookkeeping::{DeadLetter, HealthState, KeptId, Lease, RouteHealth, Selector},
};
use tokio_postgres::types::Type;

use super::{
    books::{Books, column},
    codec::{self, limit, number, readable},
    connection::Param,
};

pub(super) async fn id(books: &Books) -> Result<String, StoreError> {
    // Read each time: a standby that waits for the lease claims by the id that the bookkeeping has then.
    let rows = books.read("reading the bookkeeping's id", "SELECT id FROM outbox_relay.bookkeeping", &[]).await?;
    column(rows.first().ok_or_else(emptied)?, 0)
}

pub(super) async fn changes(books: &Books) -> Result<u64, StoreError> {
    const LOOKING: &str = "looking for an operator's changes";
    let rows = books.read(LOOKING, "SELECT operator_changes FROM outbox_relay.bookkeeping", &[]).await?;
    column::<i64>(rows.first().ok_or_else(emptied)?, 0).map(i64::unsigned_abs)
}

fn emptied() -> StoreError {
    let message = "the bookkeeping has lost its id: restore it from a backup, then run `outbox adopt`";
    StoreError::new(ErrorKind::Incompatible, message)
}

pub(super) async fn dead_letters(
    books: &Books,
    route: &RouteName,
    selector: &Selector,
    after: Option<KeptId>,
    most: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let sql = format!(
        "SELECT {}, {} FROM outbox_relay.troubles JOIN outbox_relay.kept ON kept.id = troubles.front \
         WHERE troubles.route = $1 AND troubles.state = 'dead' AND troubles.front > $5 \
         AND ($2::bigint IS NULL OR kept.id = $2) AND ($3::text IS NULL OR kept.key = $3) \
         AND ($4::text IS NULL OR kept.type = $4) ORDER BY troubles.front LIMIT $6",
        codec::TROUBLE,
        codec::KEPT
    );
    let meant = Meant::of(route, selector);
    let after = after.map_or(0, |id| number(id.0));
    let most = limit(most);
    let mut params = meant.params();
    params.extend([(&after as _, Type::INT8), (&most as _, Type::INT8)]);
    let rows = books.read("reading dead letters", &sql, &params).await?;
    let letter = |row| {
        let trouble = codec::trouble(row)?;
        let parked = trouble.kept.saturating_sub(1);
        let kept = codec::kept(row, codec::TROUBLE_WIDTH)?;
        Ok(DeadLetter { route: route.clone(), kept, front: trouble.front, parked })
    };
    rows.iter().map(letter).collect()
}

/// Which dead letters of a route are meant: the first four parameters of a statement.
struct Meant<'a> {
    route: &'a str,
    id: Option<i64>,
    key: Option<&'a str>,
    kind: Option<&'a str>,
}

impl<'a> Meant<'a> {
    fn of(route: &'a RouteName, selector: &'a Selector) -> Self {
        Self {
            route: route.as_str(),
            id: selector.id.map(|id| number(id.0)),
            key: selector.key.as_ref().map(Key::as_str),
            kind: selector.kind.as_deref(),
        }
    }

    fn params(&self) -> Vec<Param<'_>> {
        vec![(&self.route, Type::TEXT), (&self.id, Type::INT8), (&self.key, Type::TEXT), (&self.kind, Type::TEXT)]
    }
}

/// The redriven front is tried at once, with no attempt counted.
pub(super) async fn redrive(
    books: &Books,
    route: &RouteName,
    selector: &Selector,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (due, meant) = (now.to_string(), Meant::of(route, selector));
    let mut params = meant.params();
    params.push((&due, Type::TEXT));
    let sql = "SELECT outbox_relay.change_dead($1, $2, $3, $4, 'retrying', $5, NULL)";
    counted(books, "redriving dead letters", sql, &params).await
}

pub(super) async fn discard(
    books: &Books,
    route: &RouteName,
    selector: &Selector,
    reason: &str,
) -> Result<u64, StoreError> {
    let (reason, meant) = (readable(reason), Meant::of(route, selector));
    let mut params = meant.params();
    params.push((&reason, Type::TEXT));
    let sql = "SELECT outbox_relay.change_dead($1, $2, $3, $4, 'discarded', NULL, $5)";
    counted(books, "discarding dead letters", sql, &params).await
}

pub(super) async fn erase(books: &Books, key: &Key) -> Result<u64, StoreError> {
    let params: [Param<'_>; 1] = [(&key.as_str(), Type::TEXT)];
    counted(books, "erasing kept events", "SELECT outbox_relay.erase($1)", &params).await
}

/// Makes a change that says how many it concerned.
async fn counted(books: &Books, attempted: &'static str, sql: &str, params: &[Param<'_>]) -> Result<u64, StoreError> {
    let rows = books.change(attempted, sql, params).await?;
    rows.first().map_or(Ok(0), |row| column::<i64>(row, 0).map(i64::unsigned_abs))
}

pub(super) async fn note_health(
    books: &Books,
    lease: &Lease,
    route: &RouteName,
    health: &RouteHealth,
) -> Result<(), StoreError> {
    let (state, reason) = match &health.state {
        HealthState::Flowing => ("flowing", None),
        HealthState::BackingOff { reason } => ("backing_off", Some(readable(reason))),
        HealthState::Overloaded => ("overloaded", None),
        HealthState::Recovering { reason } => ("recovering", Some(readable(reason))),
        HealthState::Stopped { reason } => ("stopped", Some(readable(reason))),
    };
    books
        .fenced(
            "noting a route's health",
            lease,
            "SELECT outbox_relay.note_health($1, $2, $3, $4, $5, $6, $7)",
            &[
                (&route.as_str(), Type::TEXT),
                (&state, Type::TEXT),
                (&reason, Type::TEXT),
                (&health.since.to_string(), Type::TEXT),
            ],
        )
        .await
        .map(drop)
}

pub(super) async fn health(books: &Books, route: &RouteName) -> Result<Option<RouteHealth>, StoreError> {
    let rows = books
        .read(
            "reading a route's health",
            "SELECT state, reason, since FROM outbox_relay.health WHERE route = $1",
            &[(&route.as_str(), Type::TEXT)],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let damaged = || {
        let message = format!("the health of route `{route}` in the bookkeeping cannot be read: restart its relay");
        StoreError::new(ErrorKind::Invalid, message)
    };
    let state = match (column::<&str>(row, 0)?, column::<Option<String>>(row, 1)?) {
        ("flowing", _) => HealthState::Flowing,
        ("overloaded", _) => HealthState::Overloaded,
        ("backing_off", Some(reason)) => HealthState::BackingOff { reason },
        ("recovering", Some(reason)) => HealthState::Recovering { reason },
        ("stopped", Some(reason)) => HealthState::Stopped { reason },
        _ => return Err(damaged()),
    };
    let since = codec::time(column(row, 2)?).map_err(|error| damaged().because(error))?;
    Ok(Some(RouteHealth { state, since }))
}

pub(super) async fn renew_id(books: &Books, id: &str) -> Result<(), StoreError> {
    const RENEWING: &str = "giving the bookkeeping another id";
    books.change(RENEWING, "SELECT outbox_relay.renew_id($1)", &[(&id, Type::TEXT)]).await.map(drop)
}

pub(super) async fn paused(books: &Books) -> Result<Vec<RouteName>, StoreError> {
    const READING: &str = "reading paused routes";
    let rows = books.read(READING, "SELECT route FROM outbox_relay.paused ORDER BY route", &[]).await?;
    rows.iter().map(|row| Ok(RouteName::stored(column(row, 0)?))).collect()
}

pub(super) async fn pause(books: &Books, route: &RouteName, paused: bool) -> Result<(), StoreError> {
    books
        .change(
            "pausing or resuming a route",
            "SELECT outbox_relay.pause($1, $2)",
            &[(&route.as_str(), Type::TEXT), (&paused, Type::BOOL)],
        )
        .await
        .map(drop)
}

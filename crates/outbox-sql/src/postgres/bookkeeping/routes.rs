//! What belongs to a route as a whole: renaming, forgetting, replays.

use jiff::Timestamp;
use outbox::{
    ErrorKind, PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Lease, Replay},
};
use tokio_postgres::{Row, types::Type};

use super::{
    books::{Books, column},
    codec,
};

pub(super) async fn rename(books: &Books, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
    books
        .change(
            "renaming a route",
            "SELECT outbox_relay.rename_route($1, $2)",
            &[(&from.as_str(), Type::TEXT), (&to.as_str(), Type::TEXT)],
        )
        .await
        .map(drop)
}

pub(super) async fn forget(books: &Books, route: &RouteName) -> Result<(), StoreError> {
    let sql = "SELECT outbox_relay.forget_route($1)";
    books.change("forgetting a route", sql, &[(&route.as_str(), Type::TEXT)]).await.map(drop)
}

pub(super) async fn replays(books: &Books) -> Result<Vec<Replay>, StoreError> {
    let rows = books
        .read(
            "reading replays",
            "SELECT id, route, filter, event, since, until, ends, finished FROM outbox_relay.replays \
             ORDER BY finished, number",
            &[],
        )
        .await?;
    rows.iter().map(replay).collect()
}

pub(super) async fn put_replay(books: &Books, replay: &Replay) -> Result<(), StoreError> {
    const PUTTING: &str = "storing a replay";
    let failed = |error: serde_json::Error| StoreError::new(ErrorKind::Invalid, format!("{PUTTING}: {error}"));
    let ends: Vec<_> =
        replay.ends.iter().map(|(partition, position)| (partition.as_str(), position.as_str())).collect();
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    books
        .change(
            PUTTING,
            "SELECT outbox_relay.put_replay($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                (&replay.id, Type::TEXT),
                (&replay.route.as_str(), Type::TEXT),
                (&serde_json::to_string(&replay.filter).map_err(failed)?, Type::TEXT),
                (&replay.event, Type::TEXT),
                (&time(replay.since), Type::TEXT),
                (&time(replay.until), Type::TEXT),
                (&serde_json::to_string(&ends).map_err(failed)?, Type::TEXT),
                (&replay.finished, Type::BOOL),
            ],
        )
        .await
        .map(drop)
}

pub(super) async fn note_replayed(books: &Books, lease: &Lease, replay: &str) -> Result<(), StoreError> {
    let sql = "SELECT outbox_relay.note_replayed($1, $2, $3, $4)";
    books.fenced("noting a replay as finished", lease, sql, &[(&replay, Type::TEXT)]).await.map(drop)
}

/// A row of `replays`.
fn replay(row: &Row) -> Result<Replay, StoreError> {
    let (id, route): (&str, &str) = (column(row, 0)?, column(row, 1)?);
    let damaged = |what: &str| {
        let shown = |text: &str| -> String { text.chars().filter(|one| !one.is_control()).take(64).collect() };
        let message = format!(
            "replay {} of the bookkeeping cannot be read: its {what} is damaged; `outbox route retire {}` removes it with its route",
            shown(id),
            shown(route)
        );
        StoreError::new(ErrorKind::Invalid, message)
    };
    let time = |number, what| -> Result<Option<Timestamp>, StoreError> {
        let text: Option<&str> = column(row, number)?;
        text.map(codec::time).transpose().map_err(|error| damaged(what).because(error))
    };
    let ends: Vec<(String, String)> =
        serde_json::from_str(column(row, 6)?).map_err(|error| damaged("end").because(error))?;
    Ok(Replay {
        id: id.to_owned(),
        route: RouteName::stored(route),
        filter: serde_json::from_str(column(row, 2)?).map_err(|error| damaged("filter").because(error))?,
        event: column(row, 3)?,
        since: time(4, "beginning")?,
        until: time(5, "time limit")?,
        ends: ends
            .into_iter()
            .map(|(partition, position)| (PartitionId::new(partition), Position::new(position)))
            .collect(),
        finished: column(row, 7)?,
    })
}

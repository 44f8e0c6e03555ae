//! Where a route starts.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{ErrorKind, Position, Start, StoreError};
use rusqlite::Connection;

use crate::sqlite::{
    connection::query_optional,
    failure::{shown, store_error},
};

/// How far writers' clocks may go backwards between two entries without a start by time missing one.
const CLOCK_SLACK: Duration = Duration::from_secs(60 * 60);

/// The id that a position stands for.
pub(crate) fn parse(position: &Position) -> Result<i64, StoreError> {
    let text = position.as_str();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        let message = format!(
            "`{}` is not a position of this database, which are numbers: name the bookkeeping that belongs to it",
            shown(text, 40)
        );
        StoreError::new(ErrorKind::Invalid, message)
    })
}

/// The id of the entry behind which a new route starts; 0 for the oldest retained. It is that of an entry that is there,
/// or 0, so that reading from it finds its anchor.
pub(crate) fn start_position(connection: &Connection, start: Start) -> Result<i64, StoreError> {
    match start {
        Start::Beginning => Ok(0),
        Start::Now => newest(connection),
        Start::Time(time) => match first_since(connection, time)? {
            Some(first) => before(connection, first),
            None => newest(connection),
        },
    }
}

fn newest(connection: &Connection) -> Result<i64, StoreError> {
    single(connection, "SELECT coalesce(max(id), 0) FROM outbox_entries", [])
}

fn before(connection: &Connection, id: i64) -> Result<i64, StoreError> {
    single(connection, "SELECT coalesce(max(id), 0) FROM outbox_entries WHERE id < ?1", [id])
}

/// The lowest id recorded at `time` or later. Ids and recorded times rise together, except where a clock was set back:
/// so the search by halves aims at an hour before, and looks at each entry from there.
fn first_since(connection: &Connection, time: Timestamp) -> Result<Option<i64>, StoreError> {
    let aim = time.checked_sub(CLOCK_SLACK).unwrap_or(Timestamp::MIN).as_millisecond();
    // Every entry up to `low` may be passed over; the first one sought is above it.
    let mut low = single(connection, "SELECT coalesce(min(id), 1) - 1 FROM outbox_entries", [])?;
    let mut high = newest(connection)?;
    while low < high {
        let middle = low + (high - low + 1) / 2;
        match recorded_from(connection, middle)? {
            Some((id, recorded)) if id <= high && recorded < aim => low = id,
            Some(_) | None => high = middle - 1,
        }
    }
    query_optional(
        connection,
        "looking for the first entry since a time",
        "SELECT id FROM outbox_entries WHERE id > ?1 AND typeof(recorded_at) = 'integer' AND recorded_at >= ?2 \
         ORDER BY id LIMIT 1",
        // A time between two milliseconds starts with the next.
        [low, time.as_millisecond() + i64::from(time.subsec_nanosecond() % 1_000_000 > 0)],
        |row| row.get(0),
    )
}

/// The first entry from `id` on whose recorded time can be read.
fn recorded_from(connection: &Connection, id: i64) -> Result<Option<(i64, i64)>, StoreError> {
    query_optional(
        connection,
        "looking for the first entry since a time",
        "SELECT id, recorded_at FROM outbox_entries WHERE id >= ?1 AND typeof(recorded_at) = 'integer' \
         ORDER BY id LIMIT 1",
        [id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

fn single(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<i64, StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(params, |row| row.get(0)))
        .map_err(store_error("looking for a route's start"))
}

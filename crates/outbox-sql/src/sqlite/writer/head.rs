//! A key's head: what it says of the key's next entry, and moving it on.

use outbox::{Place, WriteError};
use rusqlite::Connection;

use super::refusal::{head_was_lost, no_identity, write_error};

const READ: &str = "SELECT meta.incarnation, meta.max_event_bytes, \
     head.incarnation, head.sequence, head.last_index, head.entry_id \
     FROM outbox_meta AS meta LEFT JOIN outbox_heads AS head ON head.key = ?1 WHERE meta.one = 1";
const MAKE: &str =
    "INSERT INTO outbox_heads (key, incarnation, sequence, last_index, entry_id) VALUES (?1, ?2, ?3, ?4, ?5)";
const MOVE: &str =
    "UPDATE outbox_heads SET incarnation = ?2, sequence = ?3, last_index = ?4, entry_id = ?5 WHERE key = ?1";

/// What the next entry of a key goes on from.
pub(super) struct Head {
    /// The store's present incarnation.
    pub(super) incarnation: u32,
    /// The largest payload that the routes take.
    pub(super) max_event_bytes: u64,
    latest: Option<Latest>,
}

/// A key's latest entry.
struct Latest {
    last: Place,
    entry_id: i64,
}

impl Head {
    /// Reads the head of `key`; without a key, only what concerns the store.
    pub(super) fn read(connection: &Connection, key: Option<&str>) -> Result<Self, WriteError> {
        let read = |row: &rusqlite::Row<'_>| {
            let sequence: Option<i64> = row.get(3)?;
            let latest = match sequence {
                None => None,
                Some(sequence) => Some(Latest {
                    last: Place::new(row.get(2)?, sequence.unsigned_abs(), row.get(4)?),
                    entry_id: row.get(5)?,
                }),
            };
            Ok(Self { incarnation: row.get(0)?, max_event_bytes: row.get::<_, i64>(1)?.unsigned_abs(), latest })
        };
        match connection.prepare_cached(READ).and_then(|mut statement| statement.query_row([key], read)) {
            Ok(head) => Ok(head),
            Err(rusqlite::Error::QueryReturnedNoRows) => Err(no_identity()),
            Err(error) => Err(write_error(error)),
        }
    }

    /// The key's latest sequence; 0 if it has no entry.
    pub(super) fn sequence(&self) -> u64 {
        self.latest.as_ref().map_or(0, |latest| latest.last.sequence)
    }

    /// The place of the next entry's first event.
    pub(super) fn next(&self) -> Place {
        Place::new(self.incarnation, self.sequence() + 1, 0)
    }

    /// The place of the event before that, as the column `after` has it.
    pub(super) fn after(&self) -> String {
        self.latest.as_ref().map_or(Place::ORIGIN, |latest| latest.last).to_string()
    }

    /// The row of the key's latest entry.
    pub(super) fn entry_id(&self) -> Option<i64> {
        self.latest.as_ref().map(|latest| latest.entry_id)
    }

    /// Moves the head to the next entry, which has `count` events and is row `id`. Gives its place.
    pub(super) fn advance(&self, connection: &Connection, key: &str, count: u32, id: i64) -> Result<Place, WriteError> {
        let place = self.next();
        let sql = if self.latest.is_some() { MOVE } else { MAKE };
        let row = (key, place.incarnation, place.sequence.cast_signed(), count.saturating_sub(1), id);
        let moved =
            connection.prepare_cached(sql).and_then(|mut statement| statement.execute(row)).map_err(write_error)?;
        if moved == 1 { Ok(place) } else { Err(head_was_lost(key)) }
    }
}

//! How kept events and fronts are stored.

use jiff::Timestamp;
use outbox::{
    ErrorKind, Key, PartitionId, Position, StoreError, Undecodable,
    bookkeeping::{Front, FrontState, Kept, KeptContent, KeptId, Lane, Tombstone, Trouble},
    cloudevents::{Envelope, json},
};
use tokio_postgres::Row;

use super::books::column;

/// A number as the tables hold it.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// How many rows to give at most.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A text that people read, which may come from a sink: PostgreSQL has no NUL in its texts.
pub(super) fn readable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A time as stored.
pub(super) fn time(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse()
}

/// The events of a `Keep` as columns, each an array.
#[derive(Default)]
pub(super) struct Encoded {
    pub(super) ids: Vec<String>,
    pub(super) positions: Vec<String>,
    pub(super) indexes: Vec<i64>,
    pub(super) keys: Vec<Option<String>>,
    pub(super) kinds: Vec<Option<String>>,
    pub(super) contents: Vec<Vec<u8>>,
    pub(super) undecodables: Vec<Option<String>>,
}

impl Encoded {
    pub(super) fn of(events: &[(KeptContent, Position)]) -> Self {
        let mut columns = Self::default();
        for (content, position) in events {
            columns.push(content, position);
        }
        columns
    }

    /// An event becomes a CloudEvent as JSON; a row that could not be read stays as it was found.
    fn push(&mut self, content: &KeptContent, position: &Position) {
        let text = |key: &Key| key.as_str().to_owned();
        self.ids.push(content.id().to_owned());
        self.positions.push(position.as_str().to_owned());
        self.indexes.push(content.index().into());
        match content {
            KeptContent::Event(event) => {
                self.keys.push(event.key().map(text));
                self.kinds.push(Some(event.kind().to_owned()));
                self.contents.push(json::encode(event, Envelope::default()));
                self.undecodables.push(None);
            }
            KeptContent::Undecodable(row) => {
                self.keys.push(row.key.as_ref().map(text));
                self.kinds.push(None);
                self.contents.push(row.raw.to_vec());
                self.undecodables.push(Some(readable(&row.reason)));
            }
        }
    }
}

/// What a query has to select of `kept`, in this order, for [`kept`].
pub(super) const KEPT: &str =
    "kept.id, kept.event_id, kept.partition, kept.position, kept.key, kept.content, kept.undecodable";

/// A row of `kept`, whose columns begin at number `first`.
pub(super) fn kept(row: &Row, first: usize) -> Result<Kept, StoreError> {
    let id: i64 = column(row, first)?;
    let content: Vec<u8> = column(row, first + 5)?;
    let content = match column::<Option<String>>(row, first + 6)? {
        None => KeptContent::Event(json::decode(&content).map_err(|error| damaged("kept event", id, &error))?),
        Some(reason) => {
            let key: Option<String> = column(row, first + 4)?;
            KeptContent::Undecodable(Undecodable {
                id: column::<String>(row, first + 1)?.into(),
                key: key.map(Key::new).transpose().map_err(|error| damaged("kept row", id, &error))?,
                reason,
                raw: content.into(),
            })
        }
    };
    Ok(Kept {
        id: KeptId(id.unsigned_abs()),
        content,
        partition: PartitionId::new(column::<&str>(row, first + 2)?),
        position: Position::new(column::<&str>(row, first + 3)?),
    })
}

fn damaged(what: &str, which: impl std::fmt::Display, error: &dyn std::fmt::Display) -> StoreError {
    // A row that somebody changed by hand may hold anything.
    let shown = |text: String, longest| -> String {
        text.chars().filter(|character| !character.is_control()).take(longest).collect()
    };
    let (which, error) = (shown(which.to_string(), 64), shown(error.to_string(), 256));
    let message = format!(
        "{what} {which} in the bookkeeping cannot be read: {error}; restore the bookkeeping from a backup, then run `outbox adopt`"
    );
    StoreError::new(ErrorKind::Invalid, message)
}

/// A front's columns; all of them NULL if there is none.
#[derive(Default)]
pub(super) struct StoredFront {
    pub(super) state: Option<&'static str>,
    pub(super) due: Option<String>,
    pub(super) discard_reason: Option<String>,
    pub(super) attempts: Option<i64>,
    pub(super) failed_since: Option<String>,
    pub(super) reason: Option<String>,
}

impl StoredFront {
    pub(super) fn of(front: Option<&Front>) -> Self {
        let Some(front) = front else { return Self::default() };
        let (state, due, discard_reason) = match &front.state {
            FrontState::Retrying { due } => ("retrying", Some(due.to_string()), None),
            FrontState::Dead => ("dead", None, None),
            FrontState::Discarded { reason } => ("discarded", None, Some(readable(reason))),
        };
        Self {
            state: Some(state),
            due,
            discard_reason,
            attempts: Some(front.attempts.into()),
            failed_since: Some(front.failed_since.to_string()),
            reason: Some(readable(&front.reason)),
        }
    }
}

/// What a query has to select of `troubles`, in this order, for [`trouble`].
pub(super) const TROUBLE: &str = "troubles.lane, troubles.generation, troubles.kept, troubles.state, troubles.due, \
     troubles.discard_reason, troubles.attempts, troubles.failed_since, troubles.reason";
/// How many these are.
pub(super) const TROUBLE_WIDTH: usize = 9;

/// A row of `troubles`.
pub(super) fn trouble(row: &Row) -> Result<Trouble, StoreError> {
    let name: &str = column(row, 0)?;
    let damaged = |error: &dyn std::fmt::Display| damaged("lane", name, error);
    let lane = Lane::from_text(name).ok_or_else(|| damaged(&"its name is no lane's"))?;
    let (due, discard_reason): (Option<&str>, Option<String>) = (column(row, 4)?, column(row, 5)?);
    let state = match (column::<&str>(row, 3)?, due, discard_reason) {
        ("retrying", Some(due), _) => FrontState::Retrying { due: time(due).map_err(|error| damaged(&error))? },
        ("dead", _, _) => FrontState::Dead,
        ("discarded", _, Some(reason)) => FrontState::Discarded { reason },
        (other, _, _) => return Err(damaged(&format!("its state is `{other}`"))),
    };
    let failed_since = time(column(row, 7)?).map_err(|error| damaged(&error))?;
    let attempts = u32::try_from(column::<i64>(row, 6)?).map_err(|error| damaged(&error))?;
    Ok(Trouble {
        front: Front { state, attempts, failed_since, reason: column(row, 8)? },
        generation: column::<i64>(row, 1)?.unsigned_abs(),
        kept: column::<i64>(row, 2)?.unsigned_abs(),
        lane,
    })
}

/// A row of `tombstones`: event's id, partition, position.
pub(super) fn tombstone(row: &Row) -> Result<Tombstone, StoreError> {
    let id: &str = column(row, 0)?;
    Ok((id.into(), PartitionId::new(column::<&str>(row, 1)?), Position::new(column::<&str>(row, 2)?)))
}

//! How kept events and fronts are stored.

use jiff::Timestamp;
use outbox::{
    ErrorKind, Event, Key, PartitionId, Position, StoreError, Undecodable,
    bookkeeping::{Front, FrontState, Kept, KeptContent, KeptId, Lane, Tombstone, Trouble},
    cloudevents::{Envelope, json},
};
use rusqlite::Row;

use crate::sqlite::failure::shown;

/// A kept event's columns.
pub(super) struct Encoded {
    pub(super) id: String,
    pub(super) index: u32,
    pub(super) key: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) content: Vec<u8>,
    pub(super) undecodable: Option<String>,
}

/// An event becomes a CloudEvent as JSON; a row that could not be read stays as it was found.
pub(super) fn encode(content: &KeptContent) -> Encoded {
    let text = |key: &Key| key.as_str().to_owned();
    match content {
        KeptContent::Event(event) => Encoded {
            id: event.id().to_owned(),
            index: content.index(),
            key: event.key().map(text),
            kind: Some(event.kind().to_owned()),
            content: json::encode(event, Envelope::default()),
            undecodable: None,
        },
        KeptContent::Undecodable(row) => Encoded {
            id: row.id.as_ref().to_owned(),
            index: content.index(),
            key: row.key.as_ref().map(text),
            kind: None,
            content: row.raw.to_vec(),
            undecodable: Some(row.reason.clone()),
        },
    }
}

/// What a query has to select, in this order, for [`StoredKept`].
pub(super) const KEPT: &str = "id, event_id, partition, position, key, content, undecodable";

/// A row of `kept`.
pub(super) struct StoredKept {
    id: i64,
    event_id: String,
    partition: String,
    position: String,
    key: Option<String>,
    content: Vec<u8>,
    undecodable: Option<String>,
}

impl StoredKept {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Self::read_from(row, 0)
    }

    /// Reads columns from number `first` on.
    pub(super) fn read_from(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(first)?,
            event_id: row.get(first + 1)?,
            partition: row.get(first + 2)?,
            position: row.get(first + 3)?,
            key: row.get(first + 4)?,
            content: row.get(first + 5)?,
            undecodable: row.get(first + 6)?,
        })
    }

    pub(super) fn kept(self) -> Result<Kept, StoreError> {
        let id = self.id;
        let content = match self.undecodable {
            None => KeptContent::Event(decode(&self.content).map_err(|error| damaged("kept event", id, &error))?),
            Some(reason) => KeptContent::Undecodable(Undecodable {
                id: self.event_id.into(),
                key: self.key.map(Key::new).transpose().map_err(|error| damaged("kept row", id, &error))?,
                reason,
                raw: self.content.into(),
            }),
        };
        Ok(Kept {
            id: KeptId(id.unsigned_abs()),
            content,
            partition: PartitionId::new(self.partition),
            position: Position::new(self.position),
        })
    }
}

fn decode(content: &[u8]) -> Result<Event, outbox::cloudevents::DecodeError> {
    json::decode(content)
}

fn damaged(what: &str, which: impl std::fmt::Display, error: &dyn std::fmt::Display) -> StoreError {
    // A row that somebody changed by hand may hold anything.
    let (which, error) = (shown(&which.to_string(), 64), shown(&error.to_string(), 256));
    let message = format!(
        "{what} {which} in the bookkeeping cannot be read: {error}; restore the bookkeeping from a backup, then run `outbox adopt`"
    );
    StoreError::new(ErrorKind::Invalid, message)
}

/// A front's columns.
pub(super) struct StoredFront<'a> {
    pub(super) state: &'static str,
    pub(super) due: Option<String>,
    pub(super) discard_reason: Option<&'a str>,
    pub(super) attempts: u32,
    pub(super) failed_since: String,
    pub(super) reason: &'a str,
}

impl<'a> StoredFront<'a> {
    pub(super) fn of(front: &'a Front) -> Self {
        let (state, due, discard_reason) = match &front.state {
            FrontState::Retrying { due } => ("retrying", Some(due.to_string()), None),
            FrontState::Dead => ("dead", None, None),
            FrontState::Discarded { reason } => ("discarded", None, Some(reason.as_str())),
        };
        Self {
            state,
            due,
            discard_reason,
            attempts: front.attempts,
            failed_since: front.failed_since.to_string(),
            reason: &front.reason,
        }
    }
}

/// A row of `troubles`.
pub(super) struct StoredTrouble {
    lane: String,
    generation: i64,
    kept: i64,
    state: String,
    due: Option<String>,
    discard_reason: Option<String>,
    attempts: u32,
    failed_since: String,
    reason: String,
}

impl StoredTrouble {
    /// What a query has to select, in this order.
    pub(super) const COLUMNS: &'static str =
        "lane, generation, kept, state, due, discard_reason, attempts, failed_since, reason";
    /// How many these are.
    pub(super) const WIDTH: usize = 9;

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            lane: row.get(0)?,
            generation: row.get(1)?,
            kept: row.get(2)?,
            state: row.get(3)?,
            due: row.get(4)?,
            discard_reason: row.get(5)?,
            attempts: row.get(6)?,
            failed_since: row.get(7)?,
            reason: row.get(8)?,
        })
    }

    pub(super) fn trouble(self) -> Result<Trouble, StoreError> {
        let damaged = |error: &dyn std::fmt::Display| damaged("lane", &self.lane, error);
        let lane = Lane::from_text(&self.lane).ok_or_else(|| damaged(&"its name is no lane's"))?;
        let state = match (self.state.as_str(), &self.due, self.discard_reason.clone()) {
            ("retrying", Some(due), _) => FrontState::Retrying { due: time(due).map_err(|error| damaged(&error))? },
            ("dead", _, _) => FrontState::Dead,
            ("discarded", _, Some(reason)) => FrontState::Discarded { reason },
            (other, _, _) => return Err(damaged(&format!("its state is `{other}`"))),
        };
        let failed_since = time(&self.failed_since).map_err(|error| damaged(&error))?;
        Ok(Trouble {
            lane,
            generation: self.generation.unsigned_abs(),
            front: Front { state, attempts: self.attempts, failed_since, reason: self.reason },
            kept: self.kept.unsigned_abs(),
        })
    }
}

/// A time as stored.
pub(super) fn time(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse()
}

/// A tombstone's columns.
pub(super) fn tombstone(row: &Row<'_>) -> rusqlite::Result<Tombstone> {
    Ok((
        row.get_ref(0)?.as_str()?.into(),
        PartitionId::new(row.get_ref(1)?.as_str()?),
        Position::new(row.get_ref(2)?.as_str()?),
    ))
}

//! From a row of `outbox_entries` to a record.
//!
//! Every commit's row passes here, so the common row (one event without attributes) is decoded without parsing any
//! JSON, and its payload is copied once. A row that a foreign writer filled with rubbish becomes
//! [`Content::Undecodable`] with what is wrong with which column; the rows behind it go on.

use jiff::Timestamp;
use outbox::{CommitId, Content, Events, Key, Position, Record, Undecodable};
use rusqlite::{Row, types::ValueRef};

use super::history::Seen;
use crate::decode::{Columns, NO_COMMIT, Payloads, Placed, Producer, Rubbish};

mod column;
mod raw;

/// What a query has to select, in this order, for [`Decoder::record`].
pub(crate) const COLUMNS: &str = "id, key, incarnation, sequence, count, after, commit_id, recorded_at, type, event_id, \
     content_type, data, attributes, more";

/// The columns' numbers in [`COLUMNS`].
mod number {
    pub(super) const ID: usize = 0;
    pub(super) const KEY: usize = 1;
    pub(super) const INCARNATION: usize = 2;
    pub(super) const SEQUENCE: usize = 3;
    pub(super) const COUNT: usize = 4;
    pub(super) const AFTER: usize = 5;
    pub(super) const COMMIT: usize = 6;
    pub(super) const RECORDED: usize = 7;
    pub(super) const KIND: usize = 8;
    pub(super) const EVENT_ID: usize = 9;
    pub(super) const CONTENT_TYPE: usize = 10;
    pub(super) const DATA: usize = 11;
    pub(super) const ATTRIBUTES: usize = 12;
    pub(super) const MORE: usize = 13;
}

/// Decodes the rows of one connection.
pub(crate) struct Decoder {
    producer: Producer,
    payloads: Payloads,
}

impl Decoder {
    /// For the events of `producer`.
    pub(crate) fn new(producer: &str) -> Self {
        Self { producer: Producer::new(producer), payloads: Payloads::default() }
    }

    /// The producer that the events are given.
    pub(crate) fn producer(&self) -> &str {
        self.producer.name()
    }

    /// Which entry a row with [`COLUMNS`] is.
    ///
    /// # Errors
    /// Only if the row has other columns.
    pub(crate) fn seen(row: &Row<'_>) -> rusqlite::Result<Seen> {
        Ok(Seen { id: row.get(number::ID)?, commit: commit(row).unwrap_or(NO_COMMIT) })
    }

    /// The record of a row with [`COLUMNS`], and which entry it is.
    ///
    /// # Errors
    /// Only if the row has other columns; rubbish in them makes the record undecodable.
    pub(crate) fn record(&mut self, row: &Row<'_>) -> rusqlite::Result<(Seen, Record)> {
        let (id, commit, recorded) = (row.get(number::ID)?, commit(row), recorded(row));
        let seen = Seen { id, commit: *commit.as_ref().unwrap_or(&NO_COMMIT) };
        let time = *recorded.as_ref().unwrap_or(&Timestamp::UNIX_EPOCH);
        let content = match self.events(row, id, commit, recorded) {
            Ok(events) => Content::Events(events),
            Err(rubbish) => Content::Undecodable(undecodable(row, id, &rubbish)?),
        };
        Ok((seen, Record { position: position(id), commit: seen.commit, recorded: time, content }))
    }

    fn events(
        &mut self,
        row: &Row<'_>,
        id: i64,
        commit: Result<CommitId, Rubbish>,
        recorded: Result<Timestamp, Rubbish>,
    ) -> Result<Events, Rubbish> {
        let columns = Columns {
            id,
            commit: commit?,
            recorded: recorded?,
            count: count(row),
            placed: placed(row)?,
            key: key(row)?,
            kind: column::text(row, number::KIND, "type")?
                .ok_or_else(|| Rubbish::new("type", "is NULL: write what happened, as `order.placed`"))?,
            event_id: column::text(row, number::EVENT_ID, "event_id")?,
            content_type: column::text(row, number::CONTENT_TYPE, "content_type")?,
            data: column::bytes(row, number::DATA, "data")?.map(|data| self.payloads.copy(data)),
            attributes: column::bytes(row, number::ATTRIBUTES, "attributes")?,
            more: column::bytes(row, number::MORE, "more")?,
        };
        self.producer.events(columns)
    }
}

/// A position is the row's id in decimal.
pub(crate) fn position(id: i64) -> Position {
    Position::new(itoa::Buffer::new().format(id))
}

fn key(row: &Row<'_>) -> Result<Option<Key>, Rubbish> {
    column::text(row, number::KEY, "key")?.map(Key::new).transpose().map_err(|error| Rubbish::attribute(&error))
}

fn commit(row: &Row<'_>) -> Result<CommitId, Rubbish> {
    let expected = || Rubbish::new("commit_id", "is not 16 bytes: write a BLOB of 16 random bytes");
    match row.get_ref(number::COMMIT) {
        Ok(ValueRef::Blob(bytes)) => Ok(CommitId(bytes.try_into().map_err(|_| expected())?)),
        _ => Err(expected()),
    }
}

fn recorded(row: &Row<'_>) -> Result<Timestamp, Rubbish> {
    let expected = "is not a time: write milliseconds since 1970 as an INTEGER";
    match row.get_ref(number::RECORDED) {
        Ok(ValueRef::Integer(millis)) => {
            Timestamp::from_millisecond(millis).map_err(|_| Rubbish::new("recorded_at", expected))
        }
        _ => Err(Rubbish::new("recorded_at", expected)),
    }
}

/// How many events it holds; 0, which none does, if that is no number.
fn count(row: &Row<'_>) -> i64 {
    match row.get_ref(number::COUNT) {
        Ok(ValueRef::Integer(count)) => count,
        _ => 0,
    }
}

/// Where the entry stands; `None` for one without a key.
fn placed(row: &Row<'_>) -> Result<Option<Placed>, Rubbish> {
    let number = |column, name| match row.get_ref(column) {
        Ok(ValueRef::Integer(number)) if number >= 1 => Ok(number.unsigned_abs()),
        _ => Err(Rubbish::new(name, "is not a number from 1: write it as an INTEGER")),
    };
    if matches!(row.get_ref(number::SEQUENCE), Ok(ValueRef::Null)) {
        return Ok(None);
    }
    let (sequence, incarnation) = (number(number::SEQUENCE, "sequence")?, number(number::INCARNATION, "incarnation")?);
    Placed::new(incarnation, sequence, column::text(row, number::AFTER, "after")?).map(Some)
}

fn undecodable(row: &Row<'_>, id: i64, rubbish: &Rubbish) -> rusqlite::Result<Undecodable> {
    Ok(Undecodable {
        id: format!("row/{id}").into(),
        key: key(row).ok().flatten(),
        reason: format!("row {id} of outbox_entries: {rubbish}"),
        raw: raw::render(row)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_in_decimal() {
        for id in [0, 7, 10, 4_096, i64::MAX] {
            assert_eq!(position(id).as_str(), id.to_string());
        }
    }
}

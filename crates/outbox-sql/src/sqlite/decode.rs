//! From a row of `outbox_entries` to a record.
//!
//! Every commit's row passes here, so the common row (one event without attributes) is decoded without parsing any
//! JSON, and its payload is copied once. A row that a foreign writer filled with rubbish becomes
//! [`Content::Undecodable`] with what is wrong with which column; the rows behind it go on.

use std::sync::Arc;

use jiff::Timestamp;
use outbox::{
    CommitId, Content, Event, Events, Key, NewEvent, Place, Placing, Position, Record, Undecodable, event::Identity,
    writer::MAX_ENTRY_EVENTS,
};
use rusqlite::{Row, types::ValueRef};

use super::history::Seen;

mod column;
mod extras;
mod payloads;
mod raw;

use column::{Rubbish, Shared};
use payloads::Payloads;

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

/// What a row has that a foreign writer gave no commit id.
const NO_COMMIT: CommitId = CommitId([0; 16]);

/// Decodes the rows of one connection.
pub(crate) struct Decoder {
    producer: Arc<str>,
    kind: Shared,
    content_type: Shared,
    payloads: Payloads,
}

impl Decoder {
    /// For the events of `producer`.
    pub(crate) fn new(producer: &str) -> Self {
        Self {
            producer: producer.into(),
            kind: Shared::default(),
            content_type: Shared::default(),
            payloads: Payloads::default(),
        }
    }

    /// The producer that the events are given.
    pub(crate) fn producer(&self) -> &str {
        &self.producer
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
        let (commit, recorded, count) = (commit?, recorded?, count(row)?);
        let placed = placed(row)?;
        let key = key(row)?;
        if placed.is_some() != key.is_some() {
            return Err(Rubbish::new(
                "sequence",
                "stands without a key, or the key without it: write both, or NULL in both",
            ));
        }
        let first = self.first(row, key.clone())?;
        let entry = Entry { producer: &self.producer, id, commit, recorded, count, placed };
        let first = entry.event(first, 0).map_err(|error| Rubbish::new("event_id", error))?;
        let more = match column::bytes(row, number::MORE, "more")? {
            None => Vec::new(),
            Some(json) => extras::more(json, key.as_ref())?,
        };
        if more.len() + 1 != count as usize {
            let found = format!("is {count}, but `more` holds {} further events: write 1 and their number", more.len());
            return Err(Rubbish::new("count", found));
        }
        if more.is_empty() {
            return Ok(first.into());
        }
        let further = more.into_iter().zip(1..).map(|(event, index)| {
            entry.event(event, index).map_err(|error| Rubbish::new("more", format!("event {index}: {error}")))
        });
        std::iter::once(Ok(first)).chain(further).collect()
    }

    fn first(&mut self, row: &Row<'_>, key: Option<Key>) -> Result<NewEvent, Rubbish> {
        let kind = column::text(row, number::KIND, "type")?
            .ok_or_else(|| Rubbish::new("type", "is NULL: write what happened, as `order.placed`"))?;
        let event_id = column::text(row, number::EVENT_ID, "event_id")?;
        let content_type = column::text(row, number::CONTENT_TYPE, "content_type")?;
        let data = column::bytes(row, number::DATA, "data")?.map(|data| self.payloads.copy(data));
        match column::bytes(row, number::ATTRIBUTES, "attributes")? {
            None => {
                let (kind, content_type) =
                    (self.kind.share(kind), content_type.map(|text| self.content_type.share(text)));
                NewEvent::plain(kind, event_id.map(Into::into), key)
                    .and_then(|new| new.with_payload(content_type, data))
                    .map_err(|error| Rubbish::attribute(&error))
            }
            Some(json) => extras::Draft { kind, event_id, content_type, data }.build(key.as_ref(), json),
        }
    }
}

/// What a row gives each of its events.
struct Entry<'a> {
    producer: &'a Arc<str>,
    id: i64,
    commit: CommitId,
    recorded: Timestamp,
    count: u32,
    placed: Option<Placed>,
}

/// Where an entry stands.
#[derive(Clone, Copy)]
struct Placed {
    incarnation: u32,
    sequence: u64,
    after: Place,
}

impl Entry<'_> {
    fn event(&self, new: NewEvent, index: u32) -> Result<Event, outbox::AttributeError> {
        let placing = self.placed.map(|placed| {
            let place = |index| Place::new(placed.incarnation, placed.sequence, index);
            let after = index.checked_sub(1).map_or(placed.after, place);
            Placing { place: place(index), count: self.count, after }
        });
        let fallback = match (placing, new.id()) {
            (None, None) => self.fallback_id(index),
            (Some(_), _) | (_, Some(_)) => String::new(),
        };
        let recorded = Some(self.recorded);
        let identity = Identity { source: self.producer, placing, recorded, fallback_id: &fallback };
        Event::from_new(new, identity)
    }

    /// The id of an event that has neither a place nor one of its own: its commit names it, or, where a foreign writer
    /// gave zeros for a commit id, its row.
    fn fallback_id(&self, index: u32) -> String {
        let entry = if self.commit == NO_COMMIT { format!("row/{}", self.id) } else { self.commit.to_string() };
        if index == 0 { entry } else { format!("{entry}.{index}") }
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

fn count(row: &Row<'_>) -> Result<u32, Rubbish> {
    match row.get_ref(number::COUNT) {
        Ok(ValueRef::Integer(count)) => u32::try_from(count).ok(),
        _ => None,
    }
    .filter(|count| (1..=MAX_ENTRY_EVENTS).contains(&(*count as usize)))
    .ok_or_else(|| {
        Rubbish::new(
            "count",
            format!("is not a number from 1 to {MAX_ENTRY_EVENTS}: write how many events the entry holds"),
        )
    })
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
    let sequence = number(number::SEQUENCE, "sequence")?;
    let incarnation = u32::try_from(number(number::INCARNATION, "incarnation")?)
        .map_err(|_| Rubbish::new("incarnation", "is larger than any: write that of `outbox_meta`"))?;
    let after: Place = column::text(row, number::AFTER, "after")?
        .ok_or_else(|| {
            Rubbish::new("after", "is NULL: write the place of the key's event before, `0.0.0` for the first")
        })?
        .parse()
        .map_err(|error| Rubbish::new("after", error))?;
    let in_turn = after == Place::ORIGIN || (after.incarnation >= 1 && after.sequence >= 1);
    if !in_turn || after >= Place::new(incarnation, sequence, 0) || after.sequence >= sequence {
        let found = format!(
            "is `{after}`, which is no place before {incarnation}.{sequence}.0: write that of the key's event before"
        );
        return Err(Rubbish::new("after", found));
    }
    Ok(Some(Placed { incarnation, sequence, after }))
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

//! From a row of `outbox.entries` to a record, whichever way it was read.
//!
//! The columns' types keep most rubbish out; what a foreign writer could put there nevertheless makes the record
//! [`Content::Undecodable`], and the rows behind it go on.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use outbox::{CommitId, Content, Events, Key, Position, Record, Undecodable};
use serde_json::json;

use super::position::Row;
use crate::decode::{Columns, Payloads, Placed, Producer, Rubbish};

/// The columns' values, as the server gives them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values<'a> {
    pub(crate) row: Row,
    /// What names the row among all, where it has no id.
    pub(crate) name: Option<&'a str>,
    /// Microseconds since 2000, as PostgreSQL counts; its largest and smallest numbers are infinite.
    pub(crate) recorded: i64,
    pub(crate) sequence: Option<i64>,
    pub(crate) incarnation: Option<i32>,
    pub(crate) count: i32,
    pub(crate) commit: [u8; 16],
    pub(crate) key: Option<&'a str>,
    pub(crate) after: Option<&'a str>,
    pub(crate) kind: &'a str,
    pub(crate) event_id: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) data: Option<&'a str>,
    pub(crate) data_bytes: Option<&'a [u8]>,
    pub(crate) attributes: Option<&'a str>,
    pub(crate) more: Option<&'a str>,
}

/// 2000-01-01T00:00:00Z, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// Decodes the rows of one producer.
pub(crate) struct Decoder {
    producer: Producer,
    payloads: Payloads,
    mapped: Option<Arc<Reading>>,
}

/// How the rows of a mapped table are read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Which table, and its columns by what they are read as, for a message.
    pub(crate) table: String,
    /// The column whose texts have to be JSON, where the column itself does not see to it.
    pub(crate) json: Option<String>,
}

impl Decoder {
    /// For the events of `producer`.
    pub(crate) fn new(producer: &str) -> Self {
        Self { producer: Producer::new(producer), payloads: Payloads::default(), mapped: None }
    }

    /// For the rows of a mapped table, which have no places.
    pub(crate) fn mapped(producer: &str, reading: Arc<Reading>) -> Self {
        let producer = Producer::new(producer).without_places();
        Self { producer, payloads: Payloads::default(), mapped: Some(reading) }
    }

    /// The producer that the events are given.
    pub(crate) fn producer(&self) -> &str {
        self.producer.name()
    }

    /// The record of a row, with the position behind it.
    pub(crate) fn record(&mut self, values: &Values<'_>, position: Position) -> Record {
        let recorded = recorded(values.recorded);
        let time = *recorded.as_ref().unwrap_or(&Timestamp::UNIX_EPOCH);
        let content = match recorded.and_then(|recorded| self.events(values, recorded)) {
            Ok(events) => Content::Events(events),
            Err(rubbish) => Content::Undecodable(self.undecodable(values, &rubbish)),
        };
        Record { position, commit: CommitId(values.commit), recorded: time, content }
    }

    fn events(&mut self, values: &Values<'_>, recorded: Timestamp) -> Result<Events, Rubbish> {
        let data = match (values.data, values.data_bytes) {
            (None, None) => None,
            (Some(text), None) => Some(text.as_bytes()),
            (None, Some(bytes)) => Some(bytes),
            (Some(_), Some(_)) => {
                return Err(Rubbish::new("data", "stands beside `data_bytes`: write one of them"));
            }
        };
        if let (Some(column), Some(data)) = (self.mapped.as_ref().and_then(|mapped| mapped.json.as_ref()), data)
            && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_err()
        {
            let found = "is no JSON: say what it is by `content_type` in the mapping, as `text/plain`";
            return Err(Rubbish::new(column, found));
        }
        let columns = Columns {
            id: values.row.id,
            key: key(values)?,
            placed: placed(values)?,
            count: values.count.into(),
            commit: CommitId(values.commit),
            recorded,
            kind: values.kind,
            event_id: values.event_id,
            content_type: values.content_type,
            data: data.map(|data| self.payloads.copy(data)),
            attributes: values.attributes.map(str::as_bytes),
            more: values.more.map(str::as_bytes),
        };
        self.producer.events(columns)
    }

    fn undecodable(&self, values: &Values<'_>, rubbish: &Rubbish) -> Undecodable {
        let id = values.name.map_or_else(|| values.row.id.to_string(), str::to_owned);
        let table = self.mapped.as_ref().map_or("outbox.entries", |mapped| &mapped.table);
        Undecodable {
            id: format!("row/{id}").into(),
            key: key(values).ok().flatten(),
            reason: format!("row {id} of {table}: {rubbish}"),
            raw: raw(values),
        }
    }
}

fn key(values: &Values<'_>) -> Result<Option<Key>, Rubbish> {
    values.key.map(Key::new).transpose().map_err(|error| Rubbish::attribute(&error))
}

fn placed(values: &Values<'_>) -> Result<Option<Placed>, Rubbish> {
    let positive = |number: Option<i64>, name| {
        let number = number.filter(|number| *number >= 1).map(i64::unsigned_abs);
        number.ok_or_else(|| Rubbish::new(name, "is not a number from 1: write it as `outbox.write` does"))
    };
    if values.sequence.is_none() {
        return Ok(None);
    }
    let sequence = positive(values.sequence, "sequence")?;
    let incarnation = positive(values.incarnation.map(i64::from), "incarnation")?;
    Placed::new(incarnation, sequence, values.after).map(Some)
}

fn recorded(micros: i64) -> Result<Timestamp, Rubbish> {
    let since_1970 = micros.checked_add(EPOCH).filter(|_| micros != i64::MIN);
    since_1970.and_then(|micros| Timestamp::from_microsecond(micros).ok()).ok_or_else(|| {
        Rubbish::new("recorded_at", "is no time between the years -9999 and 9999: write when the entry was recorded")
    })
}

/// A time as PostgreSQL counts.
pub(crate) fn to_micros(time: Timestamp) -> i64 {
    time.as_microsecond().saturating_sub(EPOCH)
}

/// A time as PostgreSQL counts, where one was stored that can be told.
pub(crate) fn from_micros(micros: i64) -> Option<Timestamp> {
    recorded(micros).ok()
}

/// The row as it was found: a JSON object with a member a column, bytes as base64 in an object that says so.
fn raw(values: &Values<'_>) -> Bytes {
    let row = json!({
        "id": values.row.id,
        "xid": values.row.xid,
        "recorded_at": recorded(values.recorded).map_or_else(|_| values.recorded.to_string(), |time| time.to_string()),
        "sequence": values.sequence,
        "incarnation": values.incarnation,
        "count": values.count,
        "commit_id": CommitId(values.commit).to_string(),
        "key": values.key,
        "after": values.after,
        "type": values.kind,
        "event_id": values.event_id,
        "content_type": values.content_type,
        "data": values.data,
        "data_bytes": values.data_bytes.map(|bytes| json!({ "blob_base64": STANDARD.encode(bytes) })),
        "attributes": values.attributes,
        "more": values.more,
    });
    row.to_string().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Values<'static> {
        Values { row: Row { id: 7, xid: 9 }, count: 1, kind: "t", commit: [1; 16], ..Values::default() }
    }

    fn reason(values: &Values<'_>) -> String {
        match Decoder::new("/orders").record(values, Position::new("p")).content {
            Content::Undecodable(row) => row.reason,
            Content::Events(events) => panic!("{events:?}"),
        }
    }

    #[test]
    fn times_are_those_of_the_server() {
        let time: Timestamp = "2026-11-21T09:30:00.25Z".parse().unwrap();
        assert_eq!(from_micros(to_micros(time)), Some(time));
        assert_eq!(from_micros(0).unwrap().to_string(), "2000-01-01T00:00:00Z");
        assert_eq!((from_micros(i64::MAX), from_micros(i64::MIN)), (None, None));
    }

    #[test]
    fn each_kind_of_rubbish_names_its_column() {
        let keyed =
            || Values { key: Some("k"), sequence: Some(1), incarnation: Some(1), after: Some("0.0.0"), ..plain() };
        let cases = [
            ("data", Values { data: Some("1"), data_bytes: Some(b"1"), ..plain() }),
            ("sequence", Values { key: Some("k"), ..plain() }),
            ("sequence", Values { sequence: Some(0), ..keyed() }),
            ("incarnation", Values { incarnation: None, ..keyed() }),
            ("after", Values { after: None, ..keyed() }),
            ("after", Values { after: Some("1.9.0"), ..keyed() }),
            ("count", Values { count: 0, ..plain() }),
            ("more", Values { count: 2, more: Some("{"), ..plain() }),
            ("attributes", Values { attributes: Some("[]"), ..plain() }),
            ("recorded_at", Values { recorded: i64::MAX, ..plain() }),
            ("key", Values { key: Some(""), sequence: Some(1), ..plain() }),
        ];
        for (column, values) in cases {
            let reason = reason(&values);
            assert!(reason.contains(column) && reason.starts_with("row 7 of outbox.entries"), "{column}: {reason}");
        }
        let record = Decoder::new("/orders").record(&keyed(), Position::new("p"));
        assert_eq!(record.events()[0].id(), "k@1.1.0");
    }
}

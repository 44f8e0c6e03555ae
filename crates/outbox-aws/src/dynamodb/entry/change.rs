//! A record of the table's stream, whichever way it came: read from a shard, or handed to a Lambda function as JSON.

use std::collections::HashMap;

use aws_sdk_dynamodbstreams::types::{self as streams, OperationType};
use jiff::Timestamp;
use outbox::{Position, Record};
use serde::Deserialize;

use super::{EntryReader, NotAnEntry};
use crate::dynamodb::{
    attribute::{Attribute, TypedValue, digits_in, number_in, text_in},
    mapping::Mapping,
    position::EntryName,
};

/// What happened to an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Insert,
    /// It was there already.
    Modify,
    /// It is gone: deleted, or expired.
    Remove,
    /// What this version does not know.
    Other(String),
}

impl ChangeKind {
    fn of(name: &str) -> Self {
        match name {
            "INSERT" => Self::Insert,
            "MODIFY" => Self::Modify,
            "REMOVE" => Self::Remove,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One record of a stream.
#[derive(Clone, Debug)]
pub struct Change<A> {
    /// What happened.
    pub kind: ChangeKind,
    /// The record's number within its shard.
    pub sequence_number: String,
    /// About when, in seconds since 1970.
    pub created: Option<i64>,
    /// The item's primary key.
    pub keys: HashMap<String, A>,
    /// The item as it is now, if the stream shows it.
    pub image: Option<HashMap<String, A>>,
}

impl From<streams::Record> for Change<streams::AttributeValue> {
    fn from(record: streams::Record) -> Self {
        let kind = record.event_name.as_ref().map_or("", OperationType::as_str);
        let kind = ChangeKind::of(kind);
        let Some(data) = record.dynamodb else {
            return Self { kind, sequence_number: String::new(), created: None, keys: HashMap::new(), image: None };
        };
        Self {
            kind,
            sequence_number: data.sequence_number.unwrap_or_default(),
            created: data.approximate_creation_date_time.map(|time| time.secs()),
            keys: data.keys.unwrap_or_default(),
            image: data.new_image,
        }
    }
}

impl Change<TypedValue> {
    /// From one record of the event that Lambda hands to a function.
    ///
    /// # Errors
    /// If it is no record of a stream of DynamoDB.
    pub fn from_json(record: &str) -> Result<Self, serde_json::Error> {
        let Envelope { event_name, dynamodb } = serde_json::from_str(record)?;
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of a second is of no interest")]
        let created = dynamodb.created.map(|seconds| seconds as i64);
        Ok(Self {
            kind: ChangeKind::of(&event_name),
            sequence_number: dynamodb.sequence_number,
            created,
            keys: dynamodb.keys,
            image: dynamodb.new_image,
        })
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "eventName")]
    event_name: String,
    dynamodb: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    sequence_number: String,
    #[serde(rename = "ApproximateCreationDateTime")]
    created: Option<f64>,
    #[serde(default)]
    keys: HashMap<String, TypedValue>,
    new_image: Option<HashMap<String, TypedValue>>,
}

impl EntryReader {
    /// The entry that came with a change, behind which the place `place` stands; `None` if none came: an item that was
    /// removed, as by its expiry, is no new entry, and one that was changed only where a mapping says so.
    pub fn change<A: Attribute>(&self, change: &Change<A>, place: &str) -> Option<Record> {
        let item = change.image.as_ref().unwrap_or(&change.keys);
        let position = self.position(item, place);
        let is_event = match change.kind {
            ChangeKind::Insert => true,
            ChangeKind::Modify => self.mapping().is_some_and(Mapping::reads_changes),
            ChangeKind::Remove | ChangeKind::Other(_) => false,
        };
        match (&change.kind, &change.image) {
            (_, Some(image)) if is_event => {
                let created = change.created.and_then(|second| Timestamp::from_second(second).ok());
                Some(self.record_seen(image, position, created.unwrap_or_default()))
            }
            (_, None) if is_event => {
                let missing = "is not shown by the stream: enable one with the view type NEW_IMAGE";
                Some(self.unreadable(item, position, &NotAnEntry::new("NewImage", missing)))
            }
            (ChangeKind::Other(name), _) => {
                let found = format!("is `{name}`, which this version does not know: use a newer one");
                Some(self.unreadable(item, position, &NotAnEntry::new("eventName", found)))
            }
            (ChangeKind::Insert | ChangeKind::Modify | ChangeKind::Remove, _) => None,
        }
    }

    /// The position behind an item, at `place`.
    pub(in crate::dynamodb) fn position<A: Attribute>(&self, item: &HashMap<String, A>, place: &str) -> Position {
        match self.mapping() {
            Some(mapping) => {
                mapping.name(item).map_or_else(|| Position::new(format!("@{place}")), |name| name.at(place))
            }
            None => position_in(item, place),
        }
    }
}

/// The position behind an item, at `place`.
fn position_in<A: Attribute>(item: &HashMap<String, A>, place: &str) -> Position {
    match (text_in(item, "key"), digits_in(item, "sequence")) {
        (Some(key), Some(sequence)) => {
            let expires = number_in(item, "expires_at");
            EntryName { key: key.to_owned(), sequence: sequence.to_owned(), expires }.at(place)
        }
        _ => Position::new(format!("@{place}")),
    }
}

#[cfg(test)]
mod tests {
    use outbox::Content;

    use super::*;

    fn reader() -> EntryReader {
        EntryReader::new("/carts")
    }

    const KEYS: &str = r#""Keys": {"key": {"S": "cart/42"}, "sequence": {"N": "7"}}"#;

    fn change(kind: &str, image: &str) -> Change<TypedValue> {
        let data =
            format!(r#"{{"SequenceNumber": "111", "ApproximateCreationDateTime": 1795000000.5, {KEYS}{image}}}"#);
        let record =
            format!(r#"{{"eventID": "1", "eventName": "{kind}", "eventSource": "aws:dynamodb", "dynamodb": {data}}}"#);
        Change::from_json(&record).unwrap()
    }

    const IMAGE: &str = r#", "NewImage": {"key": {"S": "cart/42"}, "sequence": {"N": "7"}, "incarnation": {"N": "1"},
        "after": {"S": "1.6.0"}, "count": {"N": "1"}, "commit_id": {"B": "BwcHBwcHBwcHBwcHBwcHBw=="},
        "recorded_at": {"N": "1795000000123"}, "expires_at": {"N": "1797592000"},
        "events": {"L": [{"M": {"type": {"S": "cart.created"}, "data": {"S": "{\"n\":1}"}}}]}}"#;

    #[test]
    fn a_lambda_s_record_is_read_as_the_stream_s() {
        let found = change("INSERT", IMAGE);
        assert_eq!((found.created, &*found.sequence_number), (Some(1_795_000_000), "111"));
        let record = reader().change(&found, "s111/1795000000").unwrap();
        assert_eq!(record.position.as_str(), "7/1797592000/cart/42@s111/1795000000");
        let event = &record.events()[0];
        assert_eq!(
            (event.kind(), event.id(), event.data().unwrap().as_ref()),
            ("cart.created", "cart/42@1.7.0", b"{\"n\":1}".as_slice())
        );
    }

    #[test]
    fn only_an_insert_is_a_new_entry() {
        for kind in ["MODIFY", "REMOVE"] {
            assert!(reader().change(&change(kind, IMAGE), "s1/2").is_none(), "{kind}");
        }
    }

    #[test]
    fn what_the_stream_does_not_show_is_undecodable_and_named() {
        for (kind, image, word) in [("INSERT", "", "NEW_IMAGE"), ("UPSERT", IMAGE, "eventName")] {
            let record = reader().change(&change(kind, image), "s1/2").unwrap();
            let Content::Undecodable(row) = record.content else { panic!("{record:?}") };
            assert!(row.reason.contains(word) && &*row.id == "entry/cart/42/7" && row.key.is_some(), "{row:?}");
        }
    }

    #[test]
    fn what_is_no_record_of_a_stream_is_an_error() {
        for text in
            ["", "{}", r#"{"eventName": "INSERT"}"#, r#"{"eventName": "INSERT", "dynamodb": {"SequenceNumber": 1}}"#]
        {
            assert!(Change::from_json(text).is_err(), "{text}");
        }
    }
}

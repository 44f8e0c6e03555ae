//! An entry as an item, there and back. `docs/dynamodb.md` describes the layout for other languages.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use outbox::{
    AttributeError, AttributeValue as Extension, CommitId, Entropy, Key, NewEvent, Place, WriteError,
    writer::{EntryPlan, time_ordered_id},
};

use super::item::{self, Item, bytes, number, text};

mod change;
mod read;

pub use change::{Change, ChangeKind};
pub use read::{EntryReader, NotAnEntry};

/// The most bytes that the attributes of an event take.
const MAX_ATTRIBUTES_BYTES: usize = 65_536;

/// What an entry has besides its events.
pub(super) struct Frame {
    pub(super) identity: EntryIdentity,
    pub(super) commit: CommitId,
    pub(super) recorded: Timestamp,
    pub(super) expires: Timestamp,
}

/// Which item an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryIdentity {
    /// An entry of a key.
    Placed {
        key: Key,
        /// The place of its first event.
        first: Place,
        /// The place of the key's event before it.
        after: Place,
    },
    /// A single event without a key: the so-manieth of its commit.
    Keyless { commit: CommitId, number: usize },
}

impl EntryIdentity {
    /// The item's primary key. Sequence 0 is for events without a key, whose partition is named after their commit.
    pub(super) fn primary_key(&self) -> Item {
        match self {
            Self::Placed { key, first, .. } => {
                item::item([("key", text(key.as_str())), ("sequence", number(first.sequence))])
            }
            Self::Keyless { commit, number: 0 } => {
                item::item([("key", text(commit.to_string())), ("sequence", number(0))])
            }
            Self::Keyless { commit, number: further } => {
                item::item([("key", text(format!("{commit}.{further}"))), ("sequence", number(0))])
            }
        }
    }
}

/// The entry of `plan` as an item.
///
/// # Errors
/// [`WriteError::Attribute`] if an event's attributes are too many.
pub(super) fn encode(plan: &EntryPlan, frame: &Frame, entropy: &dyn Entropy) -> Result<Item, WriteError> {
    let mut entry = frame.identity.primary_key();
    let events = plan.events.iter().map(|(index, event)| {
        let id = match (event.id(), &plan.key) {
            (None, None) => Some(time_ordered_id(frame.recorded, entropy)),
            (Some(id), _) => Some(id.to_owned()),
            (None, Some(_)) => None,
        };
        encode_event(*index, event, id).map(AttributeValue::M)
    });
    let events = events.collect::<Result<Vec<_>, _>>()?;
    entry.extend(item::item([
        ("count", number(events.len())),
        ("commit_id", bytes(frame.commit.0)),
        ("recorded_at", number(frame.recorded.as_millisecond())),
        ("expires_at", number(frame.expires.as_second())),
        ("events", AttributeValue::L(events)),
    ]));
    if let EntryIdentity::Placed { first, after, .. } = &frame.identity {
        entry.extend(item::item([("incarnation", number(first.incarnation)), ("after", text(after.to_string()))]));
    }
    Ok(entry)
}

fn encode_event(index: usize, event: &NewEvent, id: Option<String>) -> Result<Item, WriteError> {
    let mut map = item::item([("type", text(event.kind()))]);
    let mut put = |name: &str, value: Option<AttributeValue>| {
        if let Some(value) = value {
            map.insert(name.to_owned(), value);
        }
    };
    put("id", id.map(AttributeValue::S));
    put("content_type", event.content_type().map(text));
    put("data", event.data().map(|data| payload(data)));
    let attributes = attributes(event);
    if item::size(&attributes) > MAX_ATTRIBUTES_BYTES {
        let (bytes, limit) = (item::size(&attributes), MAX_ATTRIBUTES_BYTES);
        let error = AttributeError::TooLong { name: "attributes".to_owned(), bytes, limit };
        return Err(WriteError::Attribute { index, error });
    }
    put("attributes", (!attributes.is_empty()).then_some(AttributeValue::M(attributes)));
    Ok(map)
}

/// Text where it is text, so that people can read it; else bytes. Both come out as they went in.
fn payload(data: &[u8]) -> AttributeValue {
    match std::str::from_utf8(data) {
        Ok(readable) => text(readable),
        Err(_) => bytes(data),
    }
}

/// The attributes that have no name of their own in the layout.
fn attributes(event: &NewEvent) -> Item {
    let core = [
        ("subject", event.subject().map(str::to_owned)),
        ("time", event.time().map(|time| time.to_string())),
        ("dataschema", event.schema().map(str::to_owned)),
    ];
    let core = core.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value?))));
    let extensions = event.extensions().map(|(name, value)| {
        let value = match value {
            Extension::Boolean(value) => AttributeValue::Bool(*value),
            Extension::Integer(value) => number(value),
            Extension::Text(value) => text(&**value),
        };
        (name.to_owned(), value)
    });
    core.chain(extensions).collect()
}

#[cfg(test)]
mod tests;

//! Entries: the events of one commit for one key, as a source hands them to a relay.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use smallvec::SmallVec;

use crate::event::{Event, Key};

/// Where a source stands in a partition: opaque to all but the source that made it. Kept as text. Cheap to clone.
#[derive(Clone)]
pub struct Position(Text);

/// Every record has a position, and most are short: those need no allocation.
#[derive(Clone)]
enum Text {
    Short { bytes: [u8; SHORT], len: u8 },
    Long(Arc<str>),
}

const SHORT: usize = 22;

impl Position {
    /// A position from the source's own text.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(text.as_bytes());
                Self(Text::Short { bytes, len })
            }
            _ => Self(Text::Long(text.into())),
        }
    }

    /// The text that the source gave.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Made from text, so it is text.
            Text::Short { bytes, len } => std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default(),
            Text::Long(text) => text,
        }
    }

    /// Names the record that this is behind, the same however it was read: what stands before the first `@`, or the whole
    /// text. Where the position behind a record depends on how it was come by, the source puts that behind an `@`.
    pub fn record(&self) -> &str {
        let text = self.as_str();
        text.split_once('@').map_or(text, |(record, _)| record)
    }

    /// The same place, behind no record: what stands from the first `@` on, or the whole text.
    #[cfg(feature = "relay")]
    pub(crate) fn behind_no_record(&self) -> Self {
        let text = self.as_str();
        text.find('@').map_or_else(|| self.clone(), |at| Self::new(&text[at..]))
    }
}

impl PartialEq for Position {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Position {}

impl std::hash::Hash for Position {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A random identity of one commit: settles whether a commit whose answer was lost took place, and tells a store's
/// history from another with the same numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub [u8; 16]);

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One entry as read, with the position behind it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The position after this record: reading goes on behind it.
    pub position: Position,
    /// Whose commit it was; zeros where the table has no such column.
    pub commit: CommitId,
    /// When the entry was recorded, by the store's clock, in milliseconds or better.
    pub recorded: Timestamp,
    /// The entry's events, or what could not be read.
    pub content: Content,
}

/// What a record holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// The events of one commit for one key, in their order; at least one.
    Events(Events),
    /// Something that a foreign writer filled with what is not an entry. It becomes a dead letter, and the records
    /// behind it go on.
    Undecodable(Undecodable),
}

/// The events of an entry. A single one, as nearly all entries have, stands where this does, without an allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Events(SmallVec<[Event; 1]>);

impl From<Event> for Events {
    fn from(event: Event) -> Self {
        Self(SmallVec::from_buf([event]))
    }
}

impl FromIterator<Event> for Events {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        Self(events.into_iter().collect())
    }
}

impl IntoIterator for Events {
    type Item = Event;
    type IntoIter = smallvec::IntoIter<[Event; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Deref for Events {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.0
    }
}

impl DerefMut for Events {
    fn deref_mut(&mut self) -> &mut [Event] {
        &mut self.0
    }
}

/// A row that cannot be read as an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// Names the row for ever, as `row/42`.
    pub id: Arc<str>,
    /// The key, where at least that could be read: then its later events wait behind it.
    pub key: Option<Key>,
    /// What is wrong with which column, and what it should be.
    pub reason: String,
    /// The row as it was found, for whoever looks into it.
    pub raw: Bytes,
}

impl Record {
    /// The record's events; none if it is undecodable.
    pub fn events(&self) -> &[Event] {
        match &self.content {
            Content::Events(events) => events,
            Content::Undecodable(_) => &[],
        }
    }

    /// How many events this record counts for: at least one.
    pub fn len(&self) -> usize {
        self.events().len().max(1)
    }

    /// Never: a record counts for at least one event.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The record's bytes in memory, roughly.
    pub fn weight(&self) -> usize {
        match &self.content {
            Content::Events(events) => events.iter().map(Event::weight).sum(),
            Content::Undecodable(undecodable) => 256 + undecodable.raw.len(),
        }
    }
}

/// One event of a shared record. Cheap to clone.
#[derive(Clone)]
pub struct EventRef {
    record: Arc<Record>,
    index: u32,
}

impl EventRef {
    /// Event `index` of `record`; `None` if the record has no such event.
    pub fn new(record: Arc<Record>, index: u32) -> Option<Self> {
        ((index as usize) < record.events().len()).then_some(Self { record, index })
    }

    /// The position behind the event's record, and which of its events this is.
    pub fn origin(&self) -> (&Position, u32) {
        (&self.record.position, self.index)
    }

    /// When the event's entry was recorded.
    pub fn recorded(&self) -> Timestamp {
        self.record.recorded
    }

    /// An event that stands alone, as one loaded from the kept ones.
    pub fn single(event: Event) -> Self {
        let record = Record {
            position: Position::new(""),
            commit: CommitId([0; 16]),
            recorded: event.time().unwrap_or(Timestamp::UNIX_EPOCH),
            content: Content::Events(event.into()),
        };
        Self { record: Arc::new(record), index: 0 }
    }
}

impl Deref for EventRef {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.record.events()[self.index as usize]
    }
}

impl fmt::Debug for EventRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_names_its_record_however_it_was_come_by() {
        assert_eq!(Position::new("42").record(), "42");
        assert_eq!(Position::new("42.7@9>12/1/A").record(), Position::new("42.7@12/1/B").record());
    }

    #[test]
    fn a_position_of_any_length_gives_its_text_back() {
        for text in ["", "7", &"9".repeat(SHORT), &"9".repeat(SHORT + 1), &"ö".repeat(300)] {
            assert_eq!(Position::new(text).as_str(), text);
            assert_eq!(Position::new(text), Position::new(text));
        }
        assert_ne!(Position::new("1"), Position::new("10"));
    }
}

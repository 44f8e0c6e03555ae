//! From the columns of an entry back to its events, whatever the database. The way there is in [`row`](crate::row); how a
//! column comes out of a row is each database's.
//!
//! Every commit's row passes here, so the common row (one event without attributes) is decoded without parsing any JSON. What
//! a foreign writer filled with rubbish is said column by column.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use outbox::{
    AttributeError, CommitId, Event, Events, Key, NewEvent, Place, Placing, event::Identity, writer::MAX_ENTRY_EVENTS,
};

mod extras;
mod payloads;

pub(crate) use payloads::Payloads;

/// What a row has that a foreign writer gave no commit id.
pub(crate) const NO_COMMIT: CommitId = CommitId([0; 16]);

/// What is wrong with a row.
#[derive(Debug)]
pub(crate) struct Rubbish(String);

impl Rubbish {
    /// `column` is wrong as `found` says, remedy included.
    pub(crate) fn new(column: &str, found: impl fmt::Display) -> Self {
        Self(format!("`{column}` {found}"))
    }

    /// An attribute that is not allowed: its error names it and the remedy.
    pub(crate) fn attribute(error: &AttributeError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Rubbish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody wrote into a table, fit for a message: at most `longest` characters, on one line.
pub(crate) fn shown(text: &str, longest: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(longest).collect()
}

/// Gives equal texts in a row one allocation: most rows have the type of the row before.
#[derive(Default)]
struct Shared(Option<Arc<str>>);

impl Shared {
    fn share(&mut self, text: &str) -> Arc<str> {
        match &self.0 {
            Some(last) if **last == *text => last.clone(),
            Some(_) | None => {
                let text: Arc<str> = text.into();
                self.0 = Some(text.clone());
                text
            }
        }
    }
}

/// Where an entry stands within its key.
#[derive(Clone, Copy)]
pub(crate) struct Placed {
    incarnation: u32,
    sequence: u64,
    after: Place,
}

impl Placed {
    /// From the columns of these names, the first two of which are at least 1 in every entry with a key.
    pub(crate) fn new(incarnation: u64, sequence: u64, after: Option<&str>) -> Result<Self, Rubbish> {
        let incarnation = u32::try_from(incarnation)
            .map_err(|_| Rubbish::new("incarnation", "is larger than any: write that of the store"))?;
        let after: Place = after
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
        Ok(Self { incarnation, sequence, after })
    }
}

/// The events' columns of a row, as they are.
pub(crate) struct Columns<'a> {
    pub(crate) id: i64,
    pub(crate) key: Option<Key>,
    pub(crate) placed: Option<Placed>,
    pub(crate) count: i64,
    pub(crate) commit: CommitId,
    pub(crate) recorded: Timestamp,
    pub(crate) kind: &'a str,
    pub(crate) event_id: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) data: Option<Bytes>,
    pub(crate) attributes: Option<&'a [u8]>,
    pub(crate) more: Option<&'a [u8]>,
}

/// Makes the events of one producer.
pub(crate) struct Producer {
    name: Arc<str>,
    kind: Shared,
    content_type: Shared,
    /// Whether what has a key has a place.
    has_places: bool,
}

impl Producer {
    /// For the events of `producer`.
    pub(crate) fn new(producer: &str) -> Self {
        Self { name: producer.into(), kind: Shared::default(), content_type: Shared::default(), has_places: true }
    }

    /// Its entries have no places, though they have keys.
    #[cfg(feature = "postgres")]
    pub(crate) fn without_places(self) -> Self {
        Self { has_places: false, ..self }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The events of a row.
    pub(crate) fn events(&mut self, columns: Columns<'_>) -> Result<Events, Rubbish> {
        let count =
            u32::try_from(columns.count).ok().filter(|count| (1..=MAX_ENTRY_EVENTS).contains(&(*count as usize)));
        let count = count.ok_or_else(|| {
            let found = format!("is not a number from 1 to {MAX_ENTRY_EVENTS}: write how many events the entry holds");
            Rubbish::new("count", found)
        })?;
        if self.has_places && columns.placed.is_some() != columns.key.is_some() {
            return Err(Rubbish::new(
                "sequence",
                "stands without a key, or the key without it: write both, or NULL in both",
            ));
        }
        let Columns { id, key, placed, commit, recorded, more, .. } = &columns;
        let entry = Entry { id: *id, commit: *commit, recorded: *recorded, count, placed: *placed };
        let more = more.map_or_else(|| Ok(Vec::new()), |json| extras::more(json, key.as_ref()))?;
        if more.len() + 1 != count as usize {
            let found = format!("is {count}, but `more` holds {} further events: write 1 and their number", more.len());
            return Err(Rubbish::new("count", found));
        }
        let first = self.first(columns)?;
        let first = entry.event(&self.name, first, 0).map_err(|error| Rubbish::new("event_id", error))?;
        if more.is_empty() {
            return Ok(first.into());
        }
        let further = more.into_iter().zip(1..).map(|(event, index)| {
            let event = entry.event(&self.name, event, index);
            event.map_err(|error| Rubbish::new("more", format!("event {index}: {error}")))
        });
        std::iter::once(Ok(first)).chain(further).collect()
    }

    fn first(&mut self, columns: Columns<'_>) -> Result<NewEvent, Rubbish> {
        let Columns { key, kind, event_id, content_type, data, attributes, .. } = columns;
        match attributes {
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
struct Entry {
    id: i64,
    commit: CommitId,
    recorded: Timestamp,
    count: u32,
    placed: Option<Placed>,
}

impl Entry {
    fn event(&self, producer: &Arc<str>, new: NewEvent, index: u32) -> Result<Event, AttributeError> {
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
        let identity = Identity { source: producer, placing, recorded, fallback_id: &fallback };
        Event::from_new(new, identity)
    }

    /// The id of an event that has neither a place nor one of its own: its commit names it, or, where a foreign writer
    /// gave zeros for a commit id, its row.
    fn fallback_id(&self, index: u32) -> String {
        let entry = if self.commit == NO_COMMIT { format!("row/{}", self.id) } else { self.commit.to_string() };
        if index == 0 { entry } else { format!("{entry}.{index}") }
    }
}

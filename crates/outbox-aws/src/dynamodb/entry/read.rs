//! From an item to the events of its entry. What a foreign writer filled with rubbish is said attribute by attribute.

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use outbox::{
    AttributeError, AttributeValue as Extension, CommitId, Content, Event, Events, Key, NewEvent, Place, Placing,
    Position, Record, Undecodable, event::Identity, writer::MAX_ENTRY_EVENTS,
};

use crate::dynamodb::{
    attribute::{Attribute, blob_in, digits_in, item_to_json, number_in, text_in},
    mapping::{Mapping, Seen},
    schema::Tables,
};

/// What an item has that is no entry, or a foreign writer gave no commit id.
const NO_COMMIT: CommitId = CommitId([0; 16]);

/// Why an item is not an entry: which attribute, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnEntry(String);

impl NotAnEntry {
    pub(in crate::dynamodb) fn new(attribute: &str, found: impl fmt::Display) -> Self {
        Self(format!("`{attribute}` {found}"))
    }
}

impl fmt::Display for NotAnEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<AttributeError> for NotAnEntry {
    fn from(error: AttributeError) -> Self {
        Self(error.to_string())
    }
}

/// Reads entries of one producer.
#[derive(Clone, Debug)]
pub struct EntryReader {
    producer: Arc<str>,
    mapping: Option<Arc<Mapping>>,
}

impl EntryReader {
    /// For the events of `producer`.
    pub fn new(producer: &str) -> Self {
        Self { producer: producer.into(), mapping: None }
    }

    /// For the events of `producer` in `tables`, which may be laid out otherwise.
    pub fn of(tables: &Tables, producer: &str) -> Self {
        Self { producer: producer.into(), mapping: tables.mapping.clone() }
    }

    /// The mapping, where there is one.
    pub(in crate::dynamodb) fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_deref()
    }

    /// The item as a record behind which `position` stands. One that is not an entry becomes an undecodable record, with
    /// its key where at least that can be read.
    pub fn record<A: Attribute>(&self, item: &HashMap<String, A>, position: Position) -> Record {
        self.record_seen(item, position, Timestamp::UNIX_EPOCH)
    }

    /// The same, seen at a time that counts where the item does not say when it was written.
    pub(in crate::dynamodb) fn record_seen<A: Attribute>(
        &self,
        item: &HashMap<String, A>,
        position: Position,
        seen: Timestamp,
    ) -> Record {
        if let Some(mapping) = self.mapping() {
            return mapping.record(&self.producer, item, position, Seen(seen));
        }
        let events = match self.events(item) {
            Ok(events) => events,
            Err(error) => return self.unreadable(item, position, &error),
        };
        let (commit, recorded) = frame(item);
        Record { position, commit, recorded, content: Content::Events(events) }
    }

    /// The item as an undecodable record.
    pub(super) fn unreadable<A: Attribute>(
        &self,
        item: &HashMap<String, A>,
        position: Position,
        error: &NotAnEntry,
    ) -> Record {
        let (mut commit, recorded) = frame(item);
        let row = match self.mapping() {
            Some(mapping) => {
                commit = mapping.name(item).as_ref().map_or(NO_COMMIT, Mapping::commit);
                mapping.undecodable(item, error)
            }
            None => undecodable(item, error),
        };
        Record { position, commit, recorded, content: Content::Undecodable(row) }
    }

    /// The events of the entry that `item` is.
    ///
    /// # Errors
    /// [`NotAnEntry`] names the attribute.
    pub fn events<A: Attribute>(&self, item: &HashMap<String, A>) -> Result<Events, NotAnEntry> {
        let recorded = recorded_of(item).ok_or_else(|| {
            NotAnEntry::new("recorded_at", "is not a number of milliseconds since 1970: write when the entry was made")
        })?;
        let commit = commit_of(item).ok_or_else(|| {
            NotAnEntry::new("commit_id", "is not 16 bytes: write random ones, the same at every retry")
        })?;
        let (key, placed) = placed(item)?;
        let Some(list) = item.get("events").and_then(Attribute::list) else {
            return Err(NotAnEntry::new("events", "is not a list: write the events of the commit"));
        };
        let count = u32::try_from(list.len()).ok().filter(|count| (1..=MAX_ENTRY_EVENTS).contains(&(*count as usize)));
        let Some(count) = count.filter(|count| number_in::<u32, A>(item, "count") == Some(*count)) else {
            let found = format!("is not the number of `events`, 1 to {MAX_ENTRY_EVENTS}: write how many there are");
            return Err(NotAnEntry::new("count", found));
        };
        if key.is_none() && count > 1 {
            return Err(NotAnEntry::new("events", "holds several events without a key: write an item for each"));
        }
        let entry = Entry { producer: &self.producer, commit, recorded, count, placed };
        let events = list.iter().zip(0..).map(|(event, index)| {
            let said = |error: NotAnEntry| NotAnEntry::new("events", format!("[{index}]: {error}"));
            let new = new_event(event, key.as_ref()).map_err(said)?;
            entry.event(new, index).map_err(|error| said(error.into()))
        });
        events.collect()
    }
}

/// What an entry gives each of its events.
struct Entry<'a> {
    producer: &'a Arc<str>,
    commit: CommitId,
    recorded: Timestamp,
    count: u32,
    placed: Option<Placed>,
}

impl Entry<'_> {
    fn event(&self, new: NewEvent, index: u32) -> Result<Event, AttributeError> {
        let placing = self.placed.map(|(first, after)| {
            let place = |index| Place::new(first.incarnation, first.sequence, index);
            let after = index.checked_sub(1).map_or(after, place);
            Placing { place: place(index), count: self.count, after }
        });
        let fallback = self.commit.to_string();
        let identity =
            Identity { source: self.producer, placing, recorded: Some(self.recorded), fallback_id: &fallback };
        Event::from_new(new, identity)
    }
}

/// The place of an entry's first event, and the place before it.
type Placed = (Place, Place);

/// Key, place of the first event, and the place before it; nothing for an event without a key.
fn placed<A: Attribute>(item: &HashMap<String, A>) -> Result<(Option<Key>, Option<Placed>), NotAnEntry> {
    let sequence: u64 = number_in(item, "sequence")
        .filter(|sequence| i64::try_from(*sequence).is_ok())
        .ok_or_else(|| NotAnEntry::new("sequence", "is not a number from 0 to 2^63-1: write the key's next one"))?;
    if sequence == 0 {
        return Ok((None, None));
    }
    let key = text_in(item, "key").ok_or_else(|| NotAnEntry::new("key", "is not text"))?;
    let key = Key::new(key)?;
    let incarnation: u32 = number_in(item, "incarnation")
        .filter(|number| *number > 0)
        .ok_or_else(|| NotAnEntry::new("incarnation", "is not a number from 1: write that of the item `store`"))?;
    let first = Place::new(incarnation, sequence, 0);
    let after = text_in(item, "after").and_then(|after| after.parse::<Place>().ok()).ok_or_else(|| {
        NotAnEntry::new("after", "is not a place: write that of the key's event before, `0.0.0` for the first")
    })?;
    let in_turn = after == Place::ORIGIN || (after.incarnation >= 1 && after.sequence >= 1);
    if !in_turn || after >= first || after.sequence >= sequence {
        let found = format!("is `{after}`, which is no place before {first}: write that of the key's event before");
        return Err(NotAnEntry::new("after", found));
    }
    // A number far ahead would be waited for: all that lies between counts as missing.
    let is_of_another_history = after != Place::ORIGIN && after.incarnation < incarnation;
    if after.sequence != sequence - 1 && !is_of_another_history {
        let next = after.sequence + 1;
        let found = format!(
            "is {sequence}, and `after` is `{after}`, behind which comes {next}: number a key's entries 1, 2, 3 …, each with the place of the one before"
        );
        return Err(NotAnEntry::new("sequence", found));
    }
    Ok((Some(key), Some((first, after))))
}

fn commit_of<A: Attribute>(item: &HashMap<String, A>) -> Option<CommitId> {
    blob_in(item, "commit_id")?.try_into().ok().map(CommitId)
}

fn recorded_of<A: Attribute>(item: &HashMap<String, A>) -> Option<Timestamp> {
    Timestamp::from_millisecond(number_in(item, "recorded_at")?).ok()
}

/// Commit and time, as far as the item has any.
fn frame<A: Attribute>(item: &HashMap<String, A>) -> (CommitId, Timestamp) {
    (commit_of(item).unwrap_or(NO_COMMIT), recorded_of(item).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn undecodable<A: Attribute>(item: &HashMap<String, A>, error: &NotAnEntry) -> Undecodable {
    let name = text_in(item, "key").unwrap_or("?");
    let id = format!("entry/{name}/{}", digits_in(item, "sequence").unwrap_or("?"));
    let key = number_in(item, "sequence").filter(|sequence: &u64| *sequence > 0).and_then(|_| Key::new(name).ok());
    let raw = serde_json::to_vec(&item_to_json(item)).unwrap_or_default();
    Undecodable { id: id.into(), key, reason: error.to_string(), raw: raw.into() }
}

fn new_event<A: Attribute>(event: &A, key: Option<&Key>) -> Result<NewEvent, NotAnEntry> {
    let Some(event) = event.map() else { return Err(NotAnEntry::new("event", "is not a map")) };
    if let Some(name) = event.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        let shown: String = name.chars().filter(|character| !character.is_control()).take(64).collect();
        return Err(NotAnEntry::new(&shown, "is not known: further attributes stand in `attributes`"));
    }
    let kind = text_in(event, "type").ok_or_else(|| NotAnEntry::new("type", "is not text: write what happened"))?;
    let mut builder = NewEvent::builder(kind);
    if let Some(key) = key {
        builder = builder.key(key.as_str());
    }
    if let Some(id) = optional_text(event, "id")? {
        builder = builder.id(id);
    }
    let attributes = match event.get("attributes") {
        None => None,
        Some(attributes) => Some(attributes.map().ok_or_else(|| NotAnEntry::new("attributes", "is not a map"))?),
    };
    for (name, value) in attributes.into_iter().flatten() {
        builder = match (name.as_str(), value.text()) {
            ("subject", Some(subject)) => builder.subject(subject),
            ("dataschema", Some(schema)) => builder.schema(schema),
            ("time", Some(time)) => builder.time(rfc_3339(time)?),
            ("subject" | "dataschema" | "time", _) => {
                return Err(NotAnEntry::new("attributes", format!("gives `{name}` something else than text")));
            }
            _ => builder.extension(name, extension(value)?),
        };
    }
    let content_type = optional_text(event, "content_type")?.map(Into::into);
    let data = event.get("data").map(payload).transpose()?;
    Ok(builder.build()?.with_payload(content_type, data)?)
}

/// What an event may have.
const MEMBERS: [&str; 5] = ["type", "id", "content_type", "data", "attributes"];

fn payload<A: Attribute>(data: &A) -> Result<Bytes, NotAnEntry> {
    let bytes = data.text().map(str::as_bytes).or_else(|| data.blob());
    bytes.map(Bytes::copy_from_slice).ok_or_else(|| {
        NotAnEntry::new("data", "is neither text nor bytes: write JSON as text, so that it comes out as it went in")
    })
}

fn optional_text<'a, A: Attribute>(event: &'a HashMap<String, A>, name: &str) -> Result<Option<&'a str>, NotAnEntry> {
    match event.get(name) {
        None => Ok(None),
        Some(value) => value.text().map(Some).ok_or_else(|| NotAnEntry::new(name, "is not text")),
    }
}

fn rfc_3339(time: &str) -> Result<Timestamp, NotAnEntry> {
    time.parse().map_err(|_| {
        NotAnEntry::new("attributes", "gives a `time` that is not RFC 3339: write it as `2026-11-21T09:30:00Z`")
    })
}

fn extension<A: Attribute>(value: &A) -> Result<Extension, NotAnEntry> {
    if let Some(text) = value.text() {
        return Ok(text.to_owned().into());
    }
    if let Some(flag) = value.flag() {
        return Ok(flag.into());
    }
    let digits = value
        .digits()
        .ok_or_else(|| NotAnEntry::new("attributes", "holds what is neither text, nor a number, nor true or false"))?;
    digits.parse::<i32>().map(Into::into).map_err(|_| {
        NotAnEntry::new("attributes", "holds a number that is not whole, or larger than 32 bits: write it as text")
    })
}

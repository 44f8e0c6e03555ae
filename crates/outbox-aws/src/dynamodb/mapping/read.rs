//! From an item of a mapped table to its event. What it lacks is said attribute by attribute.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use outbox::{
    CommitId, Content, Event, Events, Key, NewEvent, Position, Record, Undecodable, cloudevents, event::Identity,
};
use serde_json::Value;

use super::{Mapping, plain};
use crate::dynamodb::{
    attribute::{Attribute, digits_in, item_to_json, text_in},
    entry::NotAnEntry,
    position::EntryName,
};

/// From so many on a number of time is of milliseconds: as seconds, it would be in the year 5138.
const MILLISECONDS_FROM: f64 = 1e11;

/// When an item was seen, where it does not say when it was written.
#[derive(Clone, Copy, Debug)]
pub(in crate::dynamodb) struct Seen(pub(in crate::dynamodb) Timestamp);

impl Mapping {
    /// Whether an item that changed is an event.
    pub(in crate::dynamodb) fn reads_changes(&self) -> bool {
        self.takes_changes
    }

    /// The item as a record behind which `position` stands. One that is no event becomes an undecodable record, with its key
    /// where at least that can be read.
    pub(in crate::dynamodb) fn record<A: Attribute>(
        &self,
        producer: &Arc<str>,
        item: &HashMap<String, A>,
        position: Position,
        seen: Seen,
    ) -> Record {
        let name = self.name(item);
        let commit = name.as_ref().map_or(CommitId([0; 16]), Self::commit);
        let time = self.time_of(item);
        let recorded = time.as_ref().ok().copied().flatten().unwrap_or(seen.0);
        let event = time.and_then(|time| self.event(producer, item, name.as_ref(), time, recorded));
        let content = match event {
            Ok(event) => Content::Events(Events::from_iter([event])),
            Err(error) => Content::Undecodable(self.undecodable(item, &error)),
        };
        Record { position, commit, recorded, content }
    }

    /// The item as an undecodable record.
    pub(in crate::dynamodb) fn undecodable<A: Attribute>(
        &self,
        item: &HashMap<String, A>,
        error: &NotAnEntry,
    ) -> Undecodable {
        let shown = self.name(item).map_or_else(|| "?".to_owned(), |name| self.shown(&name));
        let key = self.key_of(item).ok().flatten().and_then(|key| Key::new(key).ok());
        let raw = serde_json::to_vec(&item_to_json(item)).unwrap_or_default();
        Undecodable { id: format!("entry/{shown}").into(), key, reason: error.to_string(), raw: raw.into() }
    }

    fn event<A: Attribute>(
        &self,
        producer: &Arc<str>,
        item: &HashMap<String, A>,
        name: Option<&EntryName>,
        time: Option<Timestamp>,
        recorded: Timestamp,
    ) -> Result<Event, NotAnEntry> {
        let kind = text_in(item, &self.kind).ok_or_else(|| not(&self.kind, "is not text: it is the event's type"))?;
        let mut builder = NewEvent::builder(kind);
        if let Some(key) = self.key_of(item)? {
            builder = builder.key(key);
        }
        if let Some(time) = time {
            builder = builder.time(time);
        }
        let (content_type, data) = self.payload_of(item)?;
        let new = builder.id(self.id_of(item, name)?).build()?.with_payload(content_type, Some(data))?;
        let identity = Identity { source: producer, placing: None, recorded: Some(recorded), fallback_id: "" };
        Ok(Event::from_new(new, identity)?)
    }

    fn id_of<A: Attribute>(&self, item: &HashMap<String, A>, name: Option<&EntryName>) -> Result<String, NotAnEntry> {
        let Some(attribute) = &self.event_id else {
            let name = name.ok_or_else(|| not(&self.partition, "is not text: it is the table's partition key"))?;
            return Ok(self.shown(name));
        };
        let id = text_in(item, attribute).or_else(|| digits_in(item, attribute));
        id.map(str::to_owned).ok_or_else(|| not(attribute, "is neither text nor a number: it is the event's id"))
    }

    fn payload_of<A: Attribute>(
        &self,
        item: &HashMap<String, A>,
    ) -> Result<(Option<Arc<str>>, bytes::Bytes), NotAnEntry> {
        let said = self.content_type.as_deref();
        let Some(value) = item.get(&self.payload) else {
            return Err(not(&self.payload, "is missing: it is the event's payload"));
        };
        let (by_nature, data) = match (value.text(), value.blob()) {
            (Some(text), _) => ("application/json", text.as_bytes().to_vec()),
            (None, Some(blob)) => ("application/octet-stream", blob.to_vec()),
            (None, None) => ("application/json", plain::json(value).into_bytes()),
        };
        let content_type = said.unwrap_or(by_nature);
        let is_json = cloudevents::is_json(Some(content_type));
        if is_json && serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_err() {
            let remedy = "is no JSON: write JSON, or say by `content_type` what it is";
            return Err(not(&self.payload, remedy));
        }
        Ok((Some(content_type.into()), data.into()))
    }

    /// The key, if the item has one.
    fn key_of<A: Attribute>(&self, item: &HashMap<String, A>) -> Result<Option<String>, NotAnEntry> {
        let Some(path) = &self.key else { return Ok(None) };
        let mut steps = path.split('.');
        let Some(mut value) = steps.next().and_then(|name| item.get(name)) else { return Ok(None) };
        while let Some(step) = steps.next() {
            if let Some(document) = value.text() {
                return key_in_json(document, std::iter::once(step).chain(steps), path);
            }
            match value.map().and_then(|map| map.get(step)) {
                Some(inner) => value = inner,
                None => return Ok(None),
            }
        }
        match value.text().or_else(|| value.digits()) {
            Some(key) => Ok(Some(key.to_owned())),
            None if value.to_json().get("NULL").is_some() => Ok(None),
            None => Err(no_key(path)),
        }
    }

    /// When the item was written, if the mapping says where that stands.
    fn time_of<A: Attribute>(&self, item: &HashMap<String, A>) -> Result<Option<Timestamp>, NotAnEntry> {
        let Some(attribute) = &self.time else { return Ok(None) };
        let text = text_in(item, attribute).and_then(|text| text.parse().ok());
        let number = || digits_in(item, attribute)?.parse().ok().and_then(timestamp);
        text.or_else(number).map(Some).ok_or_else(|| {
            not(attribute, "is no time: write seconds or milliseconds since 1970, or a text as `2026-11-21T09:30:00Z`")
        })
    }
}

fn key_in_json<'s>(
    document: &str,
    steps: impl Iterator<Item = &'s str>,
    path: &str,
) -> Result<Option<String>, NotAnEntry> {
    let whole: Value = serde_json::from_str(document).map_err(|_| no_key(path))?;
    let mut value = &whole;
    for step in steps {
        match value.get(step) {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    match value {
        Value::String(key) => Ok(Some(key.clone())),
        Value::Number(key) => Ok(Some(key.to_string())),
        Value::Null => Ok(None),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(no_key(path)),
    }
}

fn no_key(path: &str) -> NotAnEntry {
    not(path, "holds neither text nor a number: it is the event's key")
}

fn not(attribute: &str, found: &str) -> NotAnEntry {
    NotAnEntry::new(attribute, found)
}

#[expect(clippy::cast_possible_truncation, reason = "what is no time is refused")]
fn timestamp(number: f64) -> Option<Timestamp> {
    let milliseconds = if number.abs() >= MILLISECONDS_FROM { number } else { number * 1000.0 };
    Timestamp::from_millisecond(milliseconds.round() as i64).ok()
}

#[cfg(test)]
mod tests;

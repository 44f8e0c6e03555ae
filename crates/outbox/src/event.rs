//! Events: CloudEvents 1.0 with the attributes that order and cause need.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

use crate::place::{Place, Placing};

mod attribute;
mod new_event;
mod typed;

pub(crate) use attribute::shown;
pub use attribute::{AttributeError, AttributeValue, check_extension_name, check_text, check_uri_reference};
pub use new_event::{JSON, NewEvent, NewEventBuilder};
pub use typed::{TypedError, TypedEvent};

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 512;
/// The longest id, type, subject, source or other attribute value, in bytes of UTF-8. An id derived from the longest
/// key fits.
pub const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// Names of the extension attributes that Outbox gives a meaning to.
pub mod extension {
    /// What order is kept by (CloudEvents partitioning extension).
    pub const KEY: &str = "partitionkey";
    /// Zero-padded text whose order is place order (CloudEvents sequence extension).
    pub const SEQUENCE: &str = "sequence";
    /// The place and its entry's count, as `1.42.0/3`.
    pub const PLACE: &str = "place";
    /// The place of the predecessor within the key, as `1.41.0`.
    pub const AFTER: &str = "after";
    /// `true` if every event of the key goes to this route, so that a gap means that something is missing.
    pub const GAPLESS: &str = "gapless";
    /// What belongs together (CloudEvents correlation extension).
    pub const CORRELATION_ID: &str = "correlationid";
    /// The id of the event that caused this one (CloudEvents correlation extension).
    pub const CAUSATION_ID: &str = "causationid";
    /// The producer of the causing event.
    pub const CAUSE_SOURCE: &str = "causesource";
    /// The key of the causing event; absent if it has none.
    pub const CAUSE_KEY: &str = "causekey";
    /// The place of the causing event; absent if it has none.
    pub const CAUSE_PLACE: &str = "causeplace";
    /// W3C trace context (CloudEvents distributed tracing extension).
    pub const TRACE_PARENT: &str = "traceparent";
    /// W3C trace state (CloudEvents distributed tracing extension).
    pub const TRACE_STATE: &str = "tracestate";
    /// Which replay published this event again.
    pub const REPLAY_ID: &str = "replayid";
    /// When the entry was recorded (CloudEvents recorded time extension).
    pub const RECORDED_TIME: &str = "recordedtime";
    /// Where the payload was left that is too large for the way (CloudEvents claim check extension).
    pub const DATA_REF: &str = "dataref";
}

/// The type of the event that stands in the place of one that was discarded, so that consumers that count do not wait
/// for it for ever.
pub const SKIPPED: &str = "outbox.skipped";

/// The aggregate's identity, by which order is kept: 1 to 512 bytes without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// # Errors
    /// [`AttributeError`] if the key is empty, too long, or holds a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, AttributeError> {
        let text = text.as_ref();
        check_text("key", text, MAX_KEY_BYTES)?;
        Ok(Self(text.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Something that happened: a CloudEvent 1.0, as a relay publishes it and a consumer receives it.
///
/// Made from a committed entry, or decoded from the wire; a service that writes makes a [`NewEvent`]. Attributes are
/// valid by construction. Cloning is cheap. `Debug` shows no payload.
#[derive(Clone, PartialEq)]
pub struct Event {
    pub(crate) id: Arc<str>,
    pub(crate) source: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) key: Option<Key>,
    pub(crate) placing: Option<Placing>,
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) content_type: Option<Arc<str>>,
    pub(crate) schema: Option<Arc<str>>,
    pub(crate) extensions: BTreeMap<Arc<str>, AttributeValue>,
    pub(crate) data: Option<Bytes>,
}

impl Event {
    /// Makes the event that `new` becomes under `identity`. Its id is the caller's, or derived from key and place, or,
    /// for an event without a key, `fallback_id`.
    ///
    /// # Errors
    /// [`AttributeError`] if the source or the id is not a valid attribute.
    pub fn from_new(new: NewEvent, identity: Identity<'_>) -> Result<Self, AttributeError> {
        check_uri_reference("source", identity.source)?;
        let id = match (new.id, identity.placing, &new.key) {
            // Checked when the event was built, or derived from a key that was.
            (Some(id), _, _) => id,
            (None, Some(placing), Some(key)) => derived_id(key, &placing),
            (None, _, _) => {
                check_text("id", identity.fallback_id, MAX_ATTRIBUTE_BYTES)?;
                identity.fallback_id.into()
            }
        };
        Ok(Self {
            id,
            source: identity.source.clone(),
            kind: new.kind,
            key: new.key,
            placing: identity.placing,
            subject: new.subject,
            time: new.time.or(identity.recorded),
            content_type: new.content_type,
            schema: new.schema,
            extensions: new.extensions,
            data: new.data,
        })
    }

    /// Unique together with [`source`](Self::source); stable over every publication.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The producer: the service that wrote the event. A URI reference.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What happened, as `order.placed`: the CloudEvents `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What order is kept by; `None` for an event without order.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Where the event stands within its key; `None` for an event without a key, and for one from a producer that does
    /// not number its events.
    pub fn placing(&self) -> Option<&Placing> {
        self.placing.as_ref()
    }

    /// The CloudEvents `subject`.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// When it happened: as the writer said, else when its entry was recorded.
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The payload's media type; `None` means JSON (CloudEvents 1.0, `datacontenttype`).
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The CloudEvents `dataschema`.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The payload's bytes, exactly as written; `None` for an event without payload.
    pub fn data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    /// What `serde_json` says of a payload that is not the JSON of a `T`; an event without payload reads as `null`.
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.data.as_deref().unwrap_or(b"null"))
    }

    /// Every extension attribute but those that Outbox derives itself (key, sequence, place, after).
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.extensions.iter().map(|(name, value)| (&**name, value))
    }

    /// One extension attribute by its name.
    pub fn extension(&self, name: &str) -> Option<&AttributeValue> {
        self.extensions.get(name)
    }

    /// An extension attribute that is text.
    pub fn extension_text(&self, name: &str) -> Option<&str> {
        match self.extensions.get(name) {
            Some(AttributeValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether the sender promises that every event of the key comes this way. Set by the route that publishes.
    pub fn gapless(&self) -> bool {
        match self.extensions.get(extension::GAPLESS) {
            Some(AttributeValue::Boolean(gapless)) => *gapless,
            Some(AttributeValue::Text(text)) => &**text == "true",
            _ => false,
        }
    }

    /// This event's bytes in memory, roughly: what windows and pages are bounded by.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 256;
        let extensions: usize = self.extensions.iter().map(|(name, value)| name.len() + value.weight() + 48).sum();
        FIXED + self.id.len() + self.kind.len() + self.data.as_ref().map_or(0, Bytes::len) + extensions
    }

    /// The event without its payload, which was left at `reference`: the attribute `dataref`. Its media type stays.
    ///
    /// # Errors
    /// [`AttributeError`] if `reference` is no URI reference, or too long.
    pub fn with_data_at(&self, reference: &str) -> Result<Self, AttributeError> {
        check_uri_reference(extension::DATA_REF, reference)?;
        let mut event = Self { data: None, ..self.clone() };
        event.extensions.insert(extension::DATA_REF.into(), reference.into());
        Ok(event)
    }

    /// The marker that is published in this event's place when it is discarded: same identity, time and place, type
    /// [`SKIPPED`], the reason as its subject, and nothing else of it: no payload, and no extension attribute, for these
    /// may be what it is discarded for.
    pub fn skipped(&self, reason: &str) -> Self {
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
        Self {
            kind: SKIPPED.into(),
            subject: (!reason.is_empty()).then(|| reason.into()),
            content_type: None,
            schema: None,
            extensions: BTreeMap::new(),
            data: None,
            ..self.clone()
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("type", &self.kind)
            .field("key", &self.key)
            .field("place", &self.placing.map(|placing| placing.place.to_string()))
            .field("data_bytes", &self.data.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

/// What an entry gives each of its events.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The producer.
    pub source: &'a Arc<str>,
    /// The event's place, if it has a key.
    pub placing: Option<Placing>,
    /// When the entry was recorded: the event's time unless the writer gave one.
    pub recorded: Option<Timestamp>,
    /// The id of an event that has neither one of its own nor a place; unique in its producer.
    pub fallback_id: &'a str,
}

/// The id of a keyed event to which its writer gave none: key and place name it for ever.
fn derived_id(key: &Key, placing: &Placing) -> Arc<str> {
    // Every event passes here: the text is put together on the stack, so that it is allocated once.
    let mut text = [0; MAX_KEY_BYTES + 64];
    let mut end = 0;
    let mut push = |part: &str| {
        text[end..end + part.len()].copy_from_slice(part.as_bytes());
        end += part.len();
    };
    let Place { incarnation, sequence, index } = placing.place;
    push(key.as_str());
    push("@");
    push(itoa::Buffer::new().format(incarnation));
    push(".");
    push(itoa::Buffer::new().format(sequence));
    push(".");
    push(itoa::Buffer::new().format(index));
    std::str::from_utf8(&text[..end]).unwrap_or_default().into()
}

/// An event of entry `sequence` of `key`, for tests.
#[cfg(test)]
pub(crate) fn testing_event(kind: &str, key: Option<&str>, sequence: u64) -> Event {
    let builder = NewEvent::builder(kind).json(&sequence);
    let new = key.map_or(builder.clone(), |key| builder.key(key)).build().unwrap();
    let placing = key.map(|_| Placing {
        place: crate::Place::new(1, sequence, 0),
        count: 1,
        after: if sequence > 1 { crate::Place::new(1, sequence - 1, 0) } else { crate::Place::ORIGIN },
    });
    let identity =
        Identity { source: &"/tests".into(), placing, recorded: None, fallback_id: &format!("id-{sequence}") };
    Event::from_new(new, identity).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_whose_payload_was_left_elsewhere_says_where_and_keeps_the_rest() {
        let event = testing_event("t", Some("k"), 7);
        let left = event.with_data_at("s3://bucket/key").unwrap();
        assert_eq!(
            (left.id(), left.placing(), left.content_type()),
            (event.id(), event.placing(), event.content_type())
        );
        assert_eq!((left.data(), left.extension_text(extension::DATA_REF)), (None, Some("s3://bucket/key")));
        assert!(event.with_data_at("no uri").is_err());
    }

    #[test]
    fn a_discarded_events_marker_keeps_its_identity_and_place_and_nothing_that_it_said() {
        let new = NewEvent::builder("order.placed")
            .key("k")
            .subject("secret")
            .schema("/secret")
            .extension("customer", "secret")
            .bytes("text/secret", "secret")
            .build()
            .unwrap();
        let placing = testing_event("t", Some("k"), 7).placing().copied();
        let identity = Identity { source: &"/tests".into(), placing, recorded: None, fallback_id: "1" };
        let event = Event::from_new(new, identity).unwrap();
        let marker = event.skipped("no longer\nwanted");
        assert_eq!((marker.id(), marker.key(), marker.placing()), (event.id(), event.key(), event.placing()));
        assert_eq!((marker.kind(), marker.subject()), (SKIPPED, Some("no longerwanted")));
        assert_eq!(marker.extensions().count(), 0);
        let envelope = crate::cloudevents::Envelope::default();
        let published = crate::cloudevents::json::encode(&marker, envelope);
        assert!(!String::from_utf8(published).unwrap().contains("secret"));
    }
}

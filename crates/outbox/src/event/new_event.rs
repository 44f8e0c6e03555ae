//! What a service writes, before its commit gives it an identity and a place.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    AttributeError, AttributeValue, Event, Key, MAX_ATTRIBUTE_BYTES, check_extension_name, check_text,
    check_uri_reference, extension,
};

/// The media type of a payload unless another is given.
pub const JSON: &str = "application/json";

/// Extensions that the writer, the source or the route sets; a caller may not.
const DERIVED: [&str; 7] = [
    extension::KEY,
    extension::SEQUENCE,
    extension::PLACE,
    extension::AFTER,
    extension::GAPLESS,
    extension::REPLAY_ID,
    extension::RECORDED_TIME,
];

/// An event to be written: everything but what its commit decides (producer, place, and, unless given, its id).
///
/// Valid by construction. `Debug` shows no payload.
///
/// ```
/// use outbox::NewEvent;
/// let placed = NewEvent::builder("order.placed").key("customer/42").json(&serde_json::json!({ "units": 3 })).build()?;
/// assert_eq!(placed.data().unwrap(), r#"{"units":3}"#);
/// # Ok::<(), outbox::AttributeError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct NewEvent {
    pub(crate) id: Option<Arc<str>>,
    pub(crate) kind: Arc<str>,
    pub(crate) key: Option<Key>,
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) content_type: Option<Arc<str>>,
    pub(crate) schema: Option<Arc<str>>,
    pub(crate) extensions: BTreeMap<Arc<str>, AttributeValue>,
    pub(crate) data: Option<Bytes>,
}

impl NewEvent {
    /// Starts an event of type `kind`, as `order.placed`.
    pub fn builder(kind: impl Into<String>) -> NewEventBuilder {
        NewEventBuilder { kind: kind.into(), ..NewEventBuilder::default() }
    }

    /// An event without payload or further attributes, from texts that are shared already: what a source decodes most
    /// rows with. Checks what [`NewEventBuilder::build`] checks.
    ///
    /// # Errors
    /// [`AttributeError`] names the first attribute that is not allowed.
    pub fn plain(kind: Arc<str>, id: Option<Arc<str>>, key: Option<Key>) -> Result<Self, AttributeError> {
        check_text("type", &kind, MAX_ATTRIBUTE_BYTES)?;
        if let Some(id) = &id {
            check_text("id", id, MAX_ATTRIBUTE_BYTES)?;
        }
        Ok(Self {
            id,
            kind,
            key,
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            extensions: BTreeMap::new(),
            data: None,
        })
    }

    /// This event with that payload, as a store holds it; `None` as content type means JSON.
    ///
    /// # Errors
    /// [`AttributeError`] if the content type is not allowed.
    pub fn with_payload(mut self, content_type: Option<Arc<str>>, data: Option<Bytes>) -> Result<Self, AttributeError> {
        if let Some(content_type) = &content_type {
            check_text("datacontenttype", content_type, MAX_ATTRIBUTE_BYTES)?;
        }
        self.content_type = content_type;
        self.data = data;
        Ok(self)
    }

    /// The id that the caller gave.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What happened: the CloudEvents `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What order is kept by.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The CloudEvents `subject`.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// When it happened, if the caller said.
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The payload's media type; `None` means JSON.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The CloudEvents `dataschema`.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The payload.
    pub fn data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    /// The extension attributes.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.extensions.iter().map(|(name, value)| (&**name, value))
    }
}

impl fmt::Debug for NewEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEvent")
            .field("type", &self.kind)
            .field("key", &self.key)
            .field("data_bytes", &self.data.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

/// Builds a [`NewEvent`]; everything is checked by [`build`](Self::build).
#[derive(Clone, Default)]
pub struct NewEventBuilder {
    kind: String,
    id: Option<String>,
    key: Option<String>,
    subject: Option<String>,
    time: Option<Timestamp>,
    content_type: Option<String>,
    schema: Option<String>,
    extensions: BTreeMap<String, AttributeValue>,
    data: Option<Bytes>,
    payload_error: Option<AttributeError>,
}

impl NewEventBuilder {
    /// What order is kept by. Without a key an event has no order.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The event's id, unique in its producer. Needed only where a write without a key or an expected version has to
    /// be repeated safely.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The CloudEvents `subject`.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// When it happened; otherwise the time of its entry.
    pub fn time(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// The payload as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, data: &T) -> Self {
        if let Ok(bytes) = serde_json::to_vec(data) {
            self.data = Some(bytes.into());
        } else {
            let bad = AttributeError::BadValue { name: "data".to_owned(), expected: "serialisable as JSON" };
            self.payload_error = Some(bad);
        }
        self.content_type = None;
        self
    }

    /// The payload as bytes of the media type `content_type`.
    pub fn bytes(mut self, content_type: impl Into<String>, data: impl Into<Bytes>) -> Self {
        self.content_type = Some(content_type.into());
        self.data = Some(data.into());
        self
    }

    /// The CloudEvents `dataschema`.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// An extension attribute.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<AttributeValue>) -> Self {
        self.extensions.insert(name.into(), value.into());
        self
    }

    /// What belongs together, as a request or a process.
    pub fn correlation_id(self, id: impl Into<String>) -> Self {
        self.extension(extension::CORRELATION_ID, id.into())
    }

    /// The event that caused this one: a consumer in mode `after_cause` applies this one after it. Takes over its
    /// correlation id, or starts one with its id.
    pub fn caused_by(mut self, cause: &Event) -> Self {
        let correlation = cause.extension_text(extension::CORRELATION_ID).unwrap_or(cause.id()).to_owned();
        self.extensions.entry(extension::CORRELATION_ID.to_owned()).or_insert_with(|| correlation.into());
        self = self.extension(extension::CAUSATION_ID, cause.id()).extension(extension::CAUSE_SOURCE, cause.source());
        if let (Some(key), Some(placing)) = (cause.key(), cause.placing()) {
            self = self
                .extension(extension::CAUSE_KEY, key.as_str())
                .extension(extension::CAUSE_PLACE, placing.place.to_string());
        }
        self
    }

    /// The W3C trace context that this event continues.
    pub fn trace_parent(self, trace_parent: impl Into<String>) -> Self {
        self.extension(extension::TRACE_PARENT, trace_parent.into())
    }

    /// # Errors
    /// [`AttributeError`] names the first attribute that CloudEvents 1.0 or a limit does not allow.
    pub fn build(self) -> Result<NewEvent, AttributeError> {
        if let Some(error) = self.payload_error {
            return Err(error);
        }
        let text = |name: &str, value: Option<String>| -> Result<Option<Arc<str>>, AttributeError> {
            value.map(|value| check_text(name, &value, MAX_ATTRIBUTE_BYTES).map(|()| value.into())).transpose()
        };
        check_text("type", &self.kind, MAX_ATTRIBUTE_BYTES)?;
        if let Some(schema) = &self.schema {
            check_uri_reference("dataschema", schema)?;
        }
        Ok(NewEvent {
            kind: self.kind.into(),
            id: text("id", self.id)?,
            key: self.key.map(Key::new).transpose()?,
            subject: text("subject", self.subject)?,
            time: self.time,
            content_type: text("datacontenttype", self.content_type)?,
            schema: self.schema.map(Into::into),
            extensions: check_extensions(self.extensions)?,
            data: self.data,
        })
    }
}

fn check_extensions(
    extensions: BTreeMap<String, AttributeValue>,
) -> Result<BTreeMap<Arc<str>, AttributeValue>, AttributeError> {
    extensions
        .into_iter()
        .map(|(name, value)| {
            check_extension_name(&name)?;
            if DERIVED.contains(&name.as_str()) {
                return Err(AttributeError::ReservedName(name));
            }
            if let AttributeValue::Text(text) = &value {
                check_text(&name, text, MAX_ATTRIBUTE_BYTES)?;
            }
            Ok((name.into(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_with_a_key_type_and_payload_is_built() {
        let event = NewEvent::builder("order.placed").key("customer/1").json(&1).build().unwrap();
        assert_eq!((event.kind(), event.key().unwrap().as_str()), ("order.placed", "customer/1"));
    }

    #[test]
    fn each_bad_attribute_is_named() {
        let named = |builder: NewEventBuilder| builder.build().unwrap_err().to_string();
        let start = || NewEvent::builder("t");
        assert!(named(NewEvent::builder("")).contains("`type`"));
        assert!(named(start().key("")).contains("`key`"));
        assert!(named(start().key("a\nb")).contains("U+000A"));
        assert!(named(start().key("k".repeat(513))).contains("513 bytes"));
        assert!(named(start().id("")).contains("`id`"));
        assert!(named(start().schema("not a uri")).contains("`dataschema`"));
        assert!(named(start().extension("Bad-Name", 1)).contains("`Bad-Name`"));
        assert!(named(start().extension("place", "1.1.0/1")).contains("`place`"));
        assert!(named(start().extension("id", "1")).contains("`id`"));
    }

    #[test]
    fn debug_output_shows_no_payload() {
        let event = NewEvent::builder("t").bytes("text/plain", "secret").build().unwrap();
        assert!(!format!("{event:?}").contains("secret"));
    }
}

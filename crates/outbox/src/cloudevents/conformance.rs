//! What we encode the CloudEvents SDK reads as the same event, and the other way round.

use std::collections::BTreeMap;

use bytes::Bytes;
use cloudevents::{
    AttributesReader, Data, EventBuilder, EventBuilderV10,
    event::{ExtensionValue, SpecVersion},
    message::{
        BinaryDeserializer, BinarySerializer, MessageAttributeValue, Result as MessageResult, StructuredDeserializer,
        StructuredSerializer,
    },
};
use percent_encoding::percent_decode_str;
use proptest::{option, prelude::*};

use super::{
    Envelope, arbitrary, batch,
    http::{self, Received},
    is_json, json,
};
use crate::{
    event::{AttributeValue, Event, extension},
    place::Placing,
};

type Foreign = cloudevents::Event;

/// The SDK takes only absolute URIs as `dataschema`, and normalises them.
fn ours() -> impl Strategy<Value = Event> {
    (arbitrary::event(), any::<bool>()).prop_map(|(mut event, schema)| {
        event.schema = schema.then(|| "https://example.com/schema".into());
        event
    })
}

fn theirs() -> impl Strategy<Value = Foreign> {
    let data = prop_oneof![
        arbitrary::json().prop_map(|value| ("application/json", Data::Json(value))),
        any::<String>().prop_map(|text| ("text/plain", Data::String(text))),
        any::<Vec<u8>>().prop_map(|bytes| ("application/octet-stream", Data::Binary(bytes))),
    ];
    let extension = prop_oneof![
        any::<bool>().prop_map(ExtensionValue::Boolean),
        any::<i32>().prop_map(|number| ExtensionValue::Integer(number.into())),
        arbitrary::text().prop_map(ExtensionValue::String),
    ];
    let time = (0..253_402_300_800_i64, 0..1_000_000_000_u32);
    let more = (
        option::of(arbitrary::text()),
        option::of(time),
        prop::collection::btree_map("[a-z0-9]{1,8}y", extension, 0..4),
    );
    ((arbitrary::text(), arbitrary::text(), option::of(arbitrary::text())), more, option::of(data)).prop_map(
        |((id, kind, key), (subject, time, extensions), data)| {
            let mut builder = EventBuilderV10::new().id(id).ty(kind).source("/theirs");
            if let Some(subject) = subject {
                builder = builder.subject(subject);
            }
            if let Some((second, nanosecond)) = time {
                let rfc3339 = jiff::Timestamp::new(second, nanosecond.cast_signed()).unwrap().to_string();
                builder = builder.time(rfc3339);
            }
            for (name, value) in extensions {
                builder = builder.extension(&name, value);
            }
            if let Some(key) = key {
                builder = builder.extension(extension::KEY, key);
            }
            if let Some((content_type, data)) = data {
                builder = builder.data(content_type, data);
            }
            builder.build().unwrap()
        },
    )
}

/// Every attribute as text, by its name on the wire.
type Attributes = BTreeMap<String, String>;

fn attributes_of_ours(event: &Event) -> Attributes {
    let mut all: Attributes =
        event.extensions().map(|(name, value)| (name.to_owned(), value.text().into_owned())).collect();
    let optional = [
        ("subject", event.subject().map(str::to_owned)),
        ("time", event.time().map(|time| time.to_string())),
        ("datacontenttype", event.content_type().map(str::to_owned)),
        ("dataschema", event.schema().map(str::to_owned)),
        (extension::KEY, event.key().map(ToString::to_string)),
        (extension::SEQUENCE, event.placing().map(|placing| placing.place.sequence_text())),
        (extension::PLACE, event.placing().map(Placing::wire)),
        (extension::AFTER, event.placing().map(|placing| placing.after.to_string())),
    ];
    all.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let required = [("id", event.id()), ("source", event.source()), ("type", event.kind())];
    all.extend(required.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

fn attributes_of_theirs(event: &Foreign) -> Attributes {
    let mut all: Attributes = event
        .iter_extensions()
        .map(|(name, value)| {
            let value = match value {
                ExtensionValue::String(text) => text.clone(),
                ExtensionValue::Boolean(value) => value.to_string(),
                ExtensionValue::Integer(value) => value.to_string(),
            };
            (name.to_owned(), value)
        })
        .collect();
    let time = event.time().map(|time| {
        let nanosecond = i32::try_from(time.timestamp_subsec_nanos()).unwrap();
        jiff::Timestamp::new(time.timestamp(), nanosecond).unwrap().to_string()
    });
    let optional = [
        ("subject", event.subject().map(str::to_owned)),
        ("time", time),
        ("datacontenttype", event.datacontenttype().map(str::to_owned)),
        ("dataschema", event.dataschema().map(ToString::to_string)),
    ];
    all.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let required = [("id", event.id()), ("source", event.source()), ("type", event.ty())];
    all.extend(required.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

/// The payload as the SDK keeps it: it parses whatever it takes for JSON.
fn payload_for_them(event: &Event) -> Option<Data> {
    let data = event.data()?;
    if is_json(event.content_type())
        && let Ok(value) = serde_json::from_slice(data)
    {
        return Some(Data::Json(value));
    }
    Some(Data::Binary(data.to_vec()))
}

fn payload_of_theirs(event: &Foreign) -> Option<Vec<u8>> {
    event.data().map(|data| match data {
        Data::Binary(bytes) => bytes.clone(),
        Data::String(text) => text.clone().into_bytes(),
        Data::Json(value) => serde_json::to_vec(value).unwrap(),
    })
}

/// A JSON payload that the SDK cannot take at all: a number beyond its range, or half of a surrogate pair.
fn is_beyond_the_sdk(event: &Event) -> bool {
    let is_valid = |data: &Bytes| serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
    let is_readable = |data: &Bytes| serde_json::from_slice::<serde_json::Value>(data).is_ok();
    event.data().is_some_and(|data| is_json(event.content_type()) && is_valid(data) && !is_readable(data))
}

proptest! {
    #[test]
    fn the_sdk_reads_our_json(event in ours()) {
        prop_assume!(!is_beyond_the_sdk(&event));
        let read: Foreign = serde_json::from_slice(&json::encode(&event, Envelope::default())).unwrap();
        prop_assert_eq!(attributes_of_theirs(&read), attributes_of_ours(&event));
        prop_assert_eq!(read.data().cloned(), payload_for_them(&event));
    }

    #[test]
    fn the_sdk_reads_our_batch(events in prop::collection::vec(ours(), 0..4)) {
        prop_assume!(!events.iter().any(is_beyond_the_sdk));
        let read: Vec<Foreign> = serde_json::from_slice(&batch::encode(&events, Envelope::default())).unwrap();
        let of_theirs: Vec<_> = read.iter().map(attributes_of_theirs).collect();
        prop_assert_eq!(of_theirs, events.iter().map(attributes_of_ours).collect::<Vec<_>>());
    }

    #[test]
    fn the_sdk_reads_our_headers(event in ours()) {
        let message = Message {
            headers: http::headers(&event, Envelope::default()),
            body: event.data().cloned().unwrap_or_default(),
        };
        let read = BinaryDeserializer::into_event(message).unwrap();
        let mut expected = attributes_of_ours(&event);
        expected.remove("datacontenttype");
        if event.data().is_some() {
            let content_type = event.content_type().unwrap_or("application/json");
            expected.insert("datacontenttype".to_owned(), content_type.to_owned());
        }
        prop_assert_eq!(attributes_of_theirs(&read), expected);
        let body = event.data().filter(|data| !data.is_empty()).map(|data| Data::Binary(data.to_vec()));
        prop_assert_eq!(read.data().cloned(), body);
    }

    #[test]
    fn we_read_the_json_of_the_sdk(event in theirs()) {
        let bytes = serde_json::to_vec(&event).unwrap();
        let read = json::decode(&bytes).unwrap();
        prop_assert_eq!(attributes_of_ours(&read), attributes_of_theirs(&event));
        prop_assert_eq!(read.data().map(|data| data.to_vec()), payload_of_theirs(&event));
    }

    #[test]
    fn we_read_the_batch_of_the_sdk(events in prop::collection::vec(theirs(), 0..4)) {
        let read = batch::decode(&serde_json::to_vec(&events).unwrap()).unwrap();
        let of_ours: Vec<_> = read.iter().map(|event| attributes_of_ours(event.as_ref().unwrap())).collect();
        prop_assert_eq!(of_ours, events.iter().map(attributes_of_theirs).collect::<Vec<_>>());
    }

    #[test]
    fn we_read_the_structured_and_the_binary_message_of_the_sdk(event in theirs()) {
        let structured = StructuredDeserializer::deserialize_structured(event.clone(), Message::default()).unwrap();
        let binary = BinaryDeserializer::deserialize_binary(event.clone(), Message::default()).unwrap();
        for message in [structured, binary] {
            let headers = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            let Received::One(read) = http::decode(headers, message.body.clone()).unwrap() else { panic!("a batch") };
            prop_assert_eq!(attributes_of_ours(&read), attributes_of_theirs(&event));
            prop_assert_eq!(read.data().map(|data| data.to_vec()), payload_of_theirs(&event));
        }
    }
}

#[test]
fn the_sdk_reads_typed_extensions_as_they_are() {
    let mut event = crate::testing_event("t", None, 1);
    event.extensions.insert("number".into(), AttributeValue::Integer(-7));
    event.extensions.insert("truth".into(), AttributeValue::Boolean(true));
    let read: Foreign = serde_json::from_slice(&json::encode(&event, Envelope::default())).unwrap();
    assert_eq!(read.extension("number"), Some(&ExtensionValue::Integer(-7)));
    assert_eq!(read.extension("truth"), Some(&ExtensionValue::Boolean(true)));
}

/// An HTTP message for the SDK's two traits. It does no percent-encoding of its own, so that is done here, by another
/// implementation than ours on the way in.
#[derive(Default)]
struct Message {
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl BinaryDeserializer for Message {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, mut visitor: V) -> MessageResult<R> {
        visitor = visitor.set_spec_version(SpecVersion::V10)?;
        for (name, value) in &self.headers {
            if name == http::CONTENT_TYPE {
                visitor = visitor.set_attribute("datacontenttype", MessageAttributeValue::String(value.clone()))?;
            } else if let Some(name) = name.strip_prefix("ce-").filter(|name| *name != "specversion") {
                let value = percent_decode_str(value).decode_utf8().unwrap().into_owned();
                let value = MessageAttributeValue::String(value);
                visitor = if SpecVersion::V10.attribute_names().contains(&name) {
                    visitor.set_attribute(name, value)?
                } else {
                    visitor.set_extension(name, value)?
                };
            }
        }
        if self.body.is_empty() { visitor.end() } else { visitor.end_with_data(self.body.to_vec()) }
    }
}

impl Message {
    fn header(mut self, name: &str, value: &MessageAttributeValue) -> Self {
        let mut encoded = String::new();
        for character in value.to_string().chars() {
            if matches!(character, '!'..='~') && !matches!(character, '"' | '%') {
                encoded.push(character);
            } else {
                let mut utf8 = [0; 4];
                let bytes = character.encode_utf8(&mut utf8).bytes();
                encoded.extend(bytes.map(|byte| format!("%{byte:02x}")));
            }
        }
        self.headers.push((format!("Ce-{name}"), encoded));
        self
    }
}

impl BinarySerializer<Message> for Message {
    fn set_spec_version(self, version: SpecVersion) -> MessageResult<Self> {
        Ok(self.header("specversion", &MessageAttributeValue::String(version.to_string())))
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> MessageResult<Self> {
        if name == "datacontenttype" {
            self.headers.push(("Content-Type".to_owned(), value.to_string()));
            return Ok(self);
        }
        Ok(self.header(name, &value))
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> MessageResult<Self> {
        Ok(self.header(name, &value))
    }

    fn end_with_data(self, bytes: Vec<u8>) -> MessageResult<Message> {
        Ok(Message { body: bytes.into(), ..self })
    }

    fn end(self) -> MessageResult<Message> {
        Ok(self)
    }
}

impl StructuredSerializer<Message> for Message {
    fn set_structured_event(self, bytes: Vec<u8>) -> MessageResult<Message> {
        let content_type = ("Content-Type".to_owned(), json::MEDIA_TYPE.to_owned());
        Ok(Message { headers: vec![content_type], body: bytes.into() })
    }
}

//! The test vectors in `vectors/`, which other languages can be checked against: what each event is, and exactly how it
//! is encoded.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use outbox::{
    AttributeValue, Event, NewEvent, Placing,
    cloudevents::{
        Envelope, batch,
        http::{self, Received},
        json,
    },
    event::Identity,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    #[serde(rename = "description")]
    _description: String,
    event: Described,
    gapless: bool,
    replay: Option<String>,
    structured: String,
    headers: Vec<(String, String)>,
    body_base64: String,
}

/// The event itself, independent of any encoding.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    id: String,
    source: Arc<str>,
    r#type: String,
    key: Option<String>,
    place: Option<DescribedPlace>,
    subject: Option<String>,
    time: Option<jiff::Timestamp>,
    datacontenttype: Option<String>,
    dataschema: Option<String>,
    #[serde(default)]
    extensions: BTreeMap<String, Value>,
    payload_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedPlace {
    incarnation: u32,
    sequence: u64,
    index: u32,
    count: u32,
    after: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Boolean(bool),
    Integer(i32),
    Text(String),
}

impl Described {
    fn event(&self) -> Event {
        let mut builder = NewEvent::builder(&self.r#type).id(&self.id);
        if let Some(payload) = &self.payload_base64 {
            let payload = BASE64_STANDARD.decode(payload).unwrap();
            builder = match &self.datacontenttype {
                Some(content_type) => builder.bytes(content_type, payload),
                None => builder.json(&serde_json::from_slice::<Box<serde_json::value::RawValue>>(&payload).unwrap()),
            };
        }
        if let Some(key) = &self.key {
            builder = builder.key(key);
        }
        if let Some(subject) = &self.subject {
            builder = builder.subject(subject);
        }
        if let Some(time) = self.time {
            builder = builder.time(time);
        }
        if let Some(schema) = &self.dataschema {
            builder = builder.schema(schema);
        }
        for (name, value) in &self.extensions {
            builder = builder.extension(
                name,
                match value {
                    Value::Boolean(value) => AttributeValue::from(*value),
                    Value::Integer(value) => AttributeValue::from(*value),
                    Value::Text(value) => AttributeValue::from(value.as_str()),
                },
            );
        }
        let placing = self.place.as_ref().map(|place| Placing {
            place: outbox::Place::new(place.incarnation, place.sequence, place.index),
            count: place.count,
            after: place.after.parse().unwrap(),
        });
        let identity = Identity { source: &self.source, placing, recorded: None, fallback_id: "unused" };
        Event::from_new(builder.build().unwrap(), identity).unwrap()
    }
}

fn vectors() -> Vec<(String, Vector)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert!(paths.len() >= 5, "the vectors are missing");
    paths
        .into_iter()
        .map(|path| {
            let vector = serde_json::from_slice(&fs::read(&path).unwrap());
            (path.display().to_string(), vector.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        })
        .collect()
}

impl Vector {
    fn envelope(&self) -> Envelope<'_> {
        Envelope { gapless: self.gapless, replay: self.replay.as_deref() }
    }
}

#[test]
fn each_event_is_encoded_exactly_as_its_vector_says() {
    for (path, vector) in vectors() {
        let event = vector.event.event();
        let structured = json::encode(&event, vector.envelope());
        assert_eq!(String::from_utf8(structured).unwrap(), vector.structured, "{path}");
        assert_eq!(http::headers(&event, vector.envelope()), vector.headers, "{path}");
        assert_eq!(BASE64_STANDARD.encode(event.data().cloned().unwrap_or_default()), vector.body_base64, "{path}");
        let pair = batch::encode([&event, &event], vector.envelope());
        assert_eq!(String::from_utf8(pair).unwrap(), format!("[{0},{0}]", vector.structured), "{path}");
    }
}

#[test]
fn each_vector_is_read_as_its_event() {
    for (path, vector) in vectors() {
        let expected = vector.event.event();
        let structured = json::decode(vector.structured.as_bytes()).unwrap();
        let headers = vector.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let body = Bytes::from(BASE64_STANDARD.decode(&vector.body_base64).unwrap());
        let Received::One(binary) = http::decode(headers, body).unwrap() else { panic!("{path}: a batch") };
        for read in [structured, binary] {
            assert_eq!((read.id(), read.source(), read.kind()), (expected.id(), expected.source(), expected.kind()));
            assert_eq!((read.key(), read.placing()), (expected.key(), expected.placing()), "{path}");
            assert_eq!((read.subject(), read.time()), (expected.subject(), expected.time()), "{path}");
            assert_eq!((read.schema(), read.data()), (expected.schema(), expected.data()), "{path}");
            assert_eq!((read.gapless(), read.extension_text("replayid")), (vector.gapless, vector.replay.as_deref()));
            for (name, value) in expected.extensions() {
                assert_eq!(read.extension(name).map(AttributeValue::text), Some(value.text()), "{path}: {name}");
            }
        }
    }
}

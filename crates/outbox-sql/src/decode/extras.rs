//! The two columns of JSON: `attributes`, and `more` with a commit's second and later events.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use outbox::{AttributeValue, Key, NewEvent};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, value::RawValue};

use super::{Rubbish, shown};

/// An event before its attributes are read.
pub(super) struct Draft<'a> {
    pub(super) kind: &'a str,
    pub(super) event_id: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    pub(super) data: Option<Bytes>,
}

impl Draft<'_> {
    /// The event, with the `attributes` in the column of that name.
    pub(super) fn build(self, key: Option<&Key>, attributes: &[u8]) -> Result<NewEvent, Rubbish> {
        let attributes = serde_json::from_slice(attributes).map_err(|error| {
            Rubbish::new("attributes", format!("is not a JSON object: {}; write one, or NULL", problem(&error)))
        })?;
        self.build_with(key, attributes)
    }

    fn build_with(self, key: Option<&Key>, attributes: Map<String, Value>) -> Result<NewEvent, Rubbish> {
        let mut builder = NewEvent::builder(self.kind);
        if let Some(key) = key {
            builder = builder.key(key.as_str());
        }
        if let Some(id) = self.event_id {
            builder = builder.id(id);
        }
        for (name, value) in attributes {
            builder = match (name.as_str(), value) {
                ("subject", Value::String(subject)) => builder.subject(subject),
                ("dataschema", Value::String(schema)) => builder.schema(schema),
                ("time", Value::String(time)) => builder.time(rfc_3339(&time)?),
                ("subject" | "dataschema" | "time", _) => {
                    return Err(Rubbish::new("attributes", format!("gives `{name}` something else than text")));
                }
                (_, value) => {
                    let value = attribute(&name, value)?;
                    builder.extension(name, value)
                }
            };
        }
        builder
            .build()
            .and_then(|new| new.with_payload(self.content_type.map(Into::into), self.data))
            .map_err(|error| Rubbish::attribute(&error))
    }
}

fn rfc_3339(time: &str) -> Result<Timestamp, Rubbish> {
    time.parse().map_err(|_| {
        Rubbish::new("attributes", "gives a `time` that is not RFC 3339: write it as `2026-11-21T09:30:00Z`")
    })
}

fn attribute(name: &str, value: Value) -> Result<AttributeValue, Rubbish> {
    let number = |number: &serde_json::Number| number.as_i64().and_then(|number| i32::try_from(number).ok());
    match value {
        Value::Bool(value) => Ok(value.into()),
        Value::String(value) => Ok(value.into()),
        Value::Number(value) if number(&value).is_some() => Ok(number(&value).unwrap_or(0).into()),
        Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => {
            let found = format!(
                "gives `{}` what is neither text, nor true or false, nor a 32-bit number: write it as text",
                shown(name, 64)
            );
            Err(Rubbish::new("attributes", found))
        }
    }
}

/// What `serde_json` says, without the parts that quote what stands there, which may be a payload.
fn problem(error: &serde_json::Error) -> String {
    let (text, line, column) = (error.to_string(), error.line(), error.column());
    let unknown = text.strip_prefix("unknown field `").and_then(|rest| rest.rsplit_once("`, expected "));
    match unknown {
        _ if text.starts_with("missing field ") => text,
        Some((name, _)) => format!("unknown field `{}` at line {line} column {column}", shown(name, 64)),
        None => format!("look at line {line} column {column}"),
    }
}

/// One of the further events of a commit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Further<'a> {
    r#type: String,
    id: Option<String>,
    content_type: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
    #[serde(default)]
    attributes: Map<String, Value>,
}

/// The JSON as it stands; a `null` that is there is a payload, and no absent one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The events in `more`.
pub(super) fn more(json: &[u8], key: Option<&Key>) -> Result<Vec<NewEvent>, Rubbish> {
    let further: Vec<Further<'_>> = serde_json::from_slice(json).map_err(|error| {
        Rubbish::new("more", format!("is not a JSON array of events: {}; write one, or NULL", problem(&error)))
    })?;
    further
        .into_iter()
        .zip(1..)
        .map(|(event, index)| {
            event.build(key).map_err(|rubbish| Rubbish::new("more", format!("event {index}: {rubbish}")))
        })
        .collect()
}

impl Further<'_> {
    fn build(self, key: Option<&Key>) -> Result<NewEvent, Rubbish> {
        let data = match (self.data, self.data_base64) {
            (None, None) => None,
            (Some(json), None) => Some(Bytes::copy_from_slice(json.get().as_bytes())),
            (None, Some(text)) => Some(
                STANDARD
                    .decode(text)
                    .map(Bytes::from)
                    .map_err(|error| Rubbish::new("data_base64", format!("is not base64: {error}")))?,
            ),
            (Some(_), Some(_)) => return Err(Rubbish::new("data", "stands beside `data_base64`: write one of them")),
        };
        let draft = Draft {
            kind: &self.r#type,
            event_id: self.id.as_deref(),
            content_type: self.content_type.as_deref(),
            data,
        };
        draft.build_with(key, self.attributes)
    }
}

//! From the events of one commit and key to the columns of the entries' table, whatever the database. The way back is each
//! database's `decode`.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use outbox::{
    AttributeError, AttributeValue, Entropy, NewEvent, WriteError,
    cloudevents::is_json,
    writer::{EntryPlan, time_ordered_id},
};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

/// The most bytes that an event's attributes take as JSON.
pub const MAX_ATTRIBUTES_BYTES: usize = 65_536;
/// The most bytes that the columns `data` and `more` take together.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// The columns of a row that come from its events.
pub(crate) struct Encoded<'a> {
    pub(crate) key: Option<&'a str>,
    pub(crate) kind: &'a str,
    pub(crate) event_id: Option<Cow<'a, str>>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) data: Data<'a>,
    pub(crate) attributes: Option<String>,
    pub(crate) more: Option<String>,
    /// How many events the row holds.
    pub(crate) count: u32,
}

/// A payload as the column `data` holds it: text where people read it as such, else bytes.
#[derive(Clone, Copy)]
pub(crate) enum Data<'a> {
    None,
    Text(&'a str),
    Blob(&'a [u8]),
}

/// Encodes the events of `plan`. An event without key and id gets an id of the time `now`.
///
/// # Errors
/// [`WriteError::Attribute`] if an event's attributes are too many, [`WriteError::EntryTooLarge`] if the row is too
/// large or has no event.
pub(crate) fn encode<'a>(
    plan: &'a EntryPlan,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Encoded<'a>, WriteError> {
    let Some(((index, first), further)) = plan.events.split_first() else {
        return Err(too_large(plan, 0));
    };
    let event_id = match (first.id(), &plan.key) {
        (Some(id), _) => Some(Cow::Borrowed(id)),
        (None, Some(_)) => None,
        (None, None) => Some(Cow::Owned(time_ordered_id(now, entropy))),
    };
    let more = if further.is_empty() { None } else { Some(encode_more(further)?) };
    let bytes = more.as_ref().map_or(0, String::len) + first.data().map_or(0, Bytes::len);
    if bytes > MAX_ROW_BYTES {
        return Err(too_large(plan, bytes));
    }
    Ok(Encoded {
        key: plan.key.as_ref().map(outbox::Key::as_str),
        kind: first.kind(),
        event_id,
        content_type: first.content_type(),
        data: data(first),
        attributes: attributes(*index, first)?.map(|attributes| Value::Object(attributes).to_string()),
        more,
        count: u32::try_from(plan.events.len()).map_err(|_| too_large(plan, bytes))?,
    })
}

fn too_large(plan: &EntryPlan, bytes: usize) -> WriteError {
    let key = plan.key.as_ref().map_or_else(|| "(no key)".to_owned(), ToString::to_string);
    WriteError::EntryTooLarge { key, events: plan.events.len(), bytes }
}

fn data(event: &NewEvent) -> Data<'_> {
    let Some(bytes) = event.data() else { return Data::None };
    let readable =
        is_json(event.content_type()) || event.content_type().is_some_and(|media| media.starts_with("text/"));
    match std::str::from_utf8(bytes) {
        // Most tools end a text at its first NUL.
        Ok(text) if readable && !text.contains('\0') => Data::Text(text),
        Ok(_) | Err(_) => Data::Blob(bytes),
    }
}

/// The attributes that have no column of their own; `None` if there are none.
fn attributes(index: usize, event: &NewEvent) -> Result<Option<Map<String, Value>>, WriteError> {
    let mut attributes = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            attributes.insert(name.to_owned(), value.into());
        }
    };
    put("subject", event.subject().map(str::to_owned));
    put("time", event.time().map(|time| time.to_string()));
    put("dataschema", event.schema().map(str::to_owned));
    for (name, value) in event.extensions() {
        let value = match value {
            AttributeValue::Boolean(value) => Value::Bool(*value),
            AttributeValue::Integer(value) => (*value).into(),
            AttributeValue::Text(value) => (**value).into(),
        };
        attributes.insert(name.to_owned(), value);
    }
    if attributes.is_empty() {
        return Ok(None);
    }
    // Names have at most 20 bytes and values 1,024, so few attributes need no counting.
    let bytes = if attributes.len() > 16 { Value::Object(attributes.clone()).to_string().len() } else { 0 };
    if bytes > MAX_ATTRIBUTES_BYTES {
        let error = AttributeError::TooLong { name: "attributes".to_owned(), bytes, limit: MAX_ATTRIBUTES_BYTES };
        return Err(WriteError::Attribute { index, error });
    }
    Ok(Some(attributes))
}

/// One of the second and later events of an entry, as `more` holds it.
#[derive(Serialize)]
struct Further<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<Map<String, Value>>,
}

fn encode_more(events: &[(usize, NewEvent)]) -> Result<String, WriteError> {
    let further: Vec<_> = events.iter().map(|(index, event)| further(*index, event)).collect::<Result<_, _>>()?;
    serde_json::to_string(&further).map_err(|error| WriteError::Store {
        message: "the further events of an entry could not be written as JSON: this is a bug, report it".to_owned(),
        error: error.into(),
    })
}

fn further(index: usize, event: &NewEvent) -> Result<Further<'_>, WriteError> {
    let embedded = event.data().and_then(|data| embeddable(event.content_type(), data));
    let data_base64 = match (event.data(), embedded) {
        (Some(data), None) => Some(STANDARD.encode(data)),
        (None, _) | (_, Some(_)) => None,
    };
    Ok(Further {
        r#type: event.kind(),
        id: event.id(),
        content_type: event.content_type(),
        data: embedded,
        data_base64,
        attributes: attributes(index, event)?,
    })
}

/// The payload as JSON that can stand within JSON and come out again byte for byte: without white space around it, and
/// not nested deeper than the databases' JSON functions go.
fn embeddable<'a>(content_type: Option<&str>, data: &'a Bytes) -> Option<&'a RawValue> {
    const DEEPEST: usize = 500;
    if !is_json(content_type) {
        return None;
    }
    let json: &RawValue = serde_json::from_slice(data).ok()?;
    (json.get().len() == data.len() && depth(data) <= DEEPEST).then_some(json)
}

/// How deep arrays and objects of a valid JSON text are nested.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(b"1"), 0);
        assert_eq!(depth(br#"{"a":[{"b":1}],"c":[]}"#), 3);
        assert_eq!(depth(br#"["]]]\"[[[", ["[\\"]]"#), 2);
    }

    #[test]
    fn only_json_that_comes_out_as_it_went_in_is_embedded() {
        let embedded = |content_type, data: &'static [u8]| {
            embeddable(content_type, &Bytes::from_static(data)).map(|json| json.get().to_owned())
        };
        assert_eq!(embedded(None, b"{\"b\": 1.50}"), Some("{\"b\": 1.50}".to_owned()));
        assert_eq!(embedded(Some("application/vnd.a+json"), b"null"), Some("null".to_owned()));
        assert_eq!(embedded(None, b" 1"), None);
        assert_eq!(embedded(None, b""), None);
        assert_eq!(embedded(None, b"\"\xff\""), None);
        assert_eq!(embedded(Some("text/plain"), b"1"), None);
        let nested = format!("{}{}", "[".repeat(501), "]".repeat(501));
        assert_eq!(embeddable(None, &Bytes::from(nested)).map(|json| json.get().len()), None);
    }
}

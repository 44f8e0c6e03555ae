//! Reading one event from JSON.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize,
    de::{Deserializer as _, Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::super::{
    assembly::Assembly,
    error::{DecodeError, shown},
    is_json,
};
use crate::event::{AttributeValue, Event};

/// Reads one event.
///
/// Takes what CloudEvents 1.0 allows: members in any order, `null` for what is absent, numbers and booleans as
/// extensions, a string as the payload of a media type other than JSON. Work and memory are bounded by the length of
/// `bytes`, however deeply they nest.
///
/// # Errors
/// [`DecodeError`] names the first member that is wrong, and the remedy.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    decode_text(text_of(bytes)?, &|payload| Bytes::copy_from_slice(payload.as_bytes()))
}

/// As [`decode`]; the payload shares the memory of `bytes` where it can.
pub(in super::super) fn decode_shared(bytes: &Bytes) -> Result<Event, DecodeError> {
    decode_text(text_of(bytes)?, &|payload| bytes.slice_ref(payload.as_bytes()))
}

pub(in super::super) fn text_of(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))
}

/// Reads one event from `text`; `keep` makes the payload from its part of `text`.
pub(in super::super) fn decode_text(text: &str, keep: &dyn Fn(&str) -> Bytes) -> Result<Event, DecodeError> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(DecodeError::Shape("an object: send one CloudEvent, as `{\"specversion\":\"1.0\",…}`"));
    }
    let mut members = Members::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_map(Reader(&mut members)).and_then(|()| deserializer.end());
    if let Some(problem) = members.problem {
        return Err(problem);
    }
    read.map_err(|error| DecodeError::syntax(&error))?;
    let is_json = is_json(members.assembly.content_type());
    let data = match (members.data, members.data_base64) {
        (Some(_), Some(_)) => return Err(DecodeError::TwoPayloads),
        (Some(data), None) if is_json => Some(keep(data)),
        (Some(data), None) => Some(string_payload(data, keep)?),
        (None, Some(data)) => Some(base64_payload(data)?),
        // `null` is JSON as well: the payload of an event that says nothing else.
        (None, None) => members.null_data.filter(|_| is_json).map(keep),
    };
    members.assembly.finish(data)
}

/// What was read so far. Values are only looked over at first: a payload's meaning depends on a media type that may come
/// behind it.
#[derive(Default)]
struct Members<'a> {
    assembly: Assembly,
    data: Option<&'a str>,
    null_data: Option<&'a str>,
    data_base64: Option<&'a str>,
    problem: Option<DecodeError>,
}

impl<'a> Members<'a> {
    fn take(&mut self, name: &str, raw: &'a str) -> Result<(), DecodeError> {
        let slot = match name {
            "data" if raw == "null" => &mut self.null_data,
            "data" => &mut self.data,
            "data_base64" if raw != "null" => &mut self.data_base64,
            "data_base64" => return Ok(()),
            _ => {
                return match attribute(name, raw)? {
                    Some(value) => self.assembly.set(name, value),
                    None => Ok(()),
                };
            }
        };
        if slot.replace(raw).is_some() || (name == "data" && self.data.is_some() && self.null_data.is_some()) {
            return Err(DecodeError::duplicate(name));
        }
        Ok(())
    }
}

struct Reader<'m, 'a>(&'m mut Members<'a>);

/// A member's name, borrowed where it holds no escape.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Visitor<'a> for Reader<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let raw: &'a RawValue = map.next_value()?;
            if let Err(problem) = self.0.take(&name, raw.get()) {
                self.0.problem = Some(problem);
                return Err(A::Error::custom("see the problem"));
            }
        }
        Ok(())
    }
}

/// An attribute's value from its JSON; `None` for `null`.
fn attribute(name: &str, raw: &str) -> Result<Option<AttributeValue>, DecodeError> {
    Ok(Some(match raw {
        "null" => return Ok(None),
        "true" => AttributeValue::Boolean(true),
        "false" => AttributeValue::Boolean(false),
        _ if raw.starts_with('"') => AttributeValue::Text(string(name, raw)?.into()),
        _ if raw.starts_with(['{', '[']) => {
            return Err(DecodeError::wrong_type(name, found(raw), "a string, a number or a boolean"));
        }
        _ => AttributeValue::Integer(
            raw.parse().map_err(|_| DecodeError::wrong_type(name, "a number that is no 32-bit integer", "a string"))?,
        ),
    }))
}

/// The text of a JSON string that is known to be well formed but for its surrogates.
fn string<'a>(name: &str, raw: &'a str) -> Result<Cow<'a, str>, DecodeError> {
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(raw).map(Cow::Owned).map_err(|_| DecodeError::Surrogate(shown(name))),
    }
}

/// Rule: CloudEvents JSON format 1.0, 3.1: where the media type is not JSON, `data` is a string that holds the payload.
fn string_payload(raw: &str, keep: &dyn Fn(&str) -> Bytes) -> Result<Bytes, DecodeError> {
    if !raw.starts_with('"') {
        return Err(DecodeError::DataType(found(raw)));
    }
    Ok(match string("data", raw)? {
        // An empty part of the text has no place in it that could be shared.
        Cow::Borrowed("") => Bytes::new(),
        Cow::Borrowed(text) => keep(text),
        Cow::Owned(text) => text.into(),
    })
}

fn base64_payload(raw: &str) -> Result<Bytes, DecodeError> {
    if !raw.starts_with('"') {
        return Err(DecodeError::wrong_type("data_base64", found(raw), "a string"));
    }
    let text = string("data_base64", raw)?;
    BASE64_STANDARD.decode(text.as_bytes()).map(Into::into).map_err(|_| DecodeError::Base64)
}

fn found(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

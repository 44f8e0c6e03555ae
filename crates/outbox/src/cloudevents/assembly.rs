//! An event put together from its attributes as they arrive.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;

use super::error::{DecodeError, shown};
use crate::{
    event::{
        AttributeError, AttributeValue, Event, Key, MAX_ATTRIBUTE_BYTES, MAX_KEY_BYTES, check_extension_name,
        check_text, check_uri_reference, extension,
    },
    place::Placing,
};

/// The longest name of a foreign extension. CloudEvents only advises 20 characters, and well-known systems use more.
const MAX_NAME_BYTES: usize = 64;

/// The attributes seen so far; each at most once.
#[derive(Default)]
pub(super) struct Assembly {
    version: Option<()>,
    id: Option<Arc<str>>,
    source: Option<Arc<str>>,
    kind: Option<Arc<str>>,
    subject: Option<Arc<str>>,
    time: Option<Timestamp>,
    content_type: Option<Arc<str>>,
    schema: Option<Arc<str>>,
    extensions: BTreeMap<Arc<str>, AttributeValue>,
}

impl Assembly {
    /// Takes one attribute.
    pub(super) fn set(&mut self, name: &str, value: AttributeValue) -> Result<(), DecodeError> {
        match name {
            "specversion" => fill(&mut self.version, name, version(&text(name, value)?)?),
            "id" => fill(&mut self.id, name, checked_text(name, value)?),
            "source" => fill(&mut self.source, name, uri(name, value)?),
            "type" => fill(&mut self.kind, name, checked_text(name, value)?),
            "subject" => fill(&mut self.subject, name, checked_text(name, value)?),
            "time" => fill(&mut self.time, name, time(&text(name, value)?)?),
            "datacontenttype" => fill(&mut self.content_type, name, checked_text(name, value)?),
            "dataschema" => fill(&mut self.schema, name, uri(name, value)?),
            _ => self.set_extension(name, value),
        }
    }

    fn set_extension(&mut self, name: &str, value: AttributeValue) -> Result<(), DecodeError> {
        check_foreign_name(name)?;
        if let AttributeValue::Text(text) = &value
            && !text.is_empty()
        {
            check_text(name, text, MAX_ATTRIBUTE_BYTES)?;
        }
        match self.extensions.entry(name.into()) {
            Entry::Occupied(_) => Err(DecodeError::duplicate(name)),
            Entry::Vacant(vacant) => {
                vacant.insert(value);
                Ok(())
            }
        }
    }

    /// The payload's media type, once all attributes are there.
    pub(super) fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The event with `data`, if everything that it needs is there.
    pub(super) fn finish(mut self, data: Option<Bytes>) -> Result<Event, DecodeError> {
        self.version.ok_or(DecodeError::missing("specversion"))?;
        let key = self.take_key()?;
        let placing = self.take_placing(key.is_some())?;
        Ok(Event {
            id: self.id.ok_or(DecodeError::missing("id"))?,
            source: self.source.ok_or(DecodeError::missing("source"))?,
            kind: self.kind.ok_or(DecodeError::missing("type"))?,
            key,
            placing,
            subject: self.subject,
            time: self.time,
            content_type: self.content_type,
            schema: self.schema,
            extensions: self.extensions,
            data,
        })
    }

    fn take_key(&mut self) -> Result<Option<Key>, DecodeError> {
        let Some(value) = self.extensions.remove(extension::KEY) else { return Ok(None) };
        let text = text(extension::KEY, value)?;
        check_text(extension::KEY, &text, MAX_KEY_BYTES)?;
        Ok(Some(Key::new(&text)?))
    }

    fn take_placing(&mut self, has_key: bool) -> Result<Option<Placing>, DecodeError> {
        if !(self.extensions.contains_key(extension::PLACE) && self.extensions.contains_key(extension::AFTER)) {
            return Ok(None);
        }
        if !has_key {
            return Err(DecodeError::missing(extension::KEY));
        }
        let placing = Placing::from_wire(&self.take_text(extension::PLACE)?, &self.take_text(extension::AFTER)?)?;
        if let Some(sequence) = self.extensions.remove(extension::SEQUENCE)
            && *sequence.text() != *placing.place.sequence_text()
        {
            let expected = "the zero-padded text of `place`: write it so, or leave it out";
            return Err(AttributeError::BadValue { name: extension::SEQUENCE.to_owned(), expected }.into());
        }
        Ok(Some(placing))
    }

    fn take_text(&mut self, name: &'static str) -> Result<Arc<str>, DecodeError> {
        let value = self.extensions.remove(name).ok_or(DecodeError::missing(name))?;
        text(name, value)
    }
}

fn fill<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), DecodeError> {
    if slot.replace(value).is_some() {
        return Err(DecodeError::duplicate(name));
    }
    Ok(())
}

fn text(name: &str, value: AttributeValue) -> Result<Arc<str>, DecodeError> {
    match value {
        AttributeValue::Text(text) => Ok(text),
        AttributeValue::Boolean(_) => Err(DecodeError::wrong_type(name, "a boolean", "a string")),
        AttributeValue::Integer(_) => Err(DecodeError::wrong_type(name, "a number", "a string")),
    }
}

fn checked_text(name: &str, value: AttributeValue) -> Result<Arc<str>, DecodeError> {
    let text = text(name, value)?;
    check_text(name, &text, MAX_ATTRIBUTE_BYTES)?;
    Ok(text)
}

fn uri(name: &str, value: AttributeValue) -> Result<Arc<str>, DecodeError> {
    let text = text(name, value)?;
    check_uri_reference(name, &text)?;
    Ok(text)
}

fn version(text: &str) -> Result<(), DecodeError> {
    if text == "1.0" { Ok(()) } else { Err(DecodeError::Version(shown(text))) }
}

fn time(text: &str) -> Result<Timestamp, DecodeError> {
    let refused = || AttributeError::BadValue {
        name: "time".to_owned(),
        expected: "an RFC 3339 time stamp: write it as `2026-11-21T03:04:05.678Z`, with at most nine decimals",
    };
    if !has_rfc3339_shape(text.as_bytes()) {
        return Err(refused().into());
    }
    text.parse().map_err(|_| refused().into())
}

/// The parser takes more than RFC 3339: a time without seconds, an offset without minutes, a named zone. A year outside
/// 0 to 9999 has no RFC 3339 form; such times, which only our own events can have, are read in their ISO 8601 form.
fn has_rfc3339_shape(text: &[u8]) -> bool {
    let rest = match text {
        [b'-', ..] => text.get(7..),
        _ => text.get(4..),
    };
    let Some(rest) = rest.and_then(|rest| rest.strip_prefix(b"-")) else { return false };
    let Some((date_and_time, rest)) = rest.split_at_checked(14) else { return false };
    let shape = b"00-00T00:00:00";
    let fits = date_and_time.iter().zip(shape).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't'),
        other => byte == other,
    });
    let offset = rest.strip_prefix(b".").map_or(rest, |fraction| {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        &fraction[digits..]
    });
    fits && matches!(offset, b"Z" | b"z" | [b'+' | b'-', _, _, b':', _, _])
}

/// As [`check_extension_name`], but takes the long names that others use.
fn check_foreign_name(name: &str) -> Result<(), AttributeError> {
    match check_extension_name(name) {
        Err(AttributeError::BadName(_))
            if (21..=MAX_NAME_BYTES).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) =>
        {
            Ok(())
        }
        other => other,
    }
}

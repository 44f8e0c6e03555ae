//! Several events as one JSON array: `application/cloudevents-batch+json`.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{DecodeError, Envelope, json};
use crate::event::Event;

/// The media type.
pub const MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// The most events that a batch is read with: a stranger's array of tiny values would cost far more memory than it has
/// bytes.
pub const MAX_EVENTS: usize = 10_000;

/// The events as a JSON array, in their order. At most the sum of their [`json::encoded_size`], or two bytes for none.
pub fn encode<'a>(events: impl IntoIterator<Item = &'a Event>, envelope: Envelope<'_>) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, event) in events.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::encode_into(&mut out, event, envelope);
    }
    out.push(b']');
    out
}

/// Reads a batch: each event, or what is wrong with it, in the batch's order. One bad event does not spoil the others.
///
/// # Errors
/// [`DecodeError`] if `bytes` are not a JSON array, or hold more than [`MAX_EVENTS`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Result<Event, DecodeError>>, DecodeError> {
    let text = json::text_of(bytes)?;
    if !text.trim_ascii_start().starts_with('[') {
        return Err(DecodeError::Shape("an array: send the events as `[{…},{…}]`"));
    }
    let mut batch = Elements { events: Vec::new(), too_many: false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_seq(&mut batch).and_then(|()| deserializer.end());
    if batch.too_many {
        return Err(DecodeError::TooManyEvents(MAX_EVENTS));
    }
    read.map_err(|error| DecodeError::syntax(&error))?;
    Ok(batch.events)
}

struct Elements {
    events: Vec<Result<Event, DecodeError>>,
    too_many: bool,
}

impl<'de> Visitor<'de> for &mut Elements {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch of CloudEvents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            if self.events.len() == MAX_EVENTS {
                self.too_many = true;
                return Err(A::Error::custom("too many events"));
            }
            // A copy of each payload: one event must not hold the memory of its whole batch.
            self.events.push(json::decode_text(element.get(), &|data| Bytes::copy_from_slice(data.as_bytes())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    proptest! {
        #[test]
        fn a_batch_is_read_back_as_it_was(events in prop::collection::vec(arbitrary::event(), 0..5)) {
            let bytes = encode(&events, Envelope::default());
            let bound: usize = events.iter().map(json::encoded_size).sum();
            prop_assert!(bytes.len() <= bound.max(2));
            let read: Vec<_> = decode(&bytes).unwrap().into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(read, events);
        }
    }

    #[test]
    fn one_bad_event_does_not_spoil_the_others() {
        let good = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t"}"#;
        let bytes = format!("[{good}, 7, {{}}, {good}]");
        let read = decode(bytes.as_bytes()).unwrap();
        let whether: Vec<_> = read.iter().map(Result::is_ok).collect();
        assert_eq!(whether, [true, false, false, true]);
        assert_eq!(read[2], Err(DecodeError::missing("specversion")));
    }

    #[test]
    fn what_is_no_array_is_refused_as_a_whole() {
        for bytes in ["", "{}", "[{}", "[{}] x", "null", "[1,]"] {
            assert!(decode(bytes.as_bytes()).is_err(), "{bytes}");
        }
        assert_eq!(decode(b" [ ] ").unwrap(), []);
    }

    #[test]
    fn a_batch_of_too_many_events_is_refused() {
        let bytes = format!("[0{}]", ",0".repeat(MAX_EVENTS));
        assert_eq!(decode(bytes.as_bytes()), Err(DecodeError::TooManyEvents(MAX_EVENTS)));
        let bytes = format!("[0{}]", ",0".repeat(MAX_EVENTS - 1));
        assert_eq!(decode(bytes.as_bytes()).unwrap().len(), MAX_EVENTS);
    }
}

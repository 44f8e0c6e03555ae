//! Messages that could not be decoded, kept as they came.

use std::fmt;

use bytes::Bytes;

use crate::{cloudevents::http, event::Event};

/// A message as a transport delivered it: the headers that could matter for its decoding, and the body. `Debug` shows
/// no content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawMessage {
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl RawMessage {
    /// A message of media type `content_type`.
    pub fn new(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { headers: vec![("content-type".to_owned(), content_type.to_owned())], body: body.into() }
    }

    /// As one run of bytes, readable for people: the headers a line each, an empty line, the body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.body.len() + 64);
        for (name, value) in &self.headers {
            // A line break within a header would make two of it.
            let value = value.replace(['\r', '\n'], " ");
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Reads back what [`to_bytes`](Self::to_bytes) wrote; what is no such thing becomes the body.
    pub fn from_bytes(bytes: &Bytes) -> Self {
        let mut headers = Vec::new();
        let mut at = 0;
        while let Some(length) = bytes[at..].windows(2).position(|pair| pair == b"\r\n") {
            let line = &bytes[at..at + length];
            at += length + 2;
            if line.is_empty() {
                return Self { headers, body: bytes.slice(at..) };
            }
            match std::str::from_utf8(line).ok().and_then(|line| line.split_once(": ")) {
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None => break,
            }
        }
        Self { headers: Vec::new(), body: bytes.clone() }
    }

    /// The events that the message holds.
    ///
    /// # Errors
    /// Why it cannot be decoded as a CloudEvent, or as a batch of them.
    pub fn decode(&self) -> Result<Vec<Event>, String> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        match http::decode(headers, self.body.clone()).map_err(|error| error.to_string())? {
            http::Received::One(event) => Ok(vec![event]),
            http::Received::Batch(events) => {
                events.into_iter().collect::<Result<_, _>>().map_err(|error| error.to_string())
            }
        }
    }

    /// A name that the same message always has, and practically no other: FNV-1a with 128 bits. A forger who finds two
    /// messages of one name hides only his own.
    pub fn name(&self) -> String {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
        const OFFSET: u128 = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D;
        let hash = self.to_bytes().iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
        format!("undecodable/{hash:032x}")
    }
}

impl fmt::Debug for RawMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMessage").field("body_bytes", &self.body.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_message_is_read_back_as_it_came(
            headers in proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,40}"), 0..5),
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let message = RawMessage { headers, body: body.into() };
            prop_assert_eq!(&RawMessage::from_bytes(&message.to_bytes().into()), &message);
        }

        #[test]
        fn any_bytes_are_read_as_some_message(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            RawMessage::from_bytes(&bytes.into());
        }
    }

    #[test]
    fn different_messages_have_different_names() {
        let names = ["a", "b", ""].map(|body| RawMessage::new("text/plain", body).name());
        assert!(names[0] != names[1] && names[1] != names[2]);
        assert_eq!(names[0], RawMessage::new("text/plain", "a").name());
    }
}

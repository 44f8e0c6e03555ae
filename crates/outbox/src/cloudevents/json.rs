//! One event as JSON: `application/cloudevents+json`, structured mode.
//!
//! A payload of a JSON media type that is valid JSON without white space around it is embedded as `data`, as it is; any
//! other one is `data_base64`. So every payload comes back byte for byte, an empty one as empty, and none as none.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    Envelope,
    attributes::{self, Wire},
    is_json,
};
use crate::event::{Event, extension};

mod read;

pub use read::decode;
pub(super) use read::{decode_shared, decode_text, text_of};

/// The media type.
pub const MEDIA_TYPE: &str = "application/cloudevents+json";

/// The longest replay id that [`encoded_size`] allows for.
pub const MAX_REPLAY_ID_BYTES: usize = 64;

/// The event as JSON.
///
/// ```
/// use outbox::cloudevents::{Envelope, json};
/// let text = r#"{"specversion":"1.0","id":"1","source":"/orders","type":"order.placed","data":{"units":3}}"#;
/// let event = json::decode(text.as_bytes())?;
/// assert_eq!(event.data().unwrap(), r#"{"units":3}"#);
/// assert_eq!(json::encode(&event, Envelope::default()), text.as_bytes());
/// # Ok::<(), outbox::cloudevents::DecodeError>(())
/// ```
pub fn encode(event: &Event, envelope: Envelope<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(&mut out, event, envelope);
    out
}

/// Appends the event as JSON to `out`.
pub fn encode_into(out: &mut Vec<u8>, event: &Event, envelope: Envelope<'_>) {
    let payload = Payload::of(event);
    out.reserve(ATTRIBUTES_GUESS + payload.size());
    write_event(out, event, envelope, payload);
}

/// Appends the event as JSON that holds no line break, for JSON lines: a JSON payload with line breaks of its own
/// travels as base64.
pub fn encode_line_into(out: &mut Vec<u8>, event: &Event, envelope: Envelope<'_>) {
    let payload = Payload::of(event).on_one_line();
    out.reserve(ATTRIBUTES_GUESS + payload.size());
    write_event(out, event, envelope, payload);
}

/// Never less than the bytes of the event as JSON in any of our encodings, whatever the envelope (a replay id of up to
/// [`MAX_REPLAY_ID_BYTES`] that needs no escaping), with its share of a batch's brackets and commas or a line's break.
/// At most 95 bytes too many, unless a JSON payload has line breaks. Costs one pass over the payload.
pub fn encoded_size(event: &Event) -> usize {
    let mut size = Size(FRAME + GAPLESS + REPLAY);
    write_event(&mut size, event, Envelope::default(), Payload::of(event).on_one_line());
    size.0
}

/// Room for the attributes of most events, so that the buffer grows once.
const ATTRIBUTES_GUESS: usize = 512;
/// A comma and, for a batch of one, the brackets' share.
const FRAME: usize = 2;
const GAPLESS: usize = r#","":true"#.len() + extension::GAPLESS.len();
const REPLAY: usize = r#","":"""#.len() + extension::REPLAY_ID.len() + MAX_REPLAY_ID_BYTES;

/// How the payload is written.
#[derive(Clone, Copy)]
enum Payload<'a> {
    Absent,
    Embedded(&'a [u8]),
    Base64(&'a [u8]),
}

impl<'a> Payload<'a> {
    fn of(event: &'a Event) -> Self {
        match &event.data {
            None => Self::Absent,
            Some(data) if is_json(event.content_type()) && can_be_embedded(data) => Self::Embedded(data),
            Some(data) => Self::Base64(data),
        }
    }

    fn on_one_line(self) -> Self {
        match self {
            Self::Embedded(data) if data.iter().any(|byte| matches!(byte, b'\n' | b'\r')) => Self::Base64(data),
            other => other,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Embedded(data) => data.len(),
            Self::Base64(data) => base64_size(data),
        }
    }
}

/// Valid JSON, and nothing around it that a reader would drop.
fn can_be_embedded(data: &[u8]) -> bool {
    serde_json::from_slice::<&serde_json::value::RawValue>(data).is_ok_and(|raw| raw.get().len() == data.len())
}

fn base64_size(data: &[u8]) -> usize {
    data.len().div_ceil(3) * 4
}

/// What JSON is written to: a buffer, or a count of its bytes, so that the two cannot disagree.
trait Out {
    fn put(&mut self, bytes: &[u8]);
    fn put_base64(&mut self, bytes: &[u8]);
}

impl Out for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_base64(&mut self, bytes: &[u8]) {
        self.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
    }
}

struct Size(usize);

impl Out for Size {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn put_base64(&mut self, bytes: &[u8]) {
        self.0 += base64_size(bytes);
    }
}

fn write_event(out: &mut impl Out, event: &Event, envelope: Envelope<'_>, payload: Payload<'_>) {
    let mut separator: &[u8] = b"{";
    attributes::each(event, envelope, |name, value| {
        out.put(separator);
        separator = b",";
        put_member(out, name, value);
    });
    if let Some(content_type) = event.content_type() {
        out.put(b",");
        put_member(out, "datacontenttype", Wire::Text(content_type));
    }
    match payload {
        Payload::Absent => {}
        Payload::Embedded(data) => {
            out.put(b",\"data\":");
            out.put(data);
        }
        Payload::Base64(data) => {
            out.put(b",\"data_base64\":\"");
            out.put_base64(data);
            out.put(b"\"");
        }
    }
    out.put(b"}");
}

/// Writes `"name":value`; attribute names need no escaping.
fn put_member(out: &mut impl Out, name: &str, value: Wire<'_>) {
    out.put(b"\"");
    out.put(name.as_bytes());
    out.put(b"\":");
    match value {
        Wire::Boolean(true) => out.put(b"true"),
        Wire::Boolean(false) => out.put(b"false"),
        Wire::Integer(number) => out.put(number.to_string().as_bytes()),
        Wire::Text(text) => put_text(out, text),
    }
}

/// Writes a JSON string. Control characters cannot be in an attribute, but a replay id comes unchecked.
fn put_text(out: &mut impl Out, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.put(b"\"");
    let bytes = text.as_bytes();
    let mut start = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.put(&bytes[start..index]);
        start = index + 1;
        match byte {
            b'"' | b'\\' => out.put(&[b'\\', byte]),
            _ => out.put(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    out.put(&bytes[start..]);
    out.put(b"\"");
}

#[cfg(test)]
mod tests;

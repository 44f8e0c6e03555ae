//! Events in HTTP messages: the headers of the binary mode, and reading whichever of the three modes was sent.
//!
//! In binary mode the payload is the body, attributes are `ce-` headers, and the media type is `content-type`. Headers
//! have no types: a number or boolean arrives as text. An event without payload is sent without `content-type`, and an
//! empty payload with it, so that the receiver can tell them apart.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use super::{
    DecodeError, Envelope,
    assembly::Assembly,
    attributes::{self, Wire},
    batch,
    error::shown,
    essence, json,
};
use crate::event::{AttributeValue, Event, JSON};

/// The prefix of the headers that carry attributes.
pub const PREFIX: &str = "ce-";
/// The header that carries the payload's media type.
pub const CONTENT_TYPE: &str = "content-type";

/// What a header's value may not hold as it is.
///
/// Rule: CloudEvents HTTP binding 1.0, 3.1.3.2: space, double quote, percent, and all outside printable ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What a request brought.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "made once for a request and taken apart at once")]
pub enum Received {
    /// One event, in binary or structured mode.
    One(Event),
    /// A batch: each event, or what is wrong with it, in the batch's order.
    Batch(Vec<Result<Event, DecodeError>>),
}

/// The headers of the event in binary mode, names in lower case, values ready for the wire; the body is the payload.
///
/// An event with a payload and no media type is sent as `application/json`, which is what no media type means. A media
/// type is not encoded: see [`fits_binary`].
pub fn headers(event: &Event, envelope: Envelope<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(16);
    each_attribute(event, envelope, |name, value| headers.push((format!("{PREFIX}{name}"), value.into_owned())));
    if event.data.is_some() {
        headers.push((CONTENT_TYPE.to_owned(), media_type(event).to_owned()));
    }
    headers
}

/// Visits every attribute that is a header of its own, by its name without the prefix and its value ready for the wire.
pub(crate) fn each_attribute(event: &Event, envelope: Envelope<'_>, mut visit: impl FnMut(&str, Cow<'_, str>)) {
    attributes::each(event, envelope, |name, value| match value {
        Wire::Boolean(value) => visit(name, Cow::Borrowed(if value { "true" } else { "false" })),
        Wire::Integer(value) => visit(name, Cow::Owned(value.to_string())),
        Wire::Text(text) => visit(name, utf8_percent_encode(text, ENCODED).into()),
    });
}

/// What goes into the header `content-type` of an event with a payload.
pub(crate) fn media_type(event: &Event) -> &str {
    event.content_type().unwrap_or(JSON)
}

/// At least the bytes of all headers as they are sent, each with its name and line break, in any envelope with a
/// replay's id of up to 64 bytes. Cheap: makes none of them.
pub fn encoded_headers_size(event: &Event) -> usize {
    // Version, time, sequence, place, after, gapless and replay's id at their longest, and the names of these and of
    // the other attributes that CloudEvents and Outbox give.
    const FIXED: usize = 768;
    let texts = [&event.id, &event.source, &event.kind].into_iter().chain(&event.schema).chain(&event.subject);
    let key = event.key.as_ref().map_or(0, |key| encoded_size(key.as_str()));
    let extensions = event.extensions.iter().map(|(name, value)| {
        let value = match value {
            AttributeValue::Boolean(_) | AttributeValue::Integer(_) => 11,
            AttributeValue::Text(text) => encoded_size(text),
        };
        PREFIX.len() + name.len() + value + 4
    });
    let media_type = event.data.as_ref().map_or(0, |_| media_type(event).len());
    FIXED + texts.map(|text| encoded_size(text)).sum::<usize>() + key + extensions.sum::<usize>() + media_type
}

fn encoded_size(text: &str) -> usize {
    let stays = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'%';
    text.bytes().map(|byte| if stays(byte) { 1 } else { 3 }).sum()
}

/// Whether binary mode carries the event faithfully. It does not where the payload's media type cannot stand in a
/// header, or is itself one of CloudEvents, which a receiver would take for a structured event: send such an event
/// structured.
pub fn fits_binary(event: &Event) -> bool {
    event.content_type().is_none_or(|content_type| {
        let plain = content_type.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        plain && content_type.trim().len() == content_type.len() && !is_cloudevents(essence(content_type))
    })
}

/// Reads the event or the batch of a request, in binary, structured or batch mode, as its content type says. Header
/// names may be in any case. The payload of a single event shares the memory of `body`.
///
/// ```
/// use outbox::cloudevents::http::{self, Received};
/// let headers: [(&str, &[u8]); 5] = [
///     ("Ce-SpecVersion", b"1.0"),
///     ("Ce-Id", b"1"),
///     ("Ce-Source", b"/orders"),
///     ("Ce-Type", b"order.placed"),
///     ("Content-Type", b"application/json"),
/// ];
/// let Received::One(event) = http::decode(headers, r#"{"units":3}"#.into())? else { unreachable!() };
/// assert_eq!(event.kind(), "order.placed");
/// # Ok::<(), outbox::cloudevents::DecodeError>(())
/// ```
///
/// # Errors
/// [`DecodeError`] names the attribute that is wrong, and the remedy.
pub fn decode<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: Bytes,
) -> Result<Received, DecodeError> {
    let mut content_type = None;
    let mut attributes = Vec::new();
    for (name, value) in headers {
        if name.eq_ignore_ascii_case(CONTENT_TYPE) {
            let value = std::str::from_utf8(value).map_err(|_| DecodeError::Header(CONTENT_TYPE.to_owned()))?;
            if content_type.replace(value.trim()).is_some() {
                return Err(DecodeError::duplicate(CONTENT_TYPE));
            }
        } else if let Some((prefix, attribute)) = name.split_at_checked(PREFIX.len())
            && prefix.eq_ignore_ascii_case(PREFIX)
        {
            attributes.push((attribute, value));
        }
    }
    match content_type.map(essence) {
        Some(mode) if mode.eq_ignore_ascii_case(json::MEDIA_TYPE) => json::decode_shared(&body).map(Received::One),
        Some(mode) if mode.eq_ignore_ascii_case(batch::MEDIA_TYPE) => batch::decode(&body).map(Received::Batch),
        Some(mode) if is_cloudevents(mode) => Err(DecodeError::Format(shown(mode))),
        _ => binary(&attributes, content_type, body).map(Received::One),
    }
}

fn is_cloudevents(media_type: &str) -> bool {
    const START: &str = "application/cloudevents";
    media_type.split_at_checked(START.len()).is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(START) && (rest.is_empty() || rest.starts_with(['+', '-']))
    })
}

fn binary(attributes: &[(&str, &[u8])], content_type: Option<&str>, body: Bytes) -> Result<Event, DecodeError> {
    if !attributes.iter().any(|(name, _)| name.eq_ignore_ascii_case("specversion")) {
        return Err(DecodeError::NotACloudEvent);
    }
    let mut assembly = Assembly::default();
    for (name, value) in attributes {
        let name = name.to_ascii_lowercase();
        let text = header_text(&name, value)?;
        assembly.set(&name, AttributeValue::Text(text.into()))?;
    }
    if let Some(content_type) = content_type {
        assembly.set("datacontenttype", AttributeValue::Text(content_type.into()))?;
    }
    let has_payload = !body.is_empty() || assembly.content_type().is_some();
    assembly.finish(has_payload.then_some(body))
}

/// Undoes the encoding of a header's value.
///
/// Rule: CloudEvents HTTP binding 1.0, 3.1.3.2: first double quotes, which older senders used, then one round of
/// percent-decoding.
fn header_text(name: &str, value: &[u8]) -> Result<String, DecodeError> {
    let unquoted = unquoted(value.trim_ascii());
    let decoded: Cow<'_, [u8]> = percent_decode(&unquoted).into();
    String::from_utf8(decoded.into_owned()).map_err(|_| DecodeError::Header(shown(name)))
}

fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', quoted @ .., b'"'] = value else { return Cow::Borrowed(value) };
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        text.push(if byte == b'\\' { *bytes.next().unwrap_or(&byte) } else { byte });
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests;

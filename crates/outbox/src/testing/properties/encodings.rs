//! Events in every encoding.

use bytes::Bytes;

use super::{hides_payload, message::Message, payload::hides, told};
use crate::{
    cloudevents::{
        DecodeError, Envelope, batch,
        http::{self, Received},
        json,
    },
    event::{
        AttributeValue, Event, JSON, Key, MAX_ATTRIBUTE_BYTES, MAX_KEY_BYTES, check_text, check_uri_reference,
        extension,
    },
    place::Placing,
};

/// What an event takes in memory at most, beyond its share of the bytes that it was read from.
const OVERHEAD: usize = 64 * 1024;

/// That `event` keeps its rules, and comes back the same in every encoding that carries it.
///
/// # Panics
/// If it does not.
pub fn event(event: &Event) {
    rules(event);
    let bytes = json::encode(event, Envelope::default());
    assert_eq!(json::decode(&bytes).as_ref(), Ok(event), "structured");
    let mut line = Vec::new();
    json::encode_line_into(&mut line, event, Envelope::default());
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "a line with a line break");
    assert_eq!(json::decode(&line).as_ref(), Ok(event), "as a line");
    assert!(bytes.len().max(line.len()) < json::encoded_size(event), "larger than its size");
    let both = batch::encode([event, event], Envelope::default());
    assert!(both.len() <= 2 * json::encoded_size(event), "a batch larger than its size");
    assert_eq!(batch::decode(&both), Ok(vec![Ok(event.clone()), Ok(event.clone())]), "in a batch");
    sent(event, &[(http::CONTENT_TYPE.to_owned(), json::MEDIA_TYPE.to_owned())], bytes.into(), event);
    if http::fits_binary(event) {
        binary(event);
    }
}

fn binary(event: &Event) {
    let headers = http::headers(event, Envelope::default());
    for (name, value) in &headers {
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        assert!(name == http::CONTENT_TYPE || value.bytes().all(fits), "the header {name} is `{value}`");
    }
    let size: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    assert!(size <= http::encoded_headers_size(event), "headers larger than their size");
    sent(event, &headers, event.data().cloned().unwrap_or_default(), &untyped(event.clone()));
}

fn sent(event: &Event, headers: &[(String, String)], body: Bytes, expected: &Event) {
    let read = http::decode(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), body);
    assert_eq!(read, Ok(Received::One(expected.clone())), "{event:?} by HTTP");
}

/// What binary mode keeps of an event: values become text, and a payload has a media type.
fn untyped(mut event: Event) -> Event {
    for value in event.extensions.values_mut() {
        *value = AttributeValue::Text(value.text().as_ref().into());
    }
    event.content_type = event.data.as_ref().map(|_| event.content_type.unwrap_or(JSON.into()));
    event
}

/// The rules of CloudEvents and Outbox that hold for every event there is.
fn rules(event: &Event) {
    let text = |name, text: &str, limit| assert_eq!(check_text(name, text, limit), Ok(()));
    text("id", event.id(), MAX_ATTRIBUTE_BYTES);
    text("type", event.kind(), MAX_ATTRIBUTE_BYTES);
    assert_eq!(check_uri_reference("source", event.source()), Ok(()));
    for (name, value) in [("subject", event.subject()), ("datacontenttype", event.content_type())] {
        text(name, value.unwrap_or("none"), MAX_ATTRIBUTE_BYTES);
    }
    assert_eq!(check_uri_reference("dataschema", event.schema().unwrap_or("/none")), Ok(()));
    text("key", event.key().map_or("none", Key::as_str), MAX_KEY_BYTES);
    if let Some(placing) = event.placing() {
        assert!(event.key().is_some(), "a place without a key");
        place(placing);
    }
    for (name, value) in event.extensions() {
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        assert!((1..=64).contains(&name.len()) && plain, "an attribute is called {name:?}");
        assert!(name != extension::KEY, "the key as an attribute");
        match value {
            AttributeValue::Text(value) if !value.is_empty() => text(name, value, MAX_ATTRIBUTE_BYTES),
            AttributeValue::Text(_) | AttributeValue::Boolean(_) | AttributeValue::Integer(_) => {}
        }
    }
}

pub(super) fn place(placing: &Placing) {
    let place = placing.place;
    assert!(place.incarnation > 0 && place.sequence > 0 && place.index < placing.count, "{placing:?}");
}

/// One event as JSON.
///
/// # Panics
/// If a property does not hold.
pub fn structured_json(bytes: &[u8]) {
    match json::decode(bytes) {
        Ok(read) => {
            assert!(read.weight() <= OVERHEAD + 64 * bytes.len(), "{} bytes from {}", read.weight(), bytes.len());
            event(&read);
        }
        Err(error) => refused(bytes, &error),
    }
}

/// Several events as a JSON array.
///
/// # Panics
/// If a property does not hold.
pub fn batch_json(bytes: &[u8]) {
    let events = match batch::decode(bytes) {
        Ok(events) => events,
        Err(error) => return refused(bytes, &error),
    };
    assert!(events.len() <= batch::MAX_EVENTS, "{} events", events.len());
    batched(bytes, &events);
    // Any element alone is what it was in its batch.
    let elements: Vec<&serde_json::value::RawValue> = serde_json::from_slice(bytes).unwrap_or_default();
    assert_eq!(elements.len(), events.len(), "elements without an event");
    for (element, read) in elements.iter().zip(&events).take(32) {
        assert_eq!(json::decode(element.get().as_bytes()), *read);
    }
}

fn batched(bytes: &[u8], events: &[Result<Event, DecodeError>]) {
    let weight: usize = events.iter().flatten().map(Event::weight).sum();
    assert!(weight <= OVERHEAD + 64 * bytes.len(), "{weight} bytes from {}", bytes.len());
    for read in events.iter().take(32) {
        match read {
            Ok(read) => event(read),
            Err(error) => refused(bytes, error),
        }
    }
}

/// A message of the HTTP binding, in whichever mode: a header a line, an empty line, the body.
///
/// # Panics
/// If a property does not hold.
pub fn http_message(bytes: &[u8]) {
    let message = Message::of(bytes);
    let body = Bytes::copy_from_slice(message.body);
    match http::decode(message.headers.iter().copied(), body) {
        Ok(Received::One(read)) => event(&read),
        Ok(Received::Batch(events)) => batched(message.body, &events),
        Err(error) => {
            refused(message.body, &error);
            if let Ok(body) = std::str::from_utf8(message.body) {
                hides(body, &String::from_utf8_lossy(bytes), &error.to_string());
            }
        }
    }
    #[cfg(feature = "inbox")]
    as_kept(&message);
}

/// What an inbox keeps of a message that it cannot decode gives the message back.
#[cfg(feature = "inbox")]
fn as_kept(message: &Message<'_>) {
    use crate::inbox::RawMessage;

    let text = |value: &[u8]| String::from_utf8_lossy(value).replace('\r', " ");
    // No transport has a name with a space or a line break.
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    let headers = message.headers.iter().filter(|(name, _)| is_name(name));
    let raw = RawMessage {
        headers: headers.map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
        body: Bytes::copy_from_slice(message.body),
    };
    let kept = RawMessage::from_bytes(&raw.to_bytes().into());
    assert!(kept == raw, "a message that was kept is another one");
    assert_eq!(kept.name(), raw.name());
    if let Err(error) = kept.decode() {
        told(&error);
    }
    RawMessage::from_bytes(&Bytes::copy_from_slice(message.body));
}

fn refused(bytes: &[u8], error: &DecodeError) {
    let said = error.to_string();
    told(&said);
    if let Ok(text) = std::str::from_utf8(bytes) {
        hides_payload(text, text, &said);
    }
}

//! Making requests.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::{
    Method, Request,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use sha2::{Digest, Sha256};

use super::{Encoding, WebhookSink, sensitive};
use crate::{
    cloudevents::{Envelope, batch, http, json},
    event::{Event, extension},
    signature,
    sink::{Batch, Fault, SinkError},
};

const ID: HeaderName = HeaderName::from_static(signature::ID_HEADER);
const TIMESTAMP: HeaderName = HeaderName::from_static(signature::TIMESTAMP_HEADER);
const SIGNATURE: HeaderName = HeaderName::from_static(signature::SIGNATURE_HEADER);

/// What a `webhook-id` may not hold: characters outside of printable ASCII are no header's, the percent sign escapes,
/// the semicolon ends the id, and the full stop separates what is signed (Standard Webhooks, signature scheme: the id
/// must not include one if users have a say in it, and they have in a key).
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b'.').add(b';');

/// The bytes of an event by this sink's measure: its part of the body, and in binary encoding of the headers.
pub(super) fn size(event: &Event, encoding: Encoding) -> usize {
    match encoding {
        Encoding::Structured => json::encoded_size(event),
        // With the comma behind it.
        Encoding::Batch => json::encoded_size(event) + 1,
        Encoding::Binary if !http::fits_binary(event) => json::encoded_size(event),
        Encoding::Binary => http::encoded_headers_size(event) + event.data().map_or(0, Bytes::len),
    }
}

impl WebhookSink {
    /// The request that publishes `publication`.
    pub(super) fn request(&self, publication: &Batch) -> Result<Request, SinkError> {
        let envelope = publication.envelope();
        let mut headers = self.headers.clone();
        let body: Bytes = match (self.encoding, publication.events.as_slice()) {
            (Encoding::Batch, events) => batch::encode(events.iter().map(|event| &**event), envelope).into(),
            (Encoding::Structured, [event]) => json::encode(event, envelope).into(),
            (Encoding::Binary, [event]) => {
                if let Some(attributes) = attributes(event, envelope) {
                    headers.extend(attributes);
                    event.data().cloned().unwrap_or_default()
                } else {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static(json::MEDIA_TYPE));
                    json::encode(event, envelope).into()
                }
            }
            (Encoding::Structured | Encoding::Binary, events) => return Err(one_at_a_time(events.len())),
        };
        self.sign(&mut headers, &webhook_id(publication), &body);
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        Ok(request)
    }

    fn sign(&self, headers: &mut HeaderMap, id: &str, body: &[u8]) {
        let timestamp = self.now().as_second();
        headers.insert(TIMESTAMP, timestamp.into());
        // An id has been made fit for a header, and a signature is Base64, so neither can fail.
        if let Ok(value) = HeaderValue::from_str(id) {
            headers.insert(ID, value);
        }
        if self.secrets.is_empty() {
            return;
        }
        if let Ok(value) = HeaderValue::try_from(signature::sign_with_all(&self.secrets, id, timestamp, body)) {
            headers.insert(SIGNATURE, sensitive(value));
        }
    }
}

/// Several events for an encoding that takes one: split, whoever asked for it.
fn one_at_a_time(events: usize) -> SinkError {
    let message = format!("{events} events in a call of an encoding that takes one: call once for each");
    SinkError::new(Fault::Event, message)
}

/// The event's attributes as headers; `None` if one cannot be a header.
fn attributes(event: &Event, envelope: Envelope<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    if !http::fits_binary(event) {
        return None;
    }
    let (mut headers, mut fits) = (Vec::with_capacity(16), true);
    http::each_attribute(event, envelope, |name, value| match (header_name(name), HeaderValue::from_str(&value)) {
        (Some(name), Ok(value)) => headers.push((name, value)),
        _ => fits = false,
    });
    if event.data().is_some() {
        headers.push((CONTENT_TYPE, HeaderValue::from_str(http::media_type(event)).ok()?));
    }
    fits.then_some(headers)
}

/// The header of an attribute. Those that nearly every event has are made once, by the compiler.
fn header_name(attribute: &str) -> Option<HeaderName> {
    const fn ce(name: &'static str) -> HeaderName {
        HeaderName::from_static(name)
    }
    Some(match attribute {
        "specversion" => ce("ce-specversion"),
        "id" => ce("ce-id"),
        "source" => ce("ce-source"),
        "type" => ce("ce-type"),
        "time" => ce("ce-time"),
        extension::KEY => ce("ce-partitionkey"),
        extension::SEQUENCE => ce("ce-sequence"),
        extension::PLACE => ce("ce-place"),
        extension::AFTER => ce("ce-after"),
        extension::GAPLESS => ce("ce-gapless"),
        other => HeaderName::try_from(format!("{}{other}", http::PREFIX)).ok()?,
    })
}

/// What names the request, the same for every attempt; another for a replay, or receivers would take it for a
/// repetition.
fn webhook_id(batch: &Batch) -> String {
    let id = match batch.events.as_slice() {
        [event] => utf8_percent_encode(event.id(), ESCAPED).into(),
        events => Cow::Owned(batch_id(events.iter().map(|event| &**event))),
    };
    match batch.replay.as_deref() {
        None => id.into_owned(),
        Some(replay) => format!("{id};replay={}", utf8_percent_encode(replay, ESCAPED)),
    }
}

/// A digest of first and last event: ids may be long, and do not tell where one ends and the next begins.
fn batch_id<'a>(events: impl ExactSizeIterator<Item = &'a Event> + DoubleEndedIterator + Clone) -> String {
    let mut digest = Sha256::new();
    digest.update((events.len() as u64).to_be_bytes());
    for event in [events.clone().next(), events.last()].into_iter().flatten() {
        for text in [event.source(), event.id()] {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        }
    }
    let digest = digest.finalize();
    format!("batch_{}", BASE64_URL_SAFE_NO_PAD.encode(&digest[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventRef, testing_event};

    fn of(ids: &[u64], replay: Option<&str>) -> Batch {
        let events = ids.iter().map(|n| EventRef::single(testing_event("t", Some("käse;1"), *n))).collect();
        Batch { events, gapless: false, replay: replay.map(Into::into) }
    }

    #[test]
    fn a_single_events_webhook_id_is_its_id_fit_for_header_and_signature() {
        assert_eq!(webhook_id(&of(&[1], None)), "k%C3%A4se%3B1@1%2E1%2E0");
    }

    #[test]
    fn a_replay_has_another_webhook_id() {
        assert_eq!(webhook_id(&of(&[1], Some("r.1"))), "k%C3%A4se%3B1@1%2E1%2E0;replay=r%2E1");
        assert_ne!(webhook_id(&of(&[1, 2], Some("r.1"))), webhook_id(&of(&[1, 2], None)));
    }

    #[test]
    fn a_batchs_webhook_id_is_the_same_every_time_and_another_for_other_events() {
        let id = |ids: &[u64]| webhook_id(&of(ids, None));
        assert_eq!(id(&[1, 2]), id(&[1, 2]));
        assert_ne!(id(&[1, 2]), id(&[1, 3]));
        assert_ne!(id(&[1, 2]), id(&[1, 2, 2]));
        assert!(!id(&[1, 2]).contains('.'));
    }
}

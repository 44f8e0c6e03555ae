use proptest::prelude::*;

use super::{
    super::arbitrary::{self, text},
    *,
};
use crate::testing_event;

type Headers = Vec<(String, String)>;

fn read(headers: &Headers, body: Bytes) -> Result<Received, DecodeError> {
    decode(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), body)
}

fn one(headers: &Headers, body: Bytes) -> Result<Event, DecodeError> {
    read(headers, body).map(|received| match received {
        Received::One(event) => event,
        Received::Batch(_) => panic!("a batch"),
    })
}

/// The event's binary message with one header replaced or added.
fn with(name: &str, value: &str) -> Result<Event, DecodeError> {
    let mut message = headers(&testing_event("t", None, 1), Envelope::default());
    message.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
    message.push((name.to_owned(), value.to_owned()));
    one(&message, "1".into())
}

proptest! {
    #[test]
    fn the_headers_size_is_never_less_than_what_is_sent(
        event in arbitrary::event(),
        gapless: bool,
        replay in prop::option::of("[ -~]{0,64}"),
    ) {
        let sent = headers(&event, Envelope { gapless, replay: replay.as_deref() });
        let sent: usize = sent.iter().map(|(name, value)| name.len() + ": ".len() + value.len() + "\r\n".len()).sum();
        prop_assert!(sent <= encoded_headers_size(&event), "{sent}");
    }

    #[test]
    fn a_batch_is_read_back_as_it_was(events in prop::collection::vec(arbitrary::event(), 0..4)) {
        let message = vec![("content-type".to_owned(), batch::MEDIA_TYPE.to_owned())];
        let body = batch::encode(&events, Envelope::default());
        let expected = Received::Batch(events.into_iter().map(Ok).collect());
        prop_assert_eq!(read(&message, body.into()), Ok(expected));
    }

    #[test]
    fn header_values_are_printable_ascii(event in arbitrary::event(), replay in text()) {
        for (name, value) in headers(&event, Envelope { gapless: true, replay: Some(&replay) }) {
            prop_assert!(name == CONTENT_TYPE || name.starts_with(PREFIX));
            let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
            prop_assert!(name == CONTENT_TYPE || value.bytes().all(allowed), "{}: {}", name, value);
        }
    }
}

#[test]
fn values_are_percent_encoded_as_the_binding_says() {
    let subject = "Euro \u{20AC} \u{1F600} \"50%\" ~!/";
    let event = Event { subject: Some(subject.into()), ..testing_event("t", None, 1) };
    let message = headers(&event, Envelope::default());
    let sent = &message.iter().find(|(name, _)| name == "ce-subject").unwrap().1;
    assert_eq!(sent, "Euro%20%E2%82%AC%20%F0%9F%98%80%20%2250%25%22%20~!/");
}

#[test]
fn values_of_older_and_sloppy_senders_are_read() {
    for (value, expected) in [
        ("%e2%82%ac", "\u{20AC}"),
        ("%41", "A"),
        (r#""quoted \"text\"""#, r#"quoted "text""#),
        ("100%", "100%"),
        ("raw \u{20AC}", "raw \u{20AC}"),
        ("  spaces around ", "spaces around"),
    ] {
        assert_eq!(with("ce-subject", value).unwrap().subject(), Some(expected), "{value}");
    }
}

#[test]
fn names_are_read_in_any_case() {
    assert_eq!(with("CE-Subject", "s").unwrap().subject(), Some("s"));
    assert_eq!(with("Content-TYPE", "application/json").unwrap().content_type(), Some("application/json"));
}

#[test]
fn each_bad_header_is_named() {
    for (name, value, said) in [
        ("ce-subject", "%C0%A0", "`subject`"),
        ("ce-subject", "%0A", "U+000A"),
        ("ce-time", "yesterday", "`time`"),
        ("ce-id", "", "`id`"),
        ("ce-a-b", "x", "`a-b`"),
        ("ce-data", "x", "`data`"),
        ("ce-specversion", "0.3", "`0.3`"),
        ("CE-ID", "twice", "`id` is there twice"),
        ("Content-Type", "application/cloudevents+avro", "application/cloudevents+json"),
    ] {
        let mut message = headers(&testing_event("t", None, 1), Envelope::default());
        message.retain(|(present, _)| present != name && !present.starts_with("content"));
        message.push((name.to_owned(), value.to_owned()));
        let error = one(&message, "1".into()).unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
    }
}

#[test]
fn two_content_types_are_refused() {
    let message = vec![(CONTENT_TYPE.to_owned(), JSON.to_owned()), ("Content-Type".to_owned(), JSON.to_owned())];
    assert_eq!(read(&message, Bytes::new()), Err(DecodeError::duplicate(CONTENT_TYPE)));
}

#[test]
fn a_request_that_is_no_event_says_what_to_send() {
    let message = vec![(CONTENT_TYPE.to_owned(), JSON.to_owned())];
    assert_eq!(read(&message, "{}".into()), Err(DecodeError::NotACloudEvent));
}

#[test]
fn an_absent_payload_has_no_content_type_and_an_empty_one_has() {
    let absent = Event { data: None, content_type: Some("a/b".into()), ..testing_event("t", None, 1) };
    let message = headers(&absent, Envelope::default());
    assert!(message.iter().all(|(name, _)| name != CONTENT_TYPE));
    assert_eq!(one(&message, Bytes::new()).unwrap().data(), None);
    let empty = Event { data: Some(Bytes::new()), ..absent };
    assert_eq!(one(&headers(&empty, Envelope::default()), Bytes::new()).unwrap().data(), Some(&Bytes::new()));
}

#[test]
fn a_payload_that_is_an_encoded_event_or_has_an_unsendable_type_does_not_fit_binary_mode() {
    let of = |content_type: &str| Event { content_type: Some(content_type.into()), ..testing_event("t", None, 1) };
    for unfit in ["application/CloudEvents+json; a=b", "application/cloudevents-batch+json", "text/ü", " a/b"] {
        assert!(!fits_binary(&of(unfit)), "{unfit}");
    }
    for fit in ["application/cloudeventual", "text/plain; charset=\"utf-8\""] {
        assert!(fits_binary(&of(fit)), "{fit}");
    }
}

#[test]
fn the_payload_of_a_binary_event_is_the_body_itself() {
    let body = Bytes::from(vec![b'1'; 100]);
    let event = one(&headers(&testing_event("t", None, 1), Envelope::default()), body.clone()).unwrap();
    assert_eq!(event.data().unwrap().as_ptr(), body.as_ptr());
}

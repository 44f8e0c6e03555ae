//! Content: what was written is what is read.

use super::{events_of, write};
use crate::{
    event::NewEvent,
    testing::{WriterUnderTest, sample::at},
};

/// Every attribute and extension that the caller gave is there when the event is read, and nothing else.
pub async fn a_committed_event_is_read_as_it_was_written(writer: &impl WriterUnderTest) {
    const RULE: &str = "a committed event is read as it was written";
    let full = NewEvent::builder("order.placed")
        .key("order/7 ü")
        .id("chosen-id")
        .subject("a subject")
        .time(at(5))
        .bytes("text/plain", "plain text")
        .schema("https://example.org/schema")
        .extension("text", "words")
        .extension("number", 7)
        .extension("flag", true)
        .correlation_id("together")
        .build()
        .expect("the sample is valid");
    write(writer, [full.clone()]).await;
    let events = events_of(writer).await;
    assert_eq!(events.len(), 1, "{RULE}: one event was written");
    let event = &events[0];
    assert_eq!(event.id(), "chosen-id", "{RULE}: its id");
    assert_eq!(event.kind(), "order.placed", "{RULE}: its type");
    assert_eq!(event.key(), full.key(), "{RULE}: its key");
    assert_eq!(event.subject(), full.subject(), "{RULE}: its subject");
    assert_eq!(event.time(), full.time(), "{RULE}: its time");
    assert_eq!(event.content_type(), full.content_type(), "{RULE}: its content type");
    assert_eq!(event.schema(), full.schema(), "{RULE}: its schema");
    assert_eq!(event.data(), full.data(), "{RULE}: its payload");
    let (read, written): (Vec<_>, Vec<_>) = (event.extensions().collect(), full.extensions().collect());
    assert_eq!(read, written, "{RULE}: its extensions");
}

/// Any bytes come back as they were, whatever their media type says; no payload is not an empty one.
pub async fn payloads_are_kept_byte_for_byte(writer: &impl WriterUnderTest) {
    const RULE: &str = "payloads are kept byte for byte";
    let payload = |content_type: &str, bytes: &'static [u8]| {
        NewEvent::builder("t").key("k").bytes(content_type, bytes).build().expect("the sample is valid")
    };
    let events = vec![
        payload("application/json", b" {\"b\": 1.50, \"a\":\"\xc3\xbc\" } "),
        payload("application/json", b"not json"),
        payload("application/json", b""),
        payload("text/plain", b""),
        payload("text/plain", b"\xff\xfe\x00\x01"),
        payload("application/octet-stream", b"{\"a\":1}"),
        payload("text/plain", b"line\r\nline\0"),
        NewEvent::builder("t").key("k").json(&serde_json::json!({ "n": 1e300 })).build().expect("the sample is valid"),
        NewEvent::builder("t").key("k").build().expect("the sample is valid"),
    ];
    for event in &events {
        write(writer, [event.clone()]).await;
    }
    write(writer, events.clone()).await;
    let read = events_of(writer).await;
    assert_eq!(read.len(), 2 * events.len(), "{RULE}: one event each");
    for (index, event) in read.iter().enumerate() {
        let written = &events[index % events.len()];
        assert_eq!(event.data(), written.data(), "{RULE}: payload {index}");
        assert_eq!(event.content_type(), written.content_type(), "{RULE}: media type {index}");
    }
}

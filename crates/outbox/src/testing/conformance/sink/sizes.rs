//! Sizes: what a sink says of an event, and the largest one.

use bytes::Bytes;

use super::{
    accept, batch,
    whole::{difference, published},
};
use crate::{
    event::{Event, NewEvent},
    sink::Sink,
    testing::{
        SinkUnderTest,
        sample::{event, event_of, event_without_key},
    },
};

/// A payload as large as this suite makes one, whatever the sink would take.
pub(super) const LARGE: usize = 4 << 20;

/// What a payload is.
#[derive(Clone, Copy)]
pub(super) enum Payload {
    Binary,
    Json,
    Text,
}

impl Payload {
    pub(super) const ALL: [Self; 3] = [Self::Binary, Self::Json, Self::Text];

    fn content_type(self) -> &'static str {
        match self {
            Self::Binary => "application/octet-stream",
            Self::Json => "application/json",
            Self::Text => "text/plain",
        }
    }

    /// About so many bytes of it, rising with `bytes`.
    fn made(self, bytes: usize) -> Vec<u8> {
        let repeated = |part: &[u8]| {
            let mut payload = part.repeat(bytes / part.len() + 1);
            payload.truncate(bytes);
            payload
        };
        match self {
            Self::Binary => repeated(&(0..=250).collect::<Vec<u8>>()),
            Self::Json => [b"\"".to_vec(), repeated(b"text"), b"\"".to_vec()].concat(),
            Self::Text => repeated(b"\"quoted\" \\ <&>\r\n"),
        }
    }
}

pub(super) fn sized(name: &str, sequence: u64, bytes: usize) -> Event {
    let payload = Payload::Binary;
    let builder = NewEvent::builder("t").key(name).bytes(payload.content_type(), payload.made(bytes));
    event_of(builder.build().expect("the sample is valid"), sequence)
}

/// An event whose attributes take more bytes when they are quoted, escaped or encoded.
pub(super) fn escaped(name: &str, payload: Payload, bytes: usize) -> Event {
    let builder = NewEvent::builder("t \"quoted\"").key(format!("{name} \"\\\" %2F \u{fc} \u{1f600}"));
    let builder = builder.subject("<\u{fc}>".repeat(8)).bytes(payload.content_type(), payload.made(bytes));
    event_of(builder.build().expect("the sample is valid"), 1)
}

/// The event of `sized` with the largest payload whose size is `most` at the most; `None` if there is none.
pub(super) fn largest(sink: &dyn Sink, most: usize, sized: impl Fn(usize) -> Event) -> Option<Event> {
    const PROBE: usize = 3_000;
    let size = |bytes: usize| sink.size(&sized(bytes));
    let empty = size(0);
    let room = most.checked_sub(empty)?.min(LARGE);
    // Most encodings make a payload longer by the same factor throughout: so it is looked for there first.
    let guess = room.saturating_mul(PROBE) / size(PROBE).saturating_sub(empty).max(1);
    let mut probes = vec![guess.saturating_sub(8), guess.saturating_add(8)];
    let (mut fitting, mut beyond) = (0, room + 1);
    while fitting + 1 < beyond {
        let middle = probes.pop().unwrap_or(fitting + (beyond - fitting) / 2);
        if middle <= fitting || middle >= beyond {
            continue;
        }
        if size(middle) <= most {
            fitting = middle;
        } else {
            beyond = middle;
        }
    }
    Some(sized(fitting))
}

/// An event has one size, asked once or often, before and after it was published.
pub async fn a_size_is_pure(subject: &impl SinkUnderTest) {
    const RULE: &str = "a size is pure";
    let sink = subject.sink();
    let events = [event("a", 1), event_without_key("no-key"), sized("b", 1, 300)];
    let sizes: Vec<_> = events.iter().map(|event| sink.size(event)).collect();
    for _ in 0..2 {
        for (event, size) in events.iter().zip(&sizes) {
            assert_eq!(sink.size(&event.clone()), *size, "{RULE}: of `{}`", event.id());
        }
        accept(&*sink, [event("a", 1)]).await;
    }
}

/// A size is that of the payload at the least, whatever the payload is.
pub async fn a_size_is_at_least_its_payload(subject: &impl SinkUnderTest) {
    const RULE: &str = "a size is at least its payload";
    let sink = subject.sink();
    for (payload, bytes) in Payload::ALL.into_iter().flat_map(|payload| [0, 1, 300, 70_000].map(|n| (payload, n))) {
        let event = escaped("key", payload, bytes);
        let (sent, said) = (event.data().map_or(0, Bytes::len), sink.size(&event));
        assert!(said >= sent, "{RULE}: {said} is said of an event with {sent} bytes of {}", payload.content_type());
    }
}

/// An event as large as the sink says that it takes, or as 4 MiB, arrives whole.
pub async fn the_largest_event_is_taken(subject: &impl SinkUnderTest) {
    const RULE: &str = "the largest event is taken";
    let sink = subject.sink();
    let limits = sink.limits();
    let largest = largest(&*sink, limits.max_event_bytes, |bytes| sized("a", 1, bytes));
    let largest = largest.unwrap_or_else(|| panic!("{RULE}: no event at all fits: {limits:?}"));
    accept(&*sink, [largest.clone()]).await;
    let whole = published(&largest, &batch([largest.clone()]));
    let arrived = subject.delivered().await;
    let found: Vec<_> = arrived.iter().map(|arrived| difference(&whole, arrived)).collect();
    assert!(found.contains(&None), "{RULE}: it was accepted, and {found:?}");
}

//! Sizes: what a sink says of an event, and the largest one.

use bytes::Bytes;

use super::accept;
use crate::{
    event::{Event, NewEvent},
    testing::{
        Delivery, SinkUnderTest,
        sample::{event, event_of, event_without_key},
    },
};

/// As large as this suite makes an event, whatever the sink would take.
const LARGE: usize = 4 << 20;

pub(super) fn sized(name: &str, sequence: u64, bytes: usize) -> Event {
    let payload: Vec<u8> = (0_u8..=250).cycle().take(bytes).collect();
    let builder = NewEvent::builder("t").key(name).bytes("application/octet-stream", payload);
    event_of(builder.build().expect("the sample is valid"), sequence)
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

/// An event as large as the sink says that it takes, or as 4 MiB, arrives whole.
pub async fn the_largest_event_is_taken(subject: &impl SinkUnderTest) {
    const RULE: &str = "the largest event is taken";
    let sink = subject.sink();
    let limits = sink.limits();
    let fits = |bytes: usize| sink.size(&sized("a", 1, bytes)) <= limits.max_event_bytes;
    assert!(fits(0), "{RULE}: no event at all fits: {limits:?}");
    let (mut fitting, mut beyond) = (0, limits.max_event_bytes.min(LARGE) + 1);
    while fitting + 1 < beyond {
        let middle = fitting + (beyond - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            beyond = middle;
        }
    }
    let largest = sized("a", 1, fitting);
    accept(&*sink, [largest.clone()]).await;
    let arrived = subject.delivered().await;
    let whole = Delivery { id: largest.id().to_owned(), data: largest.data().cloned() };
    let bytes: Vec<_> = arrived.iter().map(|one| one.data.as_ref().map_or(0, Bytes::len)).collect();
    assert!(arrived.contains(&whole), "{RULE}: {fitting} payload bytes were accepted, and {bytes:?} arrived");
}

//! All of an event: its attributes, and what its route adds.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{accept, batch, publish};
use crate::{
    event::{Event, Identity, NewEvent, NewEventBuilder, extension},
    place::{Place, Placing},
    sink::{Batch, Outcome},
    testing::{
        Delivery, SinkUnderTest,
        conformance::passed_over,
        sample::{at, event},
    },
};

/// Attributes by which a consumer decides: one that nobody published is as wrong as one that is lost.
const DECIDING: [&str; 6] = [
    extension::KEY,
    extension::PLACE,
    extension::AFTER,
    extension::GAPLESS,
    extension::REPLAY_ID,
    extension::CAUSATION_ID,
];

/// An event as `batch` publishes it.
pub(super) fn published(event: &Event, batch: &Batch) -> Delivery {
    Delivery::surrounded(event, batch.envelope())
}

/// What arrived otherwise than it was published, as far as can be told; `None` if nothing did.
pub(super) fn difference(published: &Delivery, arrived: &Delivery) -> Option<String> {
    if published.id != arrived.id {
        return Some(format!("`{}` arrived in the place of `{}`", arrived.id, published.id));
    }
    // Some transports cannot tell an empty payload from none.
    let payload = |delivery: &Delivery| delivery.data.clone().filter(|data| !data.is_empty());
    if payload(published) != payload(arrived) {
        let bytes = |delivery: &Delivery| delivery.data.as_ref().map_or(0, Bytes::len);
        let (of, bytes) = (bytes(published), bytes(arrived));
        return Some(format!("another payload of `{}` arrived: {bytes} bytes, of {of}", published.id));
    }
    let (said, heard) = (attributes(published.event.as_ref()?), attributes(arrived.event.as_ref()?));
    let mut names = said.keys().map(String::as_str).chain(DECIDING);
    let name = names.find(|name| said.get(*name) != heard.get(*name))?;
    let (said, heard) = (said.get(name), heard.get(name));
    Some(format!("attribute `{name}` of `{}` was published as {said:?} and arrived as {heard:?}", published.id))
}

/// Every attribute that `event` has, as text.
fn attributes(event: &Event) -> BTreeMap<String, String> {
    let (placing, time) = (event.placing(), event.time().map(|time| time.to_string()));
    let (place, after) = (placing.map(Placing::wire), placing.map(|placing| placing.after.to_string()));
    let named = [
        ("source", Some(event.source())),
        ("type", Some(event.kind())),
        ("subject", event.subject()),
        ("time", time.as_deref()),
        ("datacontenttype", event.content_type()),
        ("dataschema", event.schema()),
        (extension::KEY, event.key().map(crate::Key::as_str)),
        (extension::PLACE, place.as_deref()),
        (extension::AFTER, after.as_deref()),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let extensions = event.extensions().map(|(name, value)| (name.to_owned(), value.text().into_owned()));
    let mut all: BTreeMap<_, _> = named.chain(extensions).collect();
    // What is not promised may be said so, or not said.
    all.retain(|name, value| name != extension::GAPLESS || value == "true");
    all
}

/// Looks at what arrived, by ids, against what was published; says if there is less of it than a whole event.
async fn look(rule: &str, subject: &impl SinkUnderTest, mut published: Vec<Delivery>) {
    let mut arrived = subject.delivered().await;
    published.sort_by(|left, right| left.id.cmp(&right.id));
    arrived.sort_by(|left, right| left.id.cmp(&right.id));
    assert_eq!(arrived.len(), published.len(), "{rule}: as many arrive as were accepted");
    if arrived.iter().any(|one| one.event.is_none()) {
        passed_over("nothing but id and payload is seen of what arrives: give the whole event, `Delivery::event`");
    }
    for (published, arrived) in published.iter().zip(&arrived) {
        if let Some(difference) = difference(published, arrived) {
            panic!("{rule}: {difference}");
        }
    }
}

/// The event that `builder` makes, at `placing`.
fn made(builder: NewEventBuilder, placing: Option<Placing>) -> Event {
    let new = builder.build().expect("the sample is valid");
    let identity =
        Identity { source: &"/samples/1?a=b".into(), placing, recorded: Some(at(1)), fallback_id: "fallback" };
    Event::from_new(new, identity).expect("the sample is valid")
}

/// An event with all that an event can have, in the midst of its key.
fn full() -> Event {
    let time = "2026-11-22T13:14:15.123456789Z".parse().expect("the sample is valid");
    let builder =
        NewEvent::builder("sample.\"full\" \u{fc}").id("full/1").key("sample/\u{1f600} %2F").subject("a, b; c");
    let builder = builder.time(time).schema("/schemas/1#full").bytes("application/json; charset=utf-8", "{\"n\":1}");
    let builder = builder.extension("number", -7).extension("yes", true).extension("no", false);
    let builder = builder.extension("some", "text, \"quoted\"").correlation_id("request 1");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let builder = builder.trace_parent(trace).caused_by(&event("cause", 3));
    made(builder, Some(Placing { place: Place::new(3, 41, 2), count: 4, after: Place::new(3, 41, 1) }))
}

/// Every attribute of an event arrives as it was written, and none that a consumer decides by is made up: its type, its
/// producer, its key and place, what it follows, what caused it, and what its service added.
pub async fn every_attribute_arrives(subject: &impl SinkUnderTest) {
    let sink = subject.sink();
    let first = Placing { place: Place::new(1, 1, 0), count: 1, after: Place::ORIGIN };
    let events = [
        full(),
        made(NewEvent::builder("t").id("first").key("k").json(&1), Some(first)),
        made(NewEvent::builder("t").id("unnumbered").key("k2"), None),
        made(NewEvent::builder("t").id("keyless").caused_by(&made(NewEvent::builder("t").id("why"), None)), None),
    ];
    let published = events.iter().map(|event| published(event, &batch([event.clone()])));
    let published = published.collect();
    for event in events {
        accept(&*sink, [event]).await;
    }
    look("every attribute arrives", subject, published).await;
}

/// Whether the route brings every event of a key, and which replay it is, arrives with each event. Without `gapless` a
/// consumer in order stops every key; with one that nobody promised it takes a filtered key for whole.
pub async fn what_a_route_adds_arrives(subject: &impl SinkUnderTest) {
    const RULE: &str = "what a route adds arrives";
    let sink = subject.sink();
    let mut all = Vec::new();
    for (number, gapless) in [(1, true), (2, false), (3, true), (4, false)] {
        let replay = (number > 2).then(|| format!("replay-{number}").into());
        let event = event(&format!("key/{number}"), 1);
        let batch = Batch { gapless, replay, ..batch([event.clone()]) };
        assert_eq!(publish(&*sink, &batch).await, [Outcome::Accepted], "{RULE}");
        all.push(published(&event, &batch));
    }
    look(RULE, subject, all).await;
}

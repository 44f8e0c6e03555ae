//! What every sink promises.
//!
//! Implement [`SinkUnderTest`]: it gives the sink, and tells what the other side has. What it can do besides (refuse an
//! event by name, go away, cut connections, lose an answer) opens more checks; a sink's own test should offer all that its
//! target can do. The checks of events' sizes are in [`sizes`], those of all that an event is in [`whole`], those of
//! calls as full and as many as the limits allow in [`full`], those of whose fault it is in [`blame`], those of calls that do not end well in [`interrupted`].
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use outbox::{Fault, Sink, memory::MemorySink, testing::{Delivery, SinkUnderTest, conformance}};
//!
//! struct Target(Arc<MemorySink>);
//!
//! #[async_trait]
//! impl SinkUnderTest for Target {
//!     fn sink(&self) -> Arc<dyn Sink> {
//!         self.0.clone()
//!     }
//!
//!     async fn delivered(&self) -> Vec<Delivery> {
//!         self.0.accepted().into_iter().map(Delivery::from).collect()
//!     }
//!
//!     async fn take_away(&self) -> bool {
//!         self.0.break_down(Fault::Sink, "nobody listens: start the target");
//!         true
//!     }
//! }
//!
//! # stringify!(
//! #[tokio::test(flavor = "multi_thread")]
//! # );
//! async fn my_sink_conforms() {
//!     conformance::sink::all(async || Target(Arc::new(MemorySink::default()))).await;
//! }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(my_sink_conforms());
//! ```

use crate::{
    entry::EventRef,
    event::{Event, NewEvent},
    sink::{Batch, Outcome, Sink},
    testing::{
        SinkUnderTest,
        conformance::passed_over,
        sample::{event, event_of, event_without_key},
    },
};

pub mod blame;
pub mod full;
pub mod interrupted;
pub mod sizes;
pub mod whole;

pub use blame::{
    a_refused_event_is_named_and_the_rest_accepted, an_absent_target_is_the_sinks_fault,
    nothing_of_a_key_is_accepted_behind_what_was_refused,
};
pub use full::{a_full_call_is_taken, calls_may_be_made_at_the_same_time};

use blame::a_target_that_takes_nothing_blames_no_event;
use full::a_call_filled_to_its_bytes_is_taken;
use interrupted::{
    a_call_that_waits_holds_up_no_other, a_cut_connection_is_made_again, a_dropped_call_leaves_the_sink_working,
    a_lost_answer_is_uncertain, calls_that_are_dropped_free_their_place, what_was_accepted_is_there_after_a_restart,
};
use sizes::{a_size_is_at_least_its_payload, a_size_is_pure, the_largest_event_is_taken};
use whole::{difference, every_attribute_arrives, published, what_a_route_adds_arrives};

/// Runs every check, each on a fresh sink.
pub async fn all<S: SinkUnderTest>(fresh: impl AsyncFn() -> S) {
    checks! {
        "`Sink::limits`: what one call takes; does not change while the sink lives." => {
            its_limits_allow_a_call(&fresh().await);
            a_full_call_is_taken(&fresh().await);
            a_call_filled_to_its_bytes_is_taken(&fresh().await);
        }
        "`Sink::size`: the event's bytes by the sink's own measure, envelope included; never less than what is sent; pure and cheap." => {
            a_size_is_pure(&fresh().await);
            a_size_is_at_least_its_payload(&fresh().await);
            the_largest_event_is_taken(&fresh().await);
        }
        "`Sink::check`: whether the target is there; publishes nothing." => {
            a_check_publishes_nothing(&fresh().await);
        }
        "`Sink::publish` answers for each event, in the batch's order: exactly one outcome an event." => {
            there_is_one_outcome_for_each_event(&fresh().await);
            a_refused_event_is_named_and_the_rest_accepted(&fresh().await);
        }
        "Durability: `Outcome::Accepted` only once the other side has taken responsibility." => {
            what_is_accepted_has_arrived(&fresh().await);
            payloads_arrive_byte_for_byte(&fresh().await);
            what_was_accepted_is_there_after_a_restart(&fresh().await);
        }
        "`Batch`: whole events arrive, and with them `gapless` and the replay, as attributes on the wire." => {
            every_attribute_arrives(&fresh().await);
            what_a_route_adds_arrives(&fresh().await);
        }
        "Order: events of one key take effect in the batch's order if `ordered_calls` says so; behind one that is not accepted no later one of its key is." => {
            events_of_a_call_arrive_in_order(&fresh().await);
            nothing_of_a_key_is_accepted_behind_what_was_refused(&fresh().await);
        }
        "Duplicates: an event may come again, with the same id; a replay publishes it again." => {
            an_event_may_come_again(&fresh().await);
            a_replay_is_taken(&fresh().await);
        }
        "`SinkLimits::max_calls`: calls at the same time." => {
            calls_may_be_made_at_the_same_time(&fresh().await);
            a_call_that_waits_holds_up_no_other(&fresh().await);
            calls_that_are_dropped_free_their_place(&fresh().await);
        }
        "Cancellation: a dropped call may have taken effect, and takes nothing else with it." => {
            a_dropped_call_leaves_the_sink_working(&fresh().await);
        }
        "`Fault`: the sink's own failure blames no event, and passes." => {
            an_absent_target_is_the_sinks_fault(&fresh().await);
            a_target_that_takes_nothing_blames_no_event(&fresh().await);
            a_cut_connection_is_made_again(&fresh().await);
        }
        "`SinkError::uncertain`: whether the events may have been accepted nevertheless, as when the answer was lost." => {
            a_lost_answer_is_uncertain(&fresh().await);
        }
    }
}

fn batch(events: impl IntoIterator<Item = Event>) -> Batch {
    Batch { events: events.into_iter().map(EventRef::single).collect(), gapless: true, replay: None }
}

/// One event of each of `count` keys: what every sink takes in one call, as far as its limits go.
fn of_different_keys(sink: &dyn Sink, count: usize) -> Vec<Event> {
    let limits = sink.limits();
    let mut bytes = 0;
    let fits = |event: &Event| {
        bytes += sink.size(event);
        bytes <= limits.max_bytes
    };
    (0..count.min(limits.max_events)).map(|number| event(&format!("key/{number}"), 1)).take_while(fits).collect()
}

async fn publish(sink: &dyn Sink, batch: &Batch) -> Vec<Outcome> {
    sink.publish(batch).await.expect("a target that works takes a call")
}

async fn accept(sink: &dyn Sink, events: impl IntoIterator<Item = Event>) {
    let batch = batch(events);
    let outcomes = publish(sink, &batch).await;
    assert_eq!(outcomes, vec![Outcome::Accepted; batch.events.len()], "a target that works accepts everything");
}

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id().to_owned()).collect()
}

async fn delivered_ids(subject: &impl SinkUnderTest) -> Vec<String> {
    subject.delivered().await.into_iter().map(|delivery| delivery.id).collect()
}

/// At least one event of the size it names fits into at least one call, and limits do not change.
pub async fn its_limits_allow_a_call(subject: &impl SinkUnderTest) {
    const RULE: &str = "a sink's limits allow a call";
    let sink = subject.sink();
    let limits = sink.limits();
    assert!(limits.max_events >= 1 && limits.max_calls >= 1, "{RULE}: {limits:?}");
    assert!(limits.max_event_bytes >= 1 && limits.max_event_bytes <= limits.max_bytes, "{RULE}: {limits:?}");
    accept(&*sink, [event("a", 1)]).await;
    assert_eq!(sink.limits(), limits, "{RULE}: and stay");
}

/// A target that works passes the check, and has nothing afterwards.
pub async fn a_check_publishes_nothing(subject: &impl SinkUnderTest) {
    subject.sink().check().await.expect("a target that works passes the check");
    assert_eq!(subject.delivered().await, [], "a check publishes nothing");
}

/// As many outcomes as events, for calls of any length.
pub async fn there_is_one_outcome_for_each_event(subject: &impl SinkUnderTest) {
    let sink = subject.sink();
    for count in [1, 2, 7] {
        let batch = batch(of_different_keys(&*sink, count));
        let outcomes = publish(&*sink, &batch).await;
        assert_eq!(outcomes.len(), batch.events.len(), "there is one outcome for each event");
    }
}

/// The other side has every event that was accepted, under its id, as soon as the call is answered.
pub async fn what_is_accepted_has_arrived(subject: &impl SinkUnderTest) {
    let sink = subject.sink();
    let mut events = of_different_keys(&*sink, 4);
    accept(&*sink, events.clone()).await;
    accept(&*sink, [event_without_key("no-key")]).await;
    events.push(event_without_key("no-key"));
    let (mut arrived, mut published) = (delivered_ids(subject).await, ids(&events));
    arrived.sort();
    published.sort();
    assert_eq!(arrived, published, "what is accepted has arrived, and nothing else");
}

/// A payload arrives as it was written, whatever it is.
pub async fn payloads_arrive_byte_for_byte(subject: &impl SinkUnderTest) {
    const RULE: &str = "payloads arrive byte for byte";
    let payloads: [(&str, &'static [u8]); 5] = [
        ("application/json", b"{\"b\": 1.50, \"a\":\"\xc3\xbc\"}"),
        ("text/plain", b"plain, \"quoted\" text\r\n"),
        ("application/octet-stream", b"\x00\xff\xfe"),
        ("application/json", b"not json"),
        ("text/plain", b""),
    ];
    let sink = subject.sink();
    let mut all = Vec::new();
    for (number, (content_type, bytes)) in payloads.into_iter().enumerate() {
        let new = NewEvent::builder("t").key(format!("key/{number}")).bytes(content_type, bytes).build();
        let event = event_of(new.expect("the sample is valid"), 1);
        all.push(published(&event, &batch([event.clone()])));
        accept(&*sink, [event]).await;
    }
    let mut arrived = subject.delivered().await;
    arrived.sort_by(|left, right| left.id.cmp(&right.id));
    assert_eq!(arrived.len(), all.len(), "{RULE}");
    let found = all.iter().zip(&arrived).find_map(|(published, arrived)| difference(published, arrived));
    assert_eq!(found, None, "{RULE}");
}

/// A sink that says its calls are ordered keeps the order of a call, several events of a key included.
pub async fn events_of_a_call_arrive_in_order(subject: &impl SinkUnderTest) {
    let sink = subject.sink();
    let limits = sink.limits();
    if !limits.ordered_calls || limits.max_events < 2 {
        return passed_over("the sink does not say that it keeps the order of a call: `SinkLimits::ordered_calls`");
    }
    let mut bytes = 0;
    let fits = |event: &Event| {
        bytes += sink.size(event);
        bytes <= limits.max_bytes
    };
    let events: Vec<_> = (1..=limits.max_events.min(9) as u64).map(|n| event("a", n)).take_while(fits).collect();
    accept(&*sink, events.clone()).await;
    assert_eq!(delivered_ids(subject).await, ids(&events), "events of an ordered call arrive in order");
}

/// An event that comes again, as after a lost answer, is accepted again.
pub async fn an_event_may_come_again(subject: &impl SinkUnderTest) {
    let sink = subject.sink();
    accept(&*sink, [event("a", 1)]).await;
    accept(&*sink, [event("a", 1)]).await;
    let arrived = delivered_ids(subject).await;
    assert!(!arrived.is_empty() && arrived.iter().all(|id| id == "a@1.1.0"), "an event may come again, with its id");
}

/// What a replay publishes again gets through, though it was accepted before; and so does what another replay does.
pub async fn a_replay_is_taken(subject: &impl SinkUnderTest) {
    let sink = subject.sink();
    accept(&*sink, [event("a", 1)]).await;
    for (number, id) in [(1, "replay-1"), (2, "replay-2")] {
        let replay = Batch { replay: Some(id.into()), ..batch([event("a", 1)]) };
        assert_eq!(publish(&*sink, &replay).await, [Outcome::Accepted], "a replay is taken");
        let arrived = delivered_ids(subject).await.len();
        assert_eq!(arrived, 1 + number, "a replay arrives, and the next one too: no dedup id may swallow it");
    }
}

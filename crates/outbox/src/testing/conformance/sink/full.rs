//! Calls as full, and as many at a time, as the limits allow.

use futures_util::future::join_all;

use super::{
    accept, batch, delivered_ids, ids, of_different_keys,
    sizes::{LARGE, Payload, escaped, largest},
    whole::{difference, published},
};
use crate::{
    event::Event,
    sink::{Outcome, Sink},
    testing::{SinkUnderTest, conformance::passed_over, sample::event},
};

/// As many events as this suite puts into a call, whatever the sink would take.
const MANY_EVENTS: usize = 10_000;

/// As many bytes.
const MANY_BYTES: usize = 16 << 20;

/// As many calls as this suite makes at a time.
pub(super) const MANY_CALLS: usize = 1_024;

/// A call of as many small events as the limits allow is taken.
pub async fn a_full_call_is_taken(subject: &impl SinkUnderTest) {
    let sink = subject.sink();
    let most = sink.limits().max_events;
    if most > MANY_EVENTS {
        passed_over(format!("calls of more than {MANY_EVENTS} events are not tried; the sink takes {most}"));
    }
    let events = of_different_keys(&*sink, MANY_EVENTS);
    accept(&*sink, events.clone()).await;
    assert_eq!(delivered_ids(subject).await.len(), events.len(), "a full call is taken");
}

/// A call that is full by the sink's own measure, of many events and of few, is taken and arrives whole. A size that counts
/// less than is sent makes such a call larger than the target takes.
pub async fn a_call_filled_to_its_bytes_is_taken(subject: &impl SinkUnderTest) {
    const RULE: &str = "a call filled to its bytes is taken";
    let sink = subject.sink();
    let limits = sink.limits();
    let bytes = limits.max_bytes.min(MANY_BYTES);
    if bytes < limits.max_bytes {
        let most = limits.max_bytes;
        passed_over(format!("calls of more than {MANY_BYTES} bytes are not tried; the sink takes {most}"));
    }
    let without_payload = Payload::ALL.map(|payload| sink.size(&escaped("key", payload, 0))).into_iter().max();
    let room = bytes / without_payload.map_or(1, |size| 2 * size.max(1));
    let many = limits.max_events.min(1_000).min(room).max(1);
    let few = bytes.div_ceil(limits.max_event_bytes.clamp(1, LARGE)).min(many);
    let mut all = Vec::new();
    for (call, count) in [("many", many), ("few", few)] {
        let batch = batch(filling(&*sink, call, count, bytes));
        if batch.events.is_empty() {
            return passed_over(format!("no event whose attributes are long fits into {bytes} bytes"));
        }
        let count = batch.events.len();
        let outcomes = sink.publish(&batch).await;
        let outcomes = outcomes.unwrap_or_else(|error| panic!("{RULE}: of {count} events: {error:?}"));
        assert_eq!(outcomes, vec![Outcome::Accepted; count], "{RULE}: of {count} events");
        all.extend(batch.events.iter().map(|event| published(event, &batch)));
    }
    let mut arrived = subject.delivered().await;
    arrived.sort_by(|left, right| left.id.cmp(&right.id));
    all.sort_by(|left, right| left.id.cmp(&right.id));
    let found: Vec<_> = all.iter().zip(&arrived).filter_map(|(one, arrived)| difference(one, arrived)).collect();
    let (count, came) = (all.len(), arrived.len());
    let whole = count.min(came) - found.len();
    let first = found.first();
    assert!(
        whole == count && came == count,
        "{RULE}: of {count} accepted {came} arrived, {whole} of them whole: {first:?}"
    );
}

/// Events that fill a call of `count` to `bytes`, by the sink's own measure, each with an equal share of what is left.
fn filling(sink: &dyn Sink, call: &str, count: usize, bytes: usize) -> Vec<Event> {
    let most = sink.limits().max_event_bytes;
    let mut left = bytes;
    let mut events = Vec::new();
    for (number, payload) in (0..count).zip(Payload::ALL.into_iter().cycle()) {
        let (share, key) = ((left / (count - number)).min(most), format!("{call}/{number}"));
        let Some(event) = largest(sink, share, |bytes| escaped(&key, payload, bytes)) else { break };
        left -= sink.size(&event);
        events.push(event);
    }
    events
}

/// As many calls as the limits name may be under way.
pub async fn calls_may_be_made_at_the_same_time(subject: &impl SinkUnderTest) {
    const RULE: &str = "calls may be made at the same time";
    let sink = subject.sink();
    let calls = calls_at_a_time(&*sink);
    let events: Vec<_> = (0..calls).map(|number| event(&format!("key/{number}"), 1)).collect();
    let batches: Vec<_> = events.iter().map(|event| batch([event.clone()])).collect();
    let answers = join_all(batches.iter().map(|batch| sink.publish(batch))).await;
    for answer in answers {
        assert_eq!(answer.expect("a target that works takes each call"), [Outcome::Accepted], "{RULE}");
    }
    let mut arrived = delivered_ids(subject).await;
    arrived.sort();
    let mut published = ids(&events);
    published.sort();
    assert_eq!(arrived, published, "{RULE}");
}

/// As many calls as the sink takes at a time, or as this suite makes.
pub(super) fn calls_at_a_time(sink: &dyn Sink) -> usize {
    let most = sink.limits().max_calls;
    if most > MANY_CALLS {
        passed_over(format!("more than {MANY_CALLS} calls at a time are not tried; the sink takes {most}"));
    }
    most.min(MANY_CALLS)
}

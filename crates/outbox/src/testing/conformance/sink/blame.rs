//! Whose fault it is: an event's, or the target's as a whole.

use std::sync::Arc;

use super::{accept, batch, delivered_ids, of_different_keys};
use crate::{
    event::Event,
    sink::{Fault, Outcome, Sink},
    testing::{SinkUnderTest, conformance::passed_over, sample::event},
};

/// What a target needs that refuses events by name.
const REFUSES: &str = "the target refuses no event by name: offer `SinkUnderTest::refuse` if it can";

/// An event that the other side refuses by name is refused alone.
pub async fn a_refused_event_is_named_and_the_rest_accepted(subject: &impl SinkUnderTest) {
    const RULE: &str = "a refused event is named, and the rest accepted";
    let sink = subject.sink();
    let events = ["a", "b", "c"].map(|name| event(name, 1));
    if !subject.refuse(events[1].id()).await {
        return passed_over(REFUSES);
    }
    if of_different_keys(&*sink, 3).len() < 3 {
        accept(&*sink, [events[0].clone()]).await;
        refuse_alone(RULE, &*sink, &events[1]).await;
        accept(&*sink, [events[2].clone()]).await;
    } else {
        match sink.publish(&batch(events.clone())).await {
            Ok(outcomes) => {
                let named = matches!(outcomes[..], [Outcome::Accepted, Outcome::Refused { .. }, Outcome::Accepted]);
                assert!(named, "{RULE}: {outcomes:?}");
            }
            // The relay splits the batch until the culprit stands alone.
            Err(error) => {
                assert!(
                    matches!(error.fault, Fault::Event | Fault::Unknown),
                    "{RULE}, or the call is split: {error:?}"
                );
                return refuse_alone(RULE, &*sink, &events[1]).await;
            }
        }
    }
    assert_eq!(delivered_ids(subject).await, [events[0].id(), events[2].id()], "{RULE}");
}

/// Publishes an event that the other side refuses, in a call of its own.
async fn refuse_alone(rule: &str, sink: &dyn Sink, event: &Event) {
    let alone = sink.publish(&batch([event.clone()])).await;
    let refused = match &alone {
        Ok(outcomes) => matches!(outcomes[..], [Outcome::Refused { .. }]),
        Err(error) => error.fault == Fault::Event,
    };
    assert!(refused, "{rule}: alone it is the event's fault: {alone:?}");
}

/// In an ordered call nothing of a key takes effect behind an event of it that did not.
pub async fn nothing_of_a_key_is_accepted_behind_what_was_refused(subject: &impl SinkUnderTest) {
    const RULE: &str = "nothing of a key is accepted behind what was refused";
    let sink = subject.sink();
    let limits = sink.limits();
    let events: Vec<_> = (1..=3).map(|sequence| event("a", sequence)).collect();
    if !limits.ordered_calls || limits.max_events < 3 {
        return passed_over("the sink does not say that it keeps the order of a call: `SinkLimits::ordered_calls`");
    }
    if !subject.refuse(events[1].id()).await {
        return passed_over(REFUSES);
    }
    if let Ok(outcomes) = sink.publish(&batch(events.clone())).await {
        assert_eq!(outcomes.len(), 3, "{RULE}: an outcome for each");
        assert_ne!(outcomes[2], Outcome::Accepted, "{RULE}: {outcomes:?}");
    }
    let arrived = delivered_ids(subject).await;
    assert!(!arrived.iter().any(|id| id == events[2].id()), "{RULE}: {arrived:?} arrived");
}

/// A target that is gone fails the check and the call as a whole, and no event is blamed for it.
pub async fn an_absent_target_is_the_sinks_fault(subject: &impl SinkUnderTest) {
    const RULE: &str = "an absent target is the sink's fault";
    let sink: Arc<dyn Sink> = subject.sink();
    if !subject.take_away().await {
        return passed_over("the target cannot go away: offer `SinkUnderTest::take_away`");
    }
    assert!(sink.check().await.is_err(), "{RULE}: the check says so");
    match sink.publish(&batch([event("a", 1)])).await {
        Ok(outcomes) => panic!("{RULE}: no event can be blamed, and yet {outcomes:?}"),
        Err(error) => assert!(matches!(error.fault, Fault::Sink | Fault::Unknown), "{RULE}: {error:?}"),
    }
}

/// A target that is there and takes nothing blames no event for it, not even one that is alone in its call: of such
/// events dead letters are made.
pub async fn a_target_that_takes_nothing_blames_no_event(subject: &impl SinkUnderTest) {
    const RULE: &str = "a target that takes nothing blames no event";
    let sink = subject.sink();
    if !subject.take_nothing().await {
        return passed_over("the target cannot turn everything away: offer `SinkUnderTest::take_nothing`");
    }
    for sequence in 1..=2 {
        match sink.publish(&batch([event("a", sequence)])).await {
            Ok(outcomes) => assert!(matches!(outcomes[..], [Outcome::Throttled { .. }]), "{RULE}: {outcomes:?}"),
            Err(error) => assert_ne!(error.fault, Fault::Event, "{RULE}: {error:?}"),
        }
    }
}

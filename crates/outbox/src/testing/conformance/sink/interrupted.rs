//! Interruptions: calls that are dropped or stand still, connections that are cut, answers that are lost.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{
    accept, batch, delivered_ids,
    full::calls_at_a_time,
    publish,
    sizes::sized,
    whole::{difference, published},
};
use crate::{
    event::Event,
    sink::{Fault, Outcome, Sink},
    testing::{
        SinkUnderTest,
        conformance::{CUTS, cut, in_time, passed_over},
        sample::event,
    },
};

/// Event `sequence` of each of some keys, large enough to be cut in the middle of a transmission.
fn large(sink: &dyn Sink, sequence: u64) -> Vec<Event> {
    let limits = sink.limits();
    let bytes = (limits.max_event_bytes / 4).min(limits.max_bytes / 8).min(64 << 10);
    ["a", "b", "c"].into_iter().take(limits.max_events).map(|name| sized(name, sequence, bytes)).collect()
}

/// Publishes until it is accepted: a sink that is at work on a dropped call still may say that it is not ready.
async fn accept_surely(rule: &str, sink: &dyn Sink, events: Vec<Event>) {
    let batch = batch(events);
    let accepted = async {
        loop {
            match sink.publish(&batch).await {
                Ok(outcomes) if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Throttled { .. })) => {}
                Ok(outcomes) => break assert_eq!(outcomes, vec![Outcome::Accepted; batch.events.len()], "{rule}"),
                Err(error) => {
                    let event = error.fault == Fault::Event;
                    assert!(!event, "{rule}: no event can be blamed for it: {error:?}");
                }
            }
            tokio::task::yield_now().await;
        }
    };
    in_time(rule, accepted).await;
}

/// A sink that is opened anew goes on behind what the one before it delivered, and takes nothing of that away: neither when it
/// is opened nor by its first call.
pub async fn what_was_accepted_is_there_after_a_restart(subject: &impl SinkUnderTest) {
    const RULE: &str = "what was accepted is there after a restart";
    let mut all = Vec::new();
    accept(&*subject.sink(), [event("a", 1)]).await;
    all.push("a@1.1.0".to_owned());
    for sequence in 2..=3 {
        // Nothing is open of the one before.
        let Some(sink) = subject.open().await else {
            return passed_over(
                "the sink cannot be opened anew: offer `SinkUnderTest::open` if its process can be restarted",
            );
        };
        assert_eq!(delivered_ids(subject).await, all, "{RULE}: once it is opened");
        accept_surely(RULE, &*sink, vec![event("a", sequence)]).await;
        all.push(format!("a@1.{sequence}.0"));
        assert_eq!(delivered_ids(subject).await, all, "{RULE}: once it was called");
    }
}

/// A call that is dropped may have taken effect; it cuts no event in two, and the next call works as if nothing had been.
pub async fn a_dropped_call_leaves_the_sink_working(subject: &impl SinkUnderTest) {
    const RULE: &str = "a dropped call leaves the sink working";
    let sink = subject.sink();
    let mut all = Vec::new();
    for (sequence, polls) in (1..).zip(0..=CUTS) {
        let events = large(&*sink, sequence);
        cut(sink.publish(&batch(events.clone())), polls).await;
        // As a relay does that comes back.
        accept_surely(RULE, &*sink, events.clone()).await;
        all.extend(events.iter().map(|event| published(event, &batch([event.clone()]))));
    }
    let arrived = subject.delivered().await;
    let mut first = Vec::new();
    for delivery in &arrived {
        let whole = all.iter().any(|published| difference(published, delivery).is_none());
        assert!(whole, "{RULE}: `{}` arrived otherwise than it was published", delivery.id);
        if !first.contains(&delivery.id) {
            first.push(delivery.id.clone());
        }
    }
    for name in ["a@", "b@", "c@"] {
        let of = |ids: Vec<String>| ids.into_iter().filter(|id| id.starts_with(name)).collect::<Vec<_>>();
        let wanted = of(all.iter().map(|published| published.id.clone()).collect());
        assert_eq!(of(first.clone()), wanted, "{RULE}: each event arrives, in its key's order");
    }
}

/// However many calls were dropped, and wherever, as many as the sink takes at a time can be made.
pub async fn calls_that_are_dropped_free_their_place(subject: &impl SinkUnderTest) {
    const RULE: &str = "calls that are dropped free their place";
    const DEPTHS: usize = 4;
    let sink = subject.sink();
    let calls = calls_at_a_time(&*sink);
    // At each depth as many as there are places: if those are lost that are dropped there, none is left.
    for number in 0..DEPTHS * calls {
        cut(sink.publish(&batch([event(&format!("key/{number}"), 1)])), 1 + number % DEPTHS).await;
    }
    let events: Vec<_> = (0..calls).map(|number| event(&format!("again/{number}"), 1)).collect();
    join_all(events.iter().map(|event| accept_surely(RULE, &*sink, vec![event.clone()]))).await;
    let arrived: BTreeSet<_> = delivered_ids(subject).await.into_iter().collect();
    assert!(events.iter().all(|event| arrived.contains(event.id())), "{RULE}: what was accepted arrived");
}

/// A call that waits, for its connection or its answer, holds up no other: none keeps a lock meanwhile.
pub async fn a_call_that_waits_holds_up_no_other(subject: &impl SinkUnderTest) {
    const RULE: &str = "a call that waits holds up no other";
    // One has the connection that is there, the other makes one.
    const WAITING: usize = 2;
    let sink = subject.sink();
    accept(&*sink, [event("before", 1)]).await;
    let calls = WAITING.min(sink.limits().max_calls - 1);
    for (sequence, polls) in (1..).zip(1..=CUTS) {
        let batches: Vec<_> = (0..calls).map(|number| batch([event(&format!("key/{number}"), sequence)])).collect();
        let (mut answers, mut waiting) = (Vec::new(), Vec::new());
        for mut call in batches.iter().map(|batch| sink.publish(batch)) {
            match cut(&mut call, polls).await {
                Some(answer) => answers.push(answer),
                None => waiting.push(call),
            }
        }
        in_time(RULE, accept(&*sink, [event("other", sequence)])).await;
        answers.extend(join_all(waiting).await);
        for answer in answers {
            assert_eq!(answer.expect("a target that works takes each call"), [Outcome::Accepted], "{RULE}");
        }
    }
}

/// A connection that the target closed is the sink's trouble, and soon over: it is made again.
pub async fn a_cut_connection_is_made_again(subject: &impl SinkUnderTest) {
    const RULE: &str = "a cut connection is made again";
    let sink = subject.sink();
    accept(&*sink, [event("a", 1)]).await;
    if !subject.cut_connections().await {
        return passed_over("no connection can be cut: offer `SinkUnderTest::cut_connections` if there are any");
    }
    for attempt in 1.. {
        match in_time(RULE, sink.publish(&batch([event("a", 2)]))).await {
            Ok(outcomes) => {
                assert_eq!(outcomes, [Outcome::Accepted], "{RULE}: no event is blamed");
                break;
            }
            Err(error) => {
                assert!(matches!(error.fault, Fault::Sink | Fault::Unknown), "{RULE}: {error:?}");
                assert!(attempt < 5, "{RULE}: after {attempt} calls: {error:?}");
            }
        }
    }
    let arrived: BTreeSet<_> = delivered_ids(subject).await.into_iter().collect();
    assert_eq!(arrived, ["a@1.1.0", "a@1.2.0"].map(str::to_owned).into(), "{RULE}: and what was accepted arrived");
}

/// A call that took effect and was not answered is told apart from one that surely had none.
pub async fn a_lost_answer_is_uncertain(subject: &impl SinkUnderTest) {
    const RULE: &str = "a lost answer is uncertain";
    let sink = subject.sink();
    if !subject.lose_an_answer().await {
        return passed_over("no answer can be lost: offer `SinkUnderTest::lose_an_answer` if the target answers");
    }
    match in_time(RULE, sink.publish(&batch([event("a", 1)]))).await {
        // It asked again by itself.
        Ok(outcomes) => assert_eq!(outcomes, [Outcome::Accepted], "{RULE}"),
        Err(error) => {
            assert!(error.uncertain, "{RULE}: {error:?}");
            assert!(matches!(error.fault, Fault::Sink | Fault::Unknown), "{RULE}: no event is blamed: {error:?}");
        }
    }
    assert_eq!(publish(&*sink, &batch([event("a", 1)])).await, [Outcome::Accepted], "{RULE}: and may come again");
}

//! Several consumers of one inbox, callers that are gone, and names that look alike.

use std::{panic::resume_unwind, sync::Arc};

use tokio::{sync::Barrier, task::JoinHandle};

use super::{InboxUnderTest, Run, event, keyless};
use crate::{
    event::Event,
    inbox::{Applied, Handler, InboxLayer, InboxService, Incoming},
    inbox_store::InboxStore,
    testing::conformance::{CUTS, RACES, cut, in_time, writer::edges::look_alikes},
};

/// Applies `events`, again for as long as the store is busy.
async fn apply_surely<S, H>(service: &InboxService<S, H>, events: &[Event]) -> Vec<Applied>
where
    S: InboxStore,
    H: for<'t> Handler<S::Tx<'t>>,
{
    loop {
        let incoming = events.iter().cloned().map(Incoming::Event).collect();
        match service.apply(incoming).await {
            Ok(applied) => return applied,
            Err(error) => assert!(error.kind().retry(), "the inbox records: {error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Two consumers apply each its batches, one batch after the other, at once. Each is a task of its own, for a store may do all
/// of a transaction in one poll.
pub(super) async fn at_once<S, H>(rule: &str, consumers: [&InboxService<S, H>; 2], batches: [Vec<Vec<Event>>; 2])
where
    S: InboxStore,
    H: for<'t> Handler<S::Tx<'t>>,
{
    let start = Arc::new(Barrier::new(consumers.len()));
    let at_work = consumers.into_iter().zip(batches).map(|(service, batches)| {
        let (service, start) = (service.clone(), start.clone());
        tokio::spawn(async move {
            start.wait().await;
            for events in batches {
                apply_surely(&service, &events).await;
            }
        })
    });
    for consumer in at_work.collect::<Vec<_>>() {
        joined(rule, consumer).await;
    }
}

/// What a task gives; its panic is the check's.
pub(super) async fn joined<T>(rule: &str, task: JoinHandle<T>) -> T {
    match in_time(rule, task).await {
        Ok(output) => output,
        Err(ended) => resume_unwind(ended.into_panic()),
    }
}

/// Two consumers, each with a handle of its own, get the same events of a key at once, in batches and orders of their own, each
/// beside those of another key, one before it and one behind: each effect is there once, each key's in order.
pub async fn two_consumers_apply_each_event_once_and_in_order<B: InboxUnderTest>(bench: &B) {
    const RULE: &str = "two consumers apply each event once and in order";
    const EVENTS: u64 = 6;
    let (one, other) = (Run::start(bench, InboxLayer::in_order), Run::start(bench, InboxLayer::in_order));
    for round in 0..RACES / 5 {
        let keys = ["a", "b", "c"].map(|name| format!("{name}{round}"));
        let of = |keys: &[String]| -> Vec<_> {
            (1..=EVENTS).flat_map(|number| keys.iter().map(move |key| event(key, number))).collect()
        };
        let (forth, mut back) = (of(&keys[..2]), of(&keys[1..]));
        back.reverse();
        let batches = |events: &[Event], size| events.chunks(size).map(<[_]>::to_vec).collect();
        let (forth, back) = (batches(&forth, 4), batches(&back, 1 + round % 3));
        at_once(RULE, [&one.service, &other.service], [forth, back]).await;
        for key in keys {
            let wanted: Vec<_> = (1..=EVENTS).map(|number| event(&key, number).id().to_owned()).collect();
            let of_key = |id: &String| id.starts_with(&format!("{key}@"));
            let effects: Vec<_> = bench.effects().into_iter().filter(of_key).collect();
            assert_eq!(effects, wanted, "{RULE}");
        }
    }
    assert_eq!(one.totals().await.lanes, 0, "{RULE}: and nothing is left waiting");
    let counts = one.totals().await.counts;
    assert_eq!(counts.applied, 3 * EVENTS * (RACES as u64 / 5), "{RULE}: as is counted");
}

/// A caller that hangs up leaves a batch applied or not, event by event with its record; when it comes again the rest is
/// applied, and nothing twice.
pub async fn a_batch_whose_caller_is_gone_is_applied_once<B: InboxUnderTest>(bench: &B) {
    const RULE: &str = "a batch whose caller is gone is applied once";
    let run = Run::start(bench, InboxLayer::in_order);
    for polls in 0..=CUTS {
        let name = format!("key{polls}");
        let events: Vec<_> = (1..=3).map(|sequence| event(&name, sequence)).collect();
        cut(run.service.apply(events.iter().cloned().map(Incoming::Event).collect()), polls).await;
        let again = in_time(RULE, run.service.apply(events.iter().cloned().map(Incoming::Event).collect())).await;
        let again = again.unwrap_or_else(|error| panic!("{RULE}: it can come again: {error}"));
        let known = |applied: &Applied| matches!(applied, Applied::Applied | Applied::Duplicate);
        assert!(again.len() == 3 && again.iter().all(known), "{RULE}: {again:?}");
        let wanted: Vec<_> = events.iter().map(|event| event.id().to_owned()).collect();
        let effects: Vec<_> = bench.effects().into_iter().filter(|id| id.starts_with(&format!("{name}@"))).collect();
        assert_eq!(effects, wanted, "{RULE}");
    }
}

/// Keys are told apart byte by byte.
pub async fn in_order_keeps_keys_apart_that_look_alike<B: InboxUnderTest>(bench: &B) {
    const RULE: &str = "keys that look alike are apart";
    let run = Run::start(bench, InboxLayer::in_order);
    let mut wanted = Vec::new();
    for name in look_alikes() {
        for sequence in 1..=2 {
            let event = event(&name, sequence);
            wanted.push(event.id().to_owned());
            assert_eq!(run.one(event).await, Applied::Applied, "{RULE}: {sequence} of `{name}`");
        }
    }
    assert_eq!(bench.effects(), wanted, "{RULE}");
}

/// So are ids.
pub async fn once_keeps_ids_apart_that_look_alike<B: InboxUnderTest>(bench: &B) {
    const RULE: &str = "ids that look alike are apart";
    let run = Run::start(bench, InboxLayer::once);
    for expected in [Applied::Applied, Applied::Duplicate] {
        for id in look_alikes() {
            assert_eq!(run.one(keyless(&id)).await, expected, "{RULE}: `{id}`");
        }
    }
    assert_eq!(bench.effects(), look_alikes(), "{RULE}");
}

//! Events without a place that happened at the same time: which came later is the newer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tower::Layer;

use super::{
    super::{InboxUnderTest, Run, made, retry},
    with_kinds,
};
use crate::{
    event::{Event, NewEvent},
    inbox::{Answer, Applied, ClaimHandler, ClaimSettings, Claimed, InboxLayer, Incoming, Waits},
    memory::ManualClock,
};

fn at(kind: &str, id: &str, second: i64) -> Event {
    let time = Timestamp::from_second(second).expect("valid");
    made(NewEvent::builder(kind).id(id).key("a").time(time), None)
}

/// Handles what it has a permit for.
#[derive(Clone)]
struct Gated(Arc<Semaphore>, Arc<Mutex<Vec<String>>>);

impl ClaimHandler for Gated {
    async fn handle(&self, claimed: &Claimed) -> Answer {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).push(claimed.event.id().to_owned());
        self.0.acquire().await.expect("the gate stays").forget();
        Answer::Done
    }
}

/// Under a claim too, equal times are of different events: none is lost.
pub async fn latest_keeps_events_of_one_time_that_come_while_one_is_claimed<B: InboxUnderTest>(bench: &B) {
    let handler = Gated(Arc::new(Semaphore::new(0)), Arc::default());
    let claim = ClaimSettings { timeout: Duration::from_secs(3600), expiry: Duration::from_secs(4000), concurrency: 4 };
    let layer = InboxLayer::latest(bench.open()).clock(Arc::new(ManualClock::default()));
    let inbox = layer.claim(claim).expect("valid settings").layer(handler.clone());
    let take = |event: Event| {
        let inbox = inbox.clone();
        async move { inbox.apply(vec![Incoming::Event(event)]).await.expect("recorded") }
    };
    let first = tokio::spawn(take(at("t", "w", 100)));
    while handler.1.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
        tokio::task::yield_now().await;
    }
    for id in ["x", "y", "z"] {
        assert_eq!(take(at("t", id, 100)).await, [Applied::Parked(Waits::Claim)], "{id}");
    }
    assert_eq!(take(at("t", "y", 100)).await, [Applied::Duplicate]);
    handler.0.add_permits(4);
    assert_eq!(first.await.expect("the first ends"), [Applied::Applied]);
    let order = handler.1.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(order, ["w", "x", "y", "z"]);
    assert_eq!(inbox.operator().totals().await.expect("read").lanes, 0);
}

/// Of changes of one time that wait for their create, the one that came last is the newest.
pub async fn latest_lets_the_last_of_changes_of_one_time_wait_for_their_create<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, with_kinds);
    for id in ["x", "y"] {
        assert_eq!(run.one(at("change", id, 100)).await, Applied::Parked(Waits::Create), "{id}");
    }
    assert_eq!(run.one(at("create", "c", 99)).await, Applied::Applied);
    run.effects_are(&["c", "y"]);
}

/// A change that waits is not superseded by its create of the same time, even if that has to be tried twice.
pub async fn latest_applies_a_create_before_the_change_of_the_same_time<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, with_kinds);
    assert_eq!(run.one(at("change", "x", 100)).await, Applied::Parked(Waits::Create));
    run.script.say("c", retry());
    assert!(matches!(run.one(at("create", "c", 100)).await, Applied::Retrying { .. }));
    run.script.silence();
    run.sweep_after(2).await;
    run.effects_are(&["c", "x"]);
    assert_eq!(run.totals().await.lanes, 0);
}

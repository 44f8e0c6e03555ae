//! Mode `once`.

use std::time::Duration;

use super::{InboxUnderTest, Run, event, keyless, retry};
use crate::{
    event::{Event, Identity, NewEvent},
    inbox::{Answer, Applied, InboxLayer},
};

/// A duplicate is acknowledged without effect, in the same batch and later.
pub async fn once_suppresses_a_duplicate<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::once);
    assert_eq!(run.apply([keyless("a"), keyless("a")]).await, [Applied::Applied, Applied::Duplicate]);
    assert_eq!(run.one(keyless("a")).await, Applied::Duplicate);
    run.effects_are(&["a"]);
    assert_eq!(run.totals().await.counts.duplicates, 2);
}

/// Order does not matter: nothing waits for a predecessor.
pub async fn once_applies_the_events_of_a_key_in_any_order<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::once);
    assert_eq!(run.one(event("a", 2)).await, Applied::Applied);
    assert_eq!(run.one(event("a", 1)).await, Applied::Applied);
    run.effects_are(&["a@1.2.0", "a@1.1.0"]);
}

/// Ids are unique in their producer only.
pub async fn once_takes_the_same_id_of_another_producer_for_another_event<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::once);
    let identity = Identity { source: &"/payments".into(), placing: None, recorded: None, fallback_id: "" };
    let other = Event::from_new(NewEvent::builder("t").id("a").build().expect("valid"), identity).expect("valid");
    assert_eq!(run.apply([keyless("a"), other]).await, [Applied::Applied, Applied::Applied]);
}

/// An id is remembered as long as stated, and forgotten some time after.
pub async fn once_remembers_ids_for_as_long_as_it_says<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, |store| InboxLayer::once(store).remember_ids_for(Duration::from_secs(60)));
    run.one(keyless("a")).await;
    run.sweep_after(59).await;
    assert_eq!(run.one(keyless("a")).await, Applied::Duplicate);
    run.sweep_after(2).await;
    assert_eq!(run.totals().await.ids, 0);
    assert_eq!(run.one(keyless("a")).await, Applied::Applied);
}

/// What was applied is known after a restart.
pub async fn once_remembers_ids_over_a_restart<B: InboxUnderTest>(bench: &B) {
    let mut run = Run::start(bench, InboxLayer::once);
    assert_eq!(run.one(keyless("a")).await, Applied::Applied);
    run.restart();
    assert_eq!(run.one(keyless("a")).await, Applied::Duplicate);
    run.effects_are(&["a"]);
}

/// While an event is kept its id does not expire, or it would be applied besides being kept.
pub async fn once_keeps_an_id_whose_event_is_a_dead_letter<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, |store| InboxLayer::once(store).remember_ids_for(Duration::from_secs(60)));
    run.script.say("a", Answer::give_up("never"));
    run.one(keyless("a")).await;
    run.sweep_after(1_000).await;
    assert_eq!(run.one(keyless("a")).await, Applied::Duplicate);
    run.effects_are(&[]);
}

/// Without order, what fails holds back nothing, not even of its key.
pub async fn once_lets_a_failed_event_hold_back_only_itself<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::once);
    run.script.say("a@1.1.0", retry());
    let applied = run.apply([event("a", 1), event("a", 2)]).await;
    assert!(matches!(applied[..], [Applied::Retrying { attempts: 1, .. }, Applied::Applied]), "{applied:?}");
    run.script.silence();
    run.sweep_after(2).await;
    run.effects_are(&["a@1.2.0", "a@1.1.0"]);
}

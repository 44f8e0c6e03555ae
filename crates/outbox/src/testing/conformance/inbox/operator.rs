//! What an operator does.

use std::{sync::Arc, time::Duration};

use super::{InboxUnderTest, ORDERS, Run, event, key, retry};
use crate::{
    clock::Clock as _,
    inbox::{Answer, Applied, Chosen, InboxLayer, Waits},
    memory::ManualClock,
    place::Place,
};

fn all() -> Chosen {
    Chosen::default()
}

/// An inbox in which `a@1.2.0` is a dead letter and two events of its key wait.
async fn with_dead_letter<B: InboxUnderTest>(bench: &B) -> Run<'_, B> {
    let run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.2.0", Answer::give_up("bad"));
    run.apply((1..=4).map(|sequence| event("a", sequence))).await;
    run.effects_are(&["a@1.1.0"]);
    run.script.silence();
    run
}

/// Redriven, a dead letter goes first, and what waits behind it follows in order.
pub async fn a_redriven_dead_letter_is_applied_before_what_is_parked_behind_it<B: InboxUnderTest>(bench: &B) {
    let run = with_dead_letter(bench).await;
    let other = Chosen { key: Some(key("b")), ..all() };
    assert_eq!(run.operator().redrive(&other).await.expect("redriven"), 0);
    assert_eq!(run.operator().redrive(&all()).await.expect("redriven"), 1);
    run.sweep_after(0).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0", "a@1.3.0", "a@1.4.0"]);
    assert_eq!(run.totals().await.lanes, 0);
}

/// Redriven by somebody whose clock is ahead, it is tried at once all the same.
pub async fn a_dead_letter_is_redriven_at_once_whatever_the_operators_clock_says<B: InboxUnderTest>(bench: &B) {
    let run = with_dead_letter(bench).await;
    let ahead = ManualClock::new(run.clock.wall() + Duration::from_secs(24 * 3600));
    assert_eq!(run.operator().clock(Arc::new(ahead)).redrive(&all()).await.expect("redriven"), 1);
    run.service.sweep_due().await.expect("the sweep works");
    run.effects_are(&["a@1.1.0", "a@1.2.0", "a@1.3.0", "a@1.4.0"]);
}

/// Discarded, a dead letter is never applied, and its key goes on; a duplicate of it is one.
pub async fn a_discarded_dead_letter_lets_its_key_go_on<B: InboxUnderTest>(bench: &B) {
    let run = with_dead_letter(bench).await;
    assert_eq!(run.operator().discard(&all(), "a test order").await.expect("discarded"), 1);
    run.sweep_after(0).await;
    run.effects_are(&["a@1.1.0", "a@1.3.0", "a@1.4.0"]);
    assert_eq!(run.one(event("a", 2)).await, Applied::Duplicate);
}

/// To move the mark past an event that waits for its predecessor would lose the predecessor.
pub async fn an_early_event_cannot_be_discarded<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.one(event("a", 3)).await;
    let kept = run.operator().kept(None, 10).await.expect("listed");
    let chosen = Chosen { id: Some(kept[0].first.id), ..all() };
    assert_eq!(run.operator().discard(&chosen, "impatience").await.expect("looked"), 0);
    run.apply([event("a", 1), event("a", 2)]).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
}

/// A key that waits for an event that never comes goes on without it.
pub async fn a_gap_can_be_skipped<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.apply([event("a", 1), event("a", 4)]).await;
    assert_eq!(run.operator().skip(ORDERS, &key("a"), None).await.expect("skipped"), Place::new(1, 3, 0));
    run.sweep_after(0).await;
    run.effects_are(&["a@1.1.0", "a@1.4.0"]);
    assert_eq!(run.one(event("a", 2)).await, Applied::Duplicate);
    assert!(run.operator().skip(ORDERS, &key("a"), Some(Place::new(1, 2, 0))).await.is_err());
    assert!(run.operator().skip(ORDERS, &key("b"), None).await.is_err());
}

/// A key whose mark was set back takes what follows it again, and nothing before.
pub async fn a_rewound_key_applies_its_events_again<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.apply((1..=3).map(|sequence| event("a", sequence))).await;
    run.script.say("a@1.4.0", Answer::give_up("bad"));
    run.one(event("a", 4)).await;
    run.script.silence();
    run.operator().rewind(ORDERS, &key("a"), Place::new(1, 1, 0)).await.expect("rewound");
    assert!(run.operator().rewind(ORDERS, &key("a"), Place::new(1, 2, 0)).await.is_err());
    let applied = run.apply((1..=3).map(|sequence| event("a", sequence))).await;
    assert_eq!(applied, [Applied::Duplicate, Applied::Applied, Applied::Applied]);
    run.sweep_after(0).await;
    assert_eq!(run.bench.effects()[3..], ["a@1.2.0", "a@1.3.0", "a@1.4.0"]);
}

/// A rewound producer begins anew, what is kept of it included; other producers do not.
pub async fn a_rewound_producer_applies_everything_again<B: InboxUnderTest>(bench: &B) {
    let run = with_dead_letter(bench).await;
    run.one(event("b", 1)).await;
    assert_eq!(run.operator().rewind_producer("/payments").await.expect("looked"), 0);
    assert_eq!(run.operator().rewind_producer(ORDERS).await.expect("rewound"), 2);
    assert_eq!(run.one(event("b", 1)).await, Applied::Applied);
    run.apply((1..=4).map(|sequence| event("a", sequence))).await;
    let effects = run.bench.effects();
    assert_eq!(effects, ["a@1.1.0", "b@1.1.0", "b@1.1.0", "a@1.1.0", "a@1.2.0", "a@1.3.0", "a@1.4.0"]);
}

/// Erasing removes the copies that are kept, and nothing waits for them afterwards.
pub async fn an_erased_key_keeps_no_copies<B: InboxUnderTest>(bench: &B) {
    let run = with_dead_letter(bench).await;
    assert_eq!(run.operator().erase(None, &key("a")).await.expect("erased"), 1);
    assert!(run.operator().kept(None, 10).await.expect("listed").is_empty());
    assert_eq!(run.one(event("a", 4)).await, Applied::Duplicate);
    assert_eq!(run.one(event("a", 5)).await, Applied::Applied);
}

/// The totals say what is kept and why, and what was done.
pub async fn what_an_inbox_holds_is_counted<B: InboxUnderTest>(bench: &B) {
    let run = with_dead_letter(bench).await;
    run.script.say("b@1.1.0", retry());
    run.apply([event("b", 1), event("c", 2)]).await;
    assert_eq!(run.one(event("c", 2)).await, Applied::Duplicate);
    assert_eq!(run.one(event("b", 2)).await, Applied::Parked(Waits::Trouble));
    let totals = run.totals().await;
    assert_eq!((totals.marks, totals.lanes, totals.dead, totals.retrying, totals.parked), (1, 3, 1, 1, 4));
    let counts = totals.counts;
    assert_eq!((counts.applied, counts.duplicates, counts.early), (1, 1, 1));
    let shown = run.operator().kept(None, 10).await.expect("listed");
    assert_eq!(shown.len(), 3);
    let one = run.operator().show(shown[0].first.id).await.expect("looked").expect("found");
    assert_eq!(one, shown[0]);
    let next = run.operator().kept(Some(shown[0].lane.clone()), 10).await.expect("listed");
    assert_eq!(next, shown[1..]);
}

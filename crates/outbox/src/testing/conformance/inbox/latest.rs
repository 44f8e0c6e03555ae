//! Mode `latest`.

use jiff::Timestamp;

use super::{InboxUnderTest, Run, event, made, retry, typed};
use crate::{
    event::{NewEvent, SKIPPED},
    inbox::{Answer, Applied, InboxLayer, Kinds, Waits},
    inbox_store::InboxStore,
};

mod overtaken;
mod ties;

pub use overtaken::*;
pub use ties::*;

fn with_kinds<S: InboxStore>(store: S) -> InboxLayer<S> {
    let one = |kind: &str| [kind.to_owned()].into();
    InboxLayer::latest(store).kinds(Kinds { create: one("create"), change: one("change"), remove: one("remove") })
}

/// What is at the mark or behind it is acknowledged without effect.
pub async fn latest_acknowledges_duplicates_and_older_ones<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::latest);
    assert_eq!(run.one(event("a", 2)).await, Applied::Applied);
    assert_eq!(run.one(event("a", 2)).await, Applied::Duplicate);
    assert_eq!(run.one(event("a", 1)).await, Applied::Superseded);
    run.effects_are(&["a@1.2.0"]);
}

/// An early one is applied: it holds the state that its predecessors led to.
pub async fn latest_applies_an_early_one_and_supersedes_what_comes_late<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::latest);
    run.one(event("a", 1)).await;
    assert_eq!(run.one(event("a", 5)).await, Applied::Applied);
    assert_eq!(run.apply([event("a", 3), event("a", 4)]).await, [Applied::Superseded, Applied::Superseded]);
    run.effects_are(&["a@1.1.0", "a@1.5.0"]);
}

/// A newer state makes the attempts at an older one pointless.
pub async fn latest_lets_a_newer_event_take_the_place_of_a_failed_one<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::latest);
    run.script.say("a@1.1.0", retry());
    assert!(matches!(run.one(event("a", 1)).await, Applied::Retrying { .. }));
    assert_eq!(run.one(event("a", 2)).await, Applied::Applied);
    run.sweep_after(100).await;
    run.effects_are(&["a@1.2.0"]);
    let totals = run.totals().await;
    assert_eq!((totals.lanes, totals.counts.superseded), (0, 1));
}

/// A key whose events fail one after the other keeps the newest only, and its attempts.
pub async fn latest_replaces_a_dead_letter_by_what_is_newer<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::latest);
    run.script.say("a@1.1.0", retry());
    assert!(matches!(run.one(event("a", 1)).await, Applied::Retrying { attempts: 1, .. }));
    run.script.say("a@1.2.0", Answer::give_up("bad"));
    assert!(matches!(run.one(event("a", 2)).await, Applied::DeadLetter { .. }));
    let dead = run.operator().dead_letters(&crate::inbox::Chosen::default(), 10).await.expect("listed");
    assert_eq!(dead.iter().map(|dead| dead.first.message.id()).collect::<Vec<_>>(), ["a@1.2.0"]);
    assert_eq!(run.one(event("a", 1)).await, Applied::Superseded);
    assert_eq!(run.one(event("a", 3)).await, Applied::Applied);
    assert_eq!(run.totals().await.dead, 0);
}

/// A change whose create has not come waits for it; only the newest does.
pub async fn latest_lets_a_change_wait_for_its_create<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, with_kinds);
    assert_eq!(run.one(typed("change", "a", 2)).await, Applied::Parked(Waits::Create));
    assert_eq!(run.one(typed("change", "a", 3)).await, Applied::Parked(Waits::Create));
    assert_eq!(run.one(typed("change", "a", 3)).await, Applied::Duplicate);
    run.effects_are(&[]);
    assert_eq!(run.one(typed("create", "a", 1)).await, Applied::Applied);
    run.effects_are(&["a@1.1.0", "a@1.3.0"]);
}

/// A change after the removal is acknowledged and does nothing, whenever it comes.
pub async fn latest_does_nothing_for_a_change_after_the_removal<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, with_kinds);
    run.apply([typed("create", "a", 1), typed("remove", "a", 3)]).await;
    assert_eq!(run.one(typed("change", "a", 2)).await, Applied::Superseded);
    assert_eq!(run.one(typed("change", "a", 4)).await, Applied::Ignored);
    run.effects_are(&["a@1.1.0", "a@1.3.0"]);
}

/// A create with a higher sequence than the removal opens the key again.
pub async fn latest_opens_a_key_again_by_a_later_create<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, with_kinds);
    run.apply([typed("create", "a", 1), typed("remove", "a", 2), typed("create", "a", 3)]).await;
    assert_eq!(run.one(typed("change", "a", 4)).await, Applied::Applied);
}

/// Producers that do not number their events are compared by time; equal times are told apart by id.
pub async fn latest_compares_events_without_a_place_by_their_time<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::latest);
    let at = |id: &str, second| {
        let time = Timestamp::from_second(second).expect("valid");
        made(NewEvent::builder("t").id(id).key("a").time(time), None)
    };
    assert_eq!(run.one(at("x", 100)).await, Applied::Applied);
    assert_eq!(run.one(at("y", 100)).await, Applied::Applied);
    assert_eq!(run.one(at("x", 100)).await, Applied::Duplicate);
    assert_eq!(run.one(at("z", 99)).await, Applied::Superseded);
    run.effects_are(&["x", "y"]);
}

/// A key is numbered or not: what cannot be compared is refused, however often it comes, and leaves no trace.
pub async fn latest_refuses_an_event_without_a_place_where_others_had_one<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::latest);
    run.one(event("a", 1)).await;
    for _ in 0..2 {
        let applied = run.one(made(NewEvent::builder("t").id("x").key("a"), None)).await;
        assert!(matches!(applied, Applied::Refused { .. }), "{applied:?}");
    }
    assert_eq!(run.totals().await.ids, 0);
}

/// The marker of a discarded event is no state: an older event that comes after it is still the newest there is.
pub async fn latest_takes_a_marker_for_no_state<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::latest);
    assert_eq!(run.one(typed(SKIPPED, "a", 2)).await, Applied::Ignored);
    assert_eq!(run.one(event("a", 1)).await, Applied::Applied);
}

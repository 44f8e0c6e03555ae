//! Mode `after_cause`.

use std::time::Duration;

use super::{InboxUnderTest, ORDERS, Run, event, keyless, made, placed, retry, together::at_once};
use crate::{
    clock::Clock as _,
    event::{Event, NewEvent},
    inbox::{Applied, Chosen, InboxLayer, Waits},
    inbox_store::InboxStore,
    place::Place,
    testing::conformance::RACES,
};

fn layer<S: InboxStore>(store: S) -> InboxLayer<S> {
    InboxLayer::after_cause(store, [ORDERS], Duration::from_secs(60))
}

/// The first event of `key`, caused by `cause`.
fn caused(key: &str, cause: &Event) -> Event {
    placed(NewEvent::builder("t").key(key).caused_by(cause), Place::new(1, 1, 0), Place::ORIGIN)
}

/// An event waits for its cause in another key, and is applied as soon as that is.
pub async fn after_cause_waits_for_the_event_that_caused_it<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    let (first, cause) = (event("a", 1), event("a", 2));
    assert_eq!(run.one(caused("b", &cause)).await, Applied::Parked(Waits::Cause));
    assert_eq!(run.totals().await.awaiting_cause, 1);
    run.one(first).await;
    run.effects_are(&["a@1.1.0"]);
    run.one(cause).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0", "b@1.1.0"]);
    assert_eq!(run.totals().await.lanes, 0);
}

/// All that wait for one event are woken by it.
pub async fn after_cause_wakes_all_that_wait_for_one_event<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    for cause in [event("a", 1), keyless("why")] {
        for waiter in 1..=3 {
            let applied = run.one(caused(&format!("{waiter} of {}", cause.id()), &cause)).await;
            assert_eq!(applied, Applied::Parked(Waits::Cause));
        }
        let before = bench.effects().len();
        run.one(cause).await;
        assert_eq!((bench.effects().len() - before, run.totals().await.lanes), (4, 0), "the cause and all that waited");
    }
}

/// Whichever of cause and effect commits first, the effect is applied behind its cause in the end, without a sweep: whether
/// it is known by its key's mark or by its id.
pub async fn after_cause_strands_nothing_when_cause_and_effect_come_at_once<B: InboxUnderTest>(bench: &B) {
    const RULE: &str = "nothing is stranded when cause and effect come at once";
    let (one, other) = (Run::start(bench, layer), Run::start(bench, layer));
    for round in 0..RACES {
        let name = format!("cause{round}");
        let cause = if round % 2 == 0 { keyless(&name) } else { event(&name, 1) };
        let effect = NewEvent::builder("t").id(format!("effect{round}")).caused_by(&cause);
        let effect = if round % 4 < 2 {
            placed(effect.key(format!("key{round}")), Place::new(1, 1, 0), Place::ORIGIN)
        } else {
            made(effect, None)
        };
        let wanted = [cause.id().to_owned(), effect.id().to_owned()];
        at_once(RULE, [&one.service, &other.service], [cause, effect].map(|event| vec![vec![event]])).await;
        assert_eq!(bench.effects().split_off(2 * round), wanted, "{RULE}");
    }
    assert_eq!(one.totals().await.lanes, 0, "{RULE}");
}

/// What was done, and who waits for what, is known after a restart.
pub async fn after_cause_waits_over_a_restart<B: InboxUnderTest>(bench: &B) {
    let mut run = Run::start(bench, layer);
    let (done, open) = (keyless("done"), keyless("open"));
    run.one(done.clone()).await;
    assert_eq!(run.one(caused("a", &open)).await, Applied::Parked(Waits::Cause));
    run.restart();
    assert_eq!(run.one(caused("b", &done)).await, Applied::Applied, "its cause was done with before the restart");
    run.one(open).await;
    run.effects_are(&["done", "b@1.1.0", "open", "a@1.1.0"]);
    assert_eq!(run.totals().await.lanes, 0);
}

/// Within a batch the cause goes first, whatever the order of arrival or of keys.
pub async fn after_cause_applies_cause_and_effect_of_one_batch_in_their_order<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    let cause = event("z", 1);
    run.apply([caused("a", &cause), cause]).await;
    run.effects_are(&["z@1.1.0", "a@1.1.0"]);
    let keyless_cause = keyless("why");
    let keyless_effect = made(NewEvent::builder("t").id("what").caused_by(&keyless_cause), None);
    run.apply([keyless_effect, keyless_cause]).await;
    assert_eq!(run.bench.effects()[2..], ["why", "what"]);
}

/// A cause without a key is known by its id.
pub async fn after_cause_waits_for_a_cause_without_a_key<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    let cause = keyless("why");
    run.script.say("why", retry());
    run.one(caused("a", &cause)).await;
    run.one(cause).await;
    run.effects_are(&[]);
    run.script.silence();
    run.sweep_after(2).await;
    run.effects_are(&["why", "a@1.1.0"]);
}

/// A cause that does not come in time makes a dead letter that says so.
pub async fn after_cause_makes_a_dead_letter_where_the_cause_is_not_seen<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    run.one(caused("b", &event("a", 1))).await;
    run.sweep_after(59).await;
    assert_eq!(run.totals().await.dead, 0);
    run.sweep_after(1).await;
    let dead = run.operator().dead_letters(&Chosen::default(), 10).await.expect("listed");
    let trouble = dead[0].record.trouble.clone().expect("a dead letter is trouble");
    assert!(trouble.reason.starts_with("cause not seen: event 1.1.0 of `a`"), "{}", trouble.reason);
    run.one(event("a", 1)).await;
    run.effects_are(&["a@1.1.0"]);
}

/// A cause is waited for no longer because the wall clock was set back.
pub async fn after_cause_waits_no_longer_where_the_clock_is_set_back<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    run.one(caused("b", &event("a", 1))).await;
    run.clock.set_wall(run.clock.wall() - Duration::from_secs(24 * 3600));
    run.sweep_after(0).await;
    run.sweep_after(59).await;
    assert_eq!(run.totals().await.dead, 0);
    run.sweep_after(1).await;
    assert_eq!(run.totals().await.dead, 1);
}

/// Redriving is the way out for a cause that is gone.
pub async fn after_cause_applies_a_redriven_event_without_its_cause<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    run.one(caused("b", &event("a", 1))).await;
    run.sweep_after(60).await;
    run.operator().redrive(&Chosen::default()).await.expect("redriven");
    run.sweep_after(0).await;
    run.effects_are(&["b@1.1.0"]);
}

/// What a consumer does not receive it cannot wait for.
pub async fn after_cause_does_not_wait_for_producers_it_does_not_subscribe_to<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, |store| InboxLayer::after_cause(store, ["/payments"], Duration::from_secs(60)));
    assert_eq!(run.one(caused("b", &event("a", 1))).await, Applied::Applied);
}

/// A cause that is kept here has not taken place yet.
pub async fn after_cause_waits_for_a_cause_in_trouble<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    run.script.say("a@1.1.0", retry());
    let cause = event("a", 1);
    run.apply([cause.clone(), caused("b", &cause)]).await;
    run.effects_are(&[]);
    run.script.silence();
    run.sweep_after(2).await;
    run.effects_are(&["a@1.1.0", "b@1.1.0"]);
}

/// The key of an event that waits for its cause keeps its order.
pub async fn after_cause_parks_what_follows_a_waiting_event<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    let cause = event("a", 1);
    run.one(event("b", 2)).await;
    assert_eq!(run.one(caused("b", &cause)).await, Applied::Parked(Waits::Cause));
    assert_eq!(run.one(event("b", 3)).await, Applied::Parked(Waits::Trouble));
    run.one(cause).await;
    run.effects_are(&["a@1.1.0", "b@1.1.0", "b@1.2.0", "b@1.3.0"]);
}

/// What was woken wakes what waits for it.
pub async fn after_cause_wakes_a_chain_of_causes<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, layer);
    let first = event("d", 1);
    let second = caused("c", &first);
    let third = caused("b", &second);
    run.apply([caused("a", &third)]).await;
    run.apply([third, second]).await;
    run.effects_are(&[]);
    run.one(first).await;
    run.effects_are(&["d@1.1.0", "c@1.1.0", "b@1.1.0", "a@1.1.0"]);
}

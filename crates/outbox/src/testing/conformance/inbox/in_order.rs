//! Mode `in_order`.

use super::{
    InboxUnderTest, ORDERS, Run, event, gapless, key, keyless, made, placed, retry, together::at_once, typed, with_gaps,
};
use crate::{
    event::{NewEvent, SKIPPED},
    inbox::{Answer, Applied, InboxLayer, Join, Kinds, Seed, SeedLeft, Waits},
    inbox_store::{InboxCounts, InboxTotals},
    place::Place,
    testing::conformance::RACES,
};

/// The mark stays for as long as the key lives.
pub async fn in_order_suppresses_a_duplicate_a_year_later<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    assert_eq!(run.one(event("a", 1)).await, Applied::Applied);
    run.sweep_after(366 * 24 * 3600).await;
    assert_eq!(run.one(event("a", 1)).await, Applied::Duplicate);
    run.effects_are(&["a@1.1.0"]);
    assert_eq!(run.totals().await.counts.duplicates, 1);
}

/// An early event is parked, counted, and applied once what is missing has come; other keys do not wait.
pub async fn in_order_parks_an_early_event_until_its_turn<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let applied = run.apply([event("a", 1), event("a", 3), event("b", 1)]).await;
    assert_eq!(applied, [Applied::Applied, Applied::Parked(Waits::Predecessor), Applied::Applied]);
    assert_eq!(run.totals().await.counts.early, 1);
    assert_eq!(run.one(event("a", 2)).await, Applied::Applied);
    run.effects_are(&["a@1.1.0", "b@1.1.0", "a@1.2.0", "a@1.3.0"]);
    assert_eq!(run.totals().await.lanes, 0);
}

/// A parked event that comes again is not kept twice.
pub async fn in_order_suppresses_a_duplicate_of_a_parked_event<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.one(event("a", 2)).await;
    assert_eq!(run.one(event("a", 2)).await, Applied::Duplicate);
    assert_eq!(run.totals().await.parked, 1);
    run.one(event("a", 1)).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0"]);
}

/// The events of one entry share its sequence; none is taken for a duplicate of another.
pub async fn in_order_applies_every_event_of_an_entry<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let of_entry = |index: u32| {
        let after = index.checked_sub(1).map_or(Place::ORIGIN, |before| Place::new(1, 1, before));
        placed(NewEvent::builder("t").key("a"), Place::new(1, 1, index), after)
    };
    for index in [0, 2, 1] {
        run.one(of_entry(index)).await;
    }
    run.effects_are(&["a@1.1.0", "a@1.1.1", "a@1.1.2"]);
}

/// Within a batch order of arrival does not matter, and nothing is parked for it.
pub async fn in_order_sorts_a_batch<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let applied = run.apply([event("a", 3), event("a", 1), event("a", 2), event("a", 1)]).await;
    assert_eq!(applied, [Applied::Applied, Applied::Applied, Applied::Applied, Applied::Duplicate]);
    run.effects_are(&["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
}

/// A route with gaps cannot serve this mode: nothing is recorded or acknowledged, and the reason says what to do.
pub async fn in_order_stops_a_key_whose_route_has_gaps<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let with_gaps = with_gaps(NewEvent::builder("t").key("a"), Place::new(1, 1, 0), Place::ORIGIN);
    let applied = run.one(with_gaps).await;
    let Applied::Stopped { reason } = &applied else { panic!("{applied:?}") };
    assert!(reason.contains("gapless") && !applied.may_be_acknowledged(), "{reason}");
    let totals = run.totals().await;
    assert_eq!((totals.marks, totals.lanes, totals.dead), (0, 0, 0));
    assert_eq!(run.one(event("a", 1)).await, Applied::Applied);
}

/// What has no place cannot be put in order.
pub async fn in_order_refuses_an_event_without_a_place<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let keyed = gapless(&made(NewEvent::builder("t").key("a").id("x"), None));
    for event in [gapless(&keyless("a")), keyed] {
        let applied = run.one(event).await;
        assert!(matches!(applied, Applied::Refused { .. }) && !applied.may_be_acknowledged(), "{applied:?}");
    }
    assert_eq!(run.totals().await.lanes, 0);
}

/// A consumer that joins late takes whichever event of a key comes first, and is strict from there on.
pub async fn in_order_joins_with_the_first_seen<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, |store| InboxLayer::in_order(store).join(Join::FirstSeen));
    run.script.say("a@1.57.0", retry());
    assert!(matches!(run.one(event("a", 57)).await, Applied::Retrying { .. }));
    assert_eq!(run.one(event("a", 59)).await, Applied::Parked(Waits::Trouble));
    assert_eq!(run.one(event("a", 56)).await, Applied::Duplicate);
    run.script.silence();
    run.sweep_after(2).await;
    run.effects_are(&["a@1.57.0"]);
    assert_eq!(run.one(event("a", 58)).await, Applied::Applied);
    run.effects_are(&["a@1.57.0", "a@1.58.0", "a@1.59.0"]);
}

/// A consumer that joins with a copy of the state goes on behind the places that the state holds.
pub async fn in_order_joins_with_seeds_and_their_state<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let seed = Seed { producer: ORDERS.to_owned(), key: key("a"), place: Place::new(1, 57, 0) };
    run.service.seed(vec![seed], async |_, _| Ok(())).await.expect("seeded");
    assert_eq!(run.one(event("a", 57)).await, Applied::Duplicate);
    assert_eq!(run.one(event("a", 58)).await, Applied::Applied);
    assert_eq!(run.one(event("b", 1)).await, Applied::Applied);
    let fails = run
        .service
        .seed(vec![Seed { producer: ORDERS.to_owned(), key: key("c"), place: Place::new(1, 9, 0) }], async |_, _| {
            Err(crate::StoreError::new(crate::ErrorKind::Full, "no room"))
        });
    assert!(fails.await.is_err());
    assert_eq!(run.one(event("c", 1)).await, Applied::Applied);
}

/// A consumer that seeds at each start goes on where it stood: what it has applied since would not come again.
pub async fn in_order_leaves_a_key_beyond_its_seed_as_it_is<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let seed = |key_name: &str, sequence| Seed {
        producer: ORDERS.to_owned(),
        key: key(key_name),
        place: Place::new(1, sequence, 0),
    };
    run.service.seed(vec![seed("a", 50)], async |_, _| Ok(())).await.expect("seeded");
    run.apply((51..=80).map(|sequence| event("a", sequence))).await;
    let seeding = run.service.seed(vec![seed("a", 50), seed("b", 5), seed("b", 7)], async |_, seeds| {
        assert!(seeds.iter().all(|seed| seed.key.as_str() == "b"), "a key's state was set back: {seeds:?}");
        Ok(())
    });
    let seeded = seeding.await.expect("seeded");
    assert_eq!(seeded.written, [seed("b", 7)]);
    let left = |key: &str, at, mark| SeedLeft { seed: seed(key, at), mark: Place::new(1, mark, 0) };
    assert_eq!(seeded.left, [left("a", 50, 80), left("b", 5, 7)]);
    assert_eq!(run.one(event("a", 81)).await, Applied::Applied);
    assert_eq!(run.one(event("b", 8)).await, Applied::Applied);
}

/// After a restored backup the producer goes on from an earlier place: that is next in turn, and counted.
pub async fn in_order_goes_on_in_a_higher_incarnation<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.apply((1..=5).map(|sequence| event("a", sequence))).await;
    let reborn = |sequence: u64, after| placed(NewEvent::builder("t").key("a"), Place::new(2, sequence, 0), after);
    assert_eq!(run.one(reborn(4, Place::new(1, 3, 0))).await, Applied::Applied);
    assert_eq!(run.one(reborn(5, Place::new(2, 4, 0))).await, Applied::Applied);
    assert_eq!(run.one(event("a", 6)).await, Applied::Duplicate);
    assert_eq!(run.totals().await.counts.history_back, 1);
    assert_eq!(run.bench.effects()[5..], ["a@2.4.0", "a@2.5.0"]);
}

/// What waits here but was lost to its producer is dropped when the new history passes it.
pub async fn in_order_drops_what_its_producer_has_lost<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.one(event("a", 1)).await;
    run.script.say("a@1.2.0", Answer::give_up("bad"));
    run.apply([event("a", 2), event("a", 3)]).await;
    let reborn = placed(NewEvent::builder("t").key("a"), Place::new(2, 2, 0), Place::new(1, 1, 0));
    assert_eq!(run.one(reborn).await, Applied::Applied);
    run.effects_are(&["a@1.1.0", "a@2.2.0"]);
    assert_eq!(run.totals().await.lanes, 0);
}

/// The marker of a discarded event takes its turn without effect.
pub async fn in_order_moves_on_over_a_marker<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.apply([event("a", 1), event("a", 3)]).await;
    assert_eq!(run.one(typed(SKIPPED, "a", 2)).await, Applied::Ignored);
    run.effects_are(&["a@1.1.0", "a@1.3.0"]);
    assert_eq!(run.one(typed(SKIPPED, "a", 2)).await, Applied::Duplicate);
}

/// A change after the removal is acknowledged, moves the mark and does nothing; a create opens the key again.
pub async fn in_order_does_nothing_for_a_change_after_the_removal<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, |store| {
        let one = |kind: &str| [kind.to_owned()].into();
        InboxLayer::in_order(store).kinds(Kinds { create: one("create"), change: one("change"), remove: one("remove") })
    });
    run.apply([typed("create", "a", 1), typed("remove", "a", 2)]).await;
    let applied = run.apply([typed("change", "a", 3), typed("create", "a", 4), typed("change", "a", 5)]).await;
    assert_eq!(applied, [Applied::Ignored, Applied::Applied, Applied::Applied]);
}

/// What was acknowledged because it was parked is there after a restart.
pub async fn in_order_keeps_parked_events_over_a_restart<B: InboxUnderTest>(bench: &B) {
    let mut run = Run::start(bench, InboxLayer::in_order);
    run.apply([event("a", 3), event("a", 2)]).await;
    run.restart();
    run.one(event("a", 1)).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
}

/// A queue longer than one transaction may drain is drained by the sweeps that follow, in order, and nothing that
/// arrives meanwhile overtakes it.
pub async fn in_order_drains_a_long_queue_in_several_transactions<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, |store| {
        let settings =
            crate::inbox::InboxSettings { drain: 3, ..InboxLayer::in_order(store.clone()).settings().clone() };
        InboxLayer::of(store, settings)
    });
    run.apply((2..=11).map(|sequence| event("a", sequence))).await;
    run.one(event("a", 1)).await;
    assert_eq!(run.bench.effects().len(), 4);
    assert!(matches!(run.one(event("a", 12)).await, Applied::Parked(_)));
    run.sweep_after(0).await;
    let wanted: Vec<_> = (1..=12).map(|sequence| format!("a@1.{sequence}.0")).collect();
    assert_eq!(run.bench.effects(), wanted);
}

/// Whichever commits first, the successor is applied in the end, without a sweep.
pub async fn in_order_strands_nothing_when_predecessor_and_successor_come_at_once<B: InboxUnderTest>(bench: &B) {
    const RULE: &str = "nothing is stranded when predecessor and successor come at once";
    let (one, other) = (Run::start(bench, InboxLayer::in_order), Run::start(bench, InboxLayer::in_order));
    for round in 0..RACES {
        let batches = [1, 2].map(|sequence| vec![vec![event(&format!("key{round}"), sequence)]]);
        // By one handle, too: its calls may share a transaction.
        let another = if round % 2 == 0 { &one } else { &other };
        at_once(RULE, [&one.service, &another.service], batches).await;
        assert_eq!(bench.effects().len(), 2 * (round + 1), "{RULE}");
    }
    assert_eq!(one.totals().await.lanes, 0, "{RULE}");
}

/// However the events of some keys come, doubled, shuffled and batched: each is applied once, in its key's order, and counted
/// as what became of it.
/// `arrivals` are pairs of key and sequence; every key's sequences up to its highest have to be among them.
pub async fn in_order_applies_any_arrival_once_in_order<B: InboxUnderTest>(bench: &B, arrivals: &[Vec<(u8, u64)>]) {
    let run = Run::start(bench, InboxLayer::in_order);
    let mut highest = std::collections::BTreeMap::<u8, u64>::new();
    for batch in arrivals {
        run.apply(batch.iter().map(|(key, sequence)| event(&key.to_string(), *sequence))).await;
        for (key, sequence) in batch {
            let highest = highest.entry(*key).or_default();
            *highest = (*highest).max(*sequence);
        }
    }
    let effects = run.bench.effects();
    for (key, highest) in highest {
        let of_key: Vec<_> = effects.iter().filter(|effect| effect.starts_with(&format!("{key}@"))).cloned().collect();
        let wanted: Vec<_> = (1..=highest).map(|sequence| format!("{key}@1.{sequence}.0")).collect();
        assert_eq!(of_key, wanted);
    }
    let InboxTotals { lanes, parked, counts, .. } = run.totals().await;
    let InboxCounts { applied, duplicates, early, .. } = counts;
    let came = arrivals.iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!((applied, applied + duplicates), (effects.len() as u64, came));
    assert_eq!((lanes, parked), (0, 0));
    assert!(early <= applied, "{early} came early of {applied}");
}

/// However the events of some keys come: mode `latest` ends with the last of each, and never goes back.
pub async fn latest_ends_any_arrival_with_the_last<B: InboxUnderTest>(bench: &B, arrivals: &[Vec<(u8, u64)>]) {
    let run = Run::start(bench, InboxLayer::latest);
    for batch in arrivals {
        run.apply(batch.iter().map(|(key, sequence)| event(&key.to_string(), *sequence))).await;
    }
    let mut last = std::collections::BTreeMap::<String, u64>::new();
    let effects = run.bench.effects();
    let InboxCounts { applied, duplicates, superseded, .. } = run.totals().await.counts;
    let came = arrivals.iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!((applied, applied + duplicates + superseded), (effects.len() as u64, came));
    for effect in effects {
        let (key, place) = effect.split_once('@').expect("an effect is an id");
        let sequence = place.parse::<Place>().expect("an id ends with the place").sequence;
        assert!(last.insert(key.to_owned(), sequence).is_none_or(|before| before < sequence), "{effect} goes back");
    }
    for (key, sequence) in arrivals.iter().flatten() {
        assert!(last[&key.to_string()] >= *sequence);
    }
}

//! Dead letters: listed, redriven, discarded.

use std::sync::Arc;

use super::{any, by_key, dead_letters, discard, front, keep_it, known, redrive, settled};
use crate::{
    bookkeeping::{
        FrontState, Keep, KeptContent, KeptCounts, KeptId, Lane, Operator, Selector, SettleOutcome, Settlement,
    },
    event::NewEvent,
    testing::sample::{
        at, dead, event_of, event_without_key, keep, kept_ids, key, lane, position, retrying, route, take,
    },
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Operator>) {
    checks! {
        "`Operator::dead_letters`: the route's dead letters, by number, behind `after`." => {
            dead_letters_are_listed_by_number(fresh().await);
        }
        "`Selector`: which kept events an operator means." => {
            a_selector_narrows_what_is_meant(fresh().await);
        }
        "`Operator::redrive` has dead letters published again, front first, with what is parked behind them." => {
            a_redriven_dead_letter_is_due_at_once(fresh().await);
            only_dead_letters_are_redriven_or_discarded(fresh().await);
        }
        "`Operator::discard` gives dead letters up for good, so that what is parked behind them goes on." => {
            a_discarded_dead_letter_waits_for_its_removal(fresh().await);
        }
        "`Operator::erase` erases every kept event of a key, in every route; they leave tombstones." => {
            erasing_a_key_leaves_nothing_of_it(fresh().await);
        }
    }
}

/// Only fronts that were given up on, each with how it fared and how many wait behind it, by rising number.
pub async fn dead_letters_are_listed_by_number(operator: Arc<dyn Operator>) {
    const RULE: &str = "dead letters are listed by number";
    let lease = take(&*operator, "relay").await;
    for (name, state, events) in
        [("z", dead(3), 1..=3), ("r", retrying(1), 1..=2), ("b", dead(4), 1..=1), ("m", dead(5), 1..=2)]
    {
        keep_it(&*operator, &lease, "a", &keep(name, Some(state), events)).await;
    }
    keep_it(&*operator, &lease, "b", &keep("elsewhere", Some(dead(1)), [1])).await;
    let listed = dead_letters(&*operator, &any()).await;
    let shape: Vec<_> =
        listed.iter().map(|letter| (letter.kept.content.id(), letter.front.attempts, letter.parked)).collect();
    assert_eq!(shape, [("z@1.1.0", 3, 2), ("b@1.1.0", 4, 0), ("m@1.1.0", 5, 1)], "{RULE}");
    assert!(listed.is_sorted_by(|left, right| left.kept.id < right.kept.id), "{RULE}");
    assert!(listed.iter().all(|letter| letter.route == route("a")), "{RULE}: with their route");
    assert!(listed.iter().all(|letter| letter.front.state == FrontState::Dead), "{RULE}: with their state");
    let mut paged = Vec::new();
    let mut after: Option<KeptId> = None;
    loop {
        let page = operator.dead_letters(&route("a"), &any(), after, 2).await.expect("dead letters can be listed");
        assert!(page.len() <= 2, "{RULE}: as many as asked for");
        let Some(last) = page.last() else { break };
        after = Some(last.kept.id);
        paged.extend(page);
        assert!(paged.len() <= listed.len(), "{RULE}: page by page, and come to an end");
    }
    assert_eq!(paged, listed, "{RULE}: page by page");
}

/// A number, a key and a type each narrow it, and all that are given have to fit.
pub async fn a_selector_narrows_what_is_meant(operator: Arc<dyn Operator>) {
    const RULE: &str = "a selector narrows what is meant";
    let lease = take(&*operator, "relay").await;
    let of_kind = |kind: &str, name: &str| {
        let new = NewEvent::builder(kind).key(name).build().expect("the sample is valid");
        let events = vec![(KeptContent::Event(event_of(new, 1)), position(1))];
        Keep { lane: lane(name), front: Some(dead(1)), events }
    };
    for (kind, name) in [("paid", "k"), ("placed", "l"), ("paid", "m")] {
        keep_it(&*operator, &lease, "a", &of_kind(kind, name)).await;
    }
    let keyless = KeptContent::Event(event_without_key("no-key"));
    let own = Keep { lane: keyless.lane(), front: Some(dead(1)), events: vec![(keyless, position(1))] };
    keep_it(&*operator, &lease, "a", &own).await;
    let second = dead_letters(&*operator, &any()).await[1].kept.id;
    let by_kind = |kind: &str| Selector { kind: Some(kind.to_owned()), ..any() };
    let by_id = Selector { id: Some(second), ..any() };
    for (selector, expected) in [
        (any(), vec!["k@1.1.0", "l@1.1.0", "m@1.1.0", "no-key"]),
        (by_kind("paid"), vec!["k@1.1.0", "m@1.1.0"]),
        (by_key("m"), vec!["m@1.1.0"]),
        (by_id.clone(), vec!["l@1.1.0"]),
        (Selector { key: Some(key("k")), ..by_kind("placed") }, vec![]),
        (Selector { kind: Some("placed".to_owned()), key: Some(key("l")), ..by_id }, vec!["l@1.1.0"]),
        (by_key("unknown"), vec![]),
    ] {
        let listed = dead_letters(&*operator, &selector).await;
        let ids: Vec<_> = listed.iter().map(|letter| letter.kept.content.id()).collect();
        assert_eq!(ids, expected, "{RULE}: {selector:?}");
    }
    assert_eq!(redrive(&*operator, &by_kind("paid")).await, 2, "{RULE}: for a redrive");
    assert_eq!(discard(&*operator, &by_key("l")).await, 1, "{RULE}: for a discard");
    let listed = dead_letters(&*operator, &any()).await;
    let ids: Vec<_> = listed.iter().map(|letter| letter.kept.content.id()).collect();
    assert_eq!(ids, ["no-key"], "{RULE}: the others are left");
}

/// A redriven dead letter is tried at once, with all its attempts before it, and what waits behind it goes on waiting.
pub async fn a_redriven_dead_letter_is_due_at_once(operator: Arc<dyn Operator>) {
    const RULE: &str = "a redriven dead letter is due at once";
    let lease = take(&*operator, "relay").await;
    keep_it(&*operator, &lease, "a", &keep("k", Some(dead(10)), [1, 2, 3])).await;
    assert_eq!(redrive(&*operator, &any()).await, 1, "{RULE}: one dead letter");
    let redriven = front(&*operator, "k").await;
    let FrontState::Retrying { due } = redriven.state else { panic!("{RULE}: {redriven:?}") };
    assert!(due <= at(100), "{RULE}: it is due at {due}");
    assert_eq!(redriven.attempts, 0, "{RULE}: its attempts begin anew");
    assert_eq!(kept_ids(&*operator, &route("a"), &lane("k")).await.len(), 3, "{RULE}: nothing is removed");
    let counts = operator.kept_counts(&route("a")).await.expect("kept events can be counted");
    assert_eq!(counts, KeptCounts { retrying: 1, dead: 0, parked: 2, lanes: 1 }, "{RULE}");
    assert_eq!(redrive(&*operator, &any()).await, 0, "{RULE}: once");
}

/// A discarded dead letter is no dead letter any more, and stays the front until its relay has dealt with it.
pub async fn a_discarded_dead_letter_waits_for_its_removal(operator: Arc<dyn Operator>) {
    const RULE: &str = "a discarded dead letter waits for its removal";
    let lease = take(&*operator, "relay").await;
    keep_it(&*operator, &lease, "a", &keep("k", Some(dead(10)), [1, 2])).await;
    assert_eq!(discard(&*operator, &any()).await, 1, "{RULE}: one dead letter");
    let expected = FrontState::Discarded { reason: "no longer wanted".to_owned() };
    assert_eq!(front(&*operator, "k").await.state, expected, "{RULE}: with the reason");
    assert_eq!(dead_letters(&*operator, &any()).await, [], "{RULE}: it is no dead letter any more");
    assert_eq!(discard(&*operator, &any()).await, 0, "{RULE}: once");
    let gone = Settlement { discarded: true, ..known(&operator, "k", 1, Some(retrying(0))).await };
    assert_eq!(settled(&*operator, &lease, &gone).await, SettleOutcome::Left(1), "{RULE}: then the relay removes it");
    assert_eq!(front(&*operator, "k").await, retrying(0), "{RULE}: and the next is the front");
}

/// What is retried anyway, and what waits behind a front, is left alone.
pub async fn only_dead_letters_are_redriven_or_discarded(operator: Arc<dyn Operator>) {
    const RULE: &str = "only dead letters are redriven or discarded";
    let lease = take(&*operator, "relay").await;
    keep_it(&*operator, &lease, "a", &keep("r", Some(retrying(2)), [1])).await;
    keep_it(&*operator, &lease, "a", &keep("d", Some(dead(2)), [1, 2])).await;
    let kept = operator.kept(&route("a"), &lane("d"), 10).await.expect("kept events can be read");
    let parked = Selector { id: Some(kept[1].id), ..any() };
    for selector in [by_key("r"), parked] {
        assert_eq!(redrive(&*operator, &selector).await, 0, "{RULE}: {selector:?}");
        assert_eq!(discard(&*operator, &selector).await, 0, "{RULE}: {selector:?}");
    }
    assert_eq!((front(&*operator, "r").await, front(&*operator, "d").await), (retrying(2), dead(2)), "{RULE}");
}

/// Every kept event of a key goes, in every route and lane, dead, parked or retrying; others stay.
pub async fn erasing_a_key_leaves_nothing_of_it(operator: Arc<dyn Operator>) {
    const RULE: &str = "erasing a key leaves nothing of it";
    let lease = take(&*operator, "relay").await;
    keep_it(&*operator, &lease, "a", &keep("k", Some(dead(1)), [2, 3])).await;
    keep_it(&*operator, &lease, "b", &keep("k", Some(retrying(1)), [1])).await;
    let apart = Keep { lane: Lane::Event("k@1.1.0".into()), ..keep("k", Some(dead(1)), [1]) };
    keep_it(&*operator, &lease, "a", &apart).await;
    keep_it(&*operator, &lease, "a", &keep("other", Some(dead(1)), [1])).await;
    assert_eq!(operator.erase(&key("k")).await.expect("a key can be erased"), 4, "{RULE}: so many events");
    for name in ["a", "b"] {
        assert_eq!(kept_ids(&*operator, &route(name), &lane("k")).await, Vec::<String>::new(), "{RULE}: {name}");
    }
    let listed = dead_letters(&*operator, &any()).await;
    let ids: Vec<_> = listed.iter().map(|letter| letter.kept.content.id()).collect();
    assert_eq!(ids, ["other@1.1.0"], "{RULE}: others stay");
    let counts = operator.kept_counts(&route("a")).await.expect("kept events can be counted");
    assert_eq!(counts, KeptCounts { retrying: 0, dead: 1, parked: 0, lanes: 1 }, "{RULE}");
    assert_eq!(operator.erase(&key("k")).await.expect("a key can be erased again"), 0, "{RULE}: once");
    for (name, erased) in [("a", 1..=3), ("b", 1..=1)] {
        let tombstones = operator.tombstones(&route(name)).await.expect("tombstones can be read");
        assert_eq!(tombstones.len(), erased.clone().count(), "{RULE}: but tombstones: {tombstones:?}");
        keep_it(&*operator, &lease, name, &keep("k", Some(retrying(1)), erased)).await;
        let kept = kept_ids(&*operator, &route(name), &lane("k")).await;
        assert_eq!(kept, Vec::<String>::new(), "{RULE}: what is read again is not kept again");
    }
}

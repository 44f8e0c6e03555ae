//! What waits for missing entries stays within bounds, and stops when it is told to.

use super::*;

/// Events of `count` keys, each of which has entry 1 and misses entry 2.
fn gaps(count: u64) -> Vec<Event> {
    (0..count).flat_map(|key| [event(&format!("key/{key}"), 1), event(&format!("key/{key}"), 3)]).collect()
}

#[test]
fn few_entries_are_fetched_at_a_time_and_the_next_ones_once_these_are_out() {
    let mut rig = rig(observed());
    rig.read([event("a", 1), event("a", 40)]);
    rig.accept_all();
    let mut out = Vec::new();
    for expected in [2..18, 18..34, 34..40] {
        assert_eq!(rig.asked(), expected.clone().collect::<Vec<_>>());
        rig.fetched(expected.map(|sequence| found(event("a", sequence))).collect());
        while out.len() < 38 && !rig.calls.is_empty() {
            assert!(rig.fetches.is_empty(), "nothing is fetched while that waits");
            out.extend(rig.calls[0].1.clone());
            rig.accept();
        }
    }
    out.extend(rig.accept_all());
    assert_eq!(out, (2..=40).map(|sequence| format!("a@1.{sequence}.0")).collect::<Vec<_>>());
}

#[test]
fn a_number_that_is_far_beyond_the_one_before_holds_up_nobody() {
    let mut rig = rig(observed());
    rig.read([event("a", 1), event("a", 1_800_000_000_000), event("a", 1_800_000_000_001)]);
    assert!(rig.fetches.is_empty());
    assert_eq!(rig.accept_all().len(), 3);
    assert_eq!(rig.disorders, [("a".to_owned(), 1_800_000_000_000, Disorder::Leap)]);
    assert_eq!(rig.done_to(), "3");
}

#[test]
fn few_fetches_are_under_way_at_a_time_and_the_key_furthest_back_goes_first() {
    let mut rig = rig(observed());
    rig.read(gaps(10));
    let asked = |rig: &Rig| rig.fetches.iter().map(|(_, key, _)| key.to_string()).collect::<Vec<_>>();
    assert_eq!(asked(&rig), ["key/0", "key/1", "key/2", "key/3"]);
    rig.fetched(vec![found(event("key/0", 2))]);
    assert_eq!(asked(&rig), ["key/1", "key/2", "key/3", "key/4"]);
}

#[test]
fn with_a_full_window_one_key_alone_is_fetched_for_and_nothing_is_stuck() {
    let mut rig = rig(observed());
    rig.read(gaps(50));
    assert!(rig.credit.is_none(), "100 events fill the window");
    assert_eq!(rig.fetches.len(), 1);
    let mut out = Vec::new();
    while !rig.fetches.is_empty() || !rig.calls.is_empty() {
        while !rig.fetches.is_empty() {
            let key = rig.fetches[0].1.clone();
            rig.fetched(vec![found(event(key.as_str(), 2))]);
        }
        out.extend(rig.accept_all());
        rig.done_to();
    }
    assert_eq!(out.len(), 150);
    rig.done_to();
    rig.read([]);
    assert_eq!(rig.credit, Some(100), "nothing is held any more");
}

#[test]
fn what_was_fetched_counts_against_the_window_until_it_is_out() {
    let mut rig = rig(Settings { window: WindowLimits { events: 20, ..settings().window }, ..observed() });
    rig.read([event("a", 1), event("a", 18)]);
    rig.accept_all();
    rig.done_to();
    assert_eq!(rig.credit, Some(18));
    rig.credit = None;
    rig.fetched((2..18).map(|sequence| found(event("a", sequence))).collect());
    rig.read([]);
    assert_eq!(rig.credit, None, "17 of 20 are held");
    rig.accept_all();
    rig.done_to();
    rig.read([]);
    assert_eq!(rig.credit, Some(20));
}

#[test]
fn a_mark_is_remembered_for_as_long_as_its_key_waits() {
    let mut rig = rig(Settings { observed: Some(Observed { keys: 1, patience: PATIENCE }), ..settings() });
    rig.read([event("a", 1), event("a", 20), event("b", 1), event("c", 1)]);
    rig.accept_all();
    rig.fetched((2..18).map(|sequence| found(event("a", sequence))).collect());
    rig.accept_all();
    assert_eq!(rig.asked(), [18, 19]);
}

#[test]
fn a_key_that_was_forgotten_begins_anew() {
    let mut rig = rig(Settings { observed: Some(Observed { keys: 1, patience: PATIENCE }), ..settings() });
    rig.read([event("a", 5), event("b", 1), event("a", 5), event("a", 6)]);
    let mut out = rig.accept_all();
    out.sort();
    assert_eq!(out, ["a@1.5.0", "a@1.5.0", "a@1.6.0", "b@1.1.0"], "at least once");
}

#[test]
fn a_paused_route_fetches_nothing_and_goes_on_later() {
    let mut rig = rig(observed());
    rig.read([event("a", 1)]);
    rig.step(Input::Pause);
    rig.read([event("a", 3)]);
    assert!(rig.fetches.is_empty());
    rig.step(Input::Resume);
    assert_eq!(rig.asked(), [2]);
}

#[test]
fn a_drain_does_not_wait_for_what_is_missing() {
    let mut rig = rig(observed());
    rig.read([event("a", 1), event("a", 3)]);
    rig.accept_all();
    rig.step(Input::Drain);
    assert_eq!(rig.last_checkpoint(), Some("1"));
    rig.store_checkpoints();
    assert!(rig.finished);
}

#[test]
fn a_partition_does_not_end_before_what_is_missing_is_out() {
    let mut rig = rig(observed());
    let records = [(1, 1), (2, 3)].map(|(position, n)| record(position, Content::Events(event("a", n).into())));
    rig.step(Input::Read { records: records.into(), next: Position::new("end"), end: true });
    rig.accept_all();
    rig.done_to();
    assert!(!rig.finished);
    rig.fetched(vec![found(event("a", 2))]);
    rig.accept_all();
    rig.done_to();
    assert!(rig.finished);
}

//! What is missing is fetched, and goes out where it belongs.

use super::*;

/// A rig whose key `a` has entry 1 out and misses what is before `sequence`.
fn missing_before(sequence: u64, settings: Settings) -> Rig {
    let mut rig = rig(settings);
    rig.read([event("a", 1), event("a", sequence)]);
    assert_eq!(rig.accept_all(), ["a@1.1.0"]);
    rig
}

#[test]
fn what_was_fetched_goes_out_in_order_before_the_record_that_showed_the_gap() {
    let mut rig = missing_before(4, observed());
    assert_eq!(rig.asked(), [2, 3]);
    rig.fetched(vec![found(event("a", 2)), found(event("a", 3))]);
    assert_eq!(rig.accept_all(), ["a@1.2.0", "a@1.3.0", "a@1.4.0"]);
}

#[test]
fn no_checkpoint_passes_what_was_fetched_before_it_is_out() {
    let sink = SinkLimits { ordered_calls: false, ..settings().sink };
    let mut rig = missing_before(3, Settings { sink, ..observed() });
    rig.fetched(vec![found(event("a", 2))]);
    assert_eq!(rig.calls[0].1, ["a@1.2.0"]);
    assert_eq!(rig.done_to(), "1");
    rig.accept();
    assert_eq!(rig.done_to(), "", "what showed the gap is not out yet");
    rig.accept();
    assert_eq!(rig.done_to(), "2");
}

#[test]
fn what_was_fetched_is_a_duplicate_when_it_comes() {
    let mut rig = missing_before(3, observed());
    rig.fetched(vec![found(event("a", 2))]);
    rig.accept_all();
    rig.read([event("a", 2), event("a", 4)]);
    assert_eq!(rig.accept_all(), ["a@1.4.0"]);
    assert_eq!(rig.disorders, [("a".to_owned(), 2, Disorder::Duplicate)]);
    assert_eq!(rig.done_to(), "4");
}

#[test]
fn a_fetch_that_failed_is_repeated_for_as_long_as_it_fails() {
    let mut rig = missing_before(3, observed());
    for _ in 0..20 {
        let (fetch, ..) = rig.fetches.remove(0);
        rig.step(Input::FetchFailed { fetch });
        assert!(rig.fetches.is_empty(), "not at once");
        rig.wait(PATIENCE);
        assert_eq!(rig.asked(), [2], "nothing is known of it: it is never given up");
    }
    assert!(rig.gaps.is_empty() && rig.calls.is_empty());
    rig.fetched(vec![found(event("a", 2))]);
    assert_eq!(rig.accept_all(), ["a@1.2.0", "a@1.3.0"]);
}

#[test]
fn a_fetch_that_fails_again_and_again_is_repeated_after_growing_pauses() {
    let mut longest = [Duration::ZERO; 6];
    for seed in 0..50 {
        let mut rig = missing_before(3, Settings { seed, ..observed() });
        for longest in &mut longest {
            let (fetch, ..) = rig.fetches.remove(0);
            rig.step(Input::FetchFailed { fetch });
            let begun = rig.now;
            while rig.fetches.is_empty() {
                rig.wait(Duration::from_millis(10));
            }
            *longest = (*longest).max(rig.now.since(begun));
        }
    }
    let base = settings().retry.base_delay;
    assert!(longest[0] <= base + Duration::from_millis(10) && longest[5] > base * 4, "{longest:?}");
}

#[test]
fn an_entry_that_is_not_there_is_asked_for_until_patience_has_passed() {
    let mut rig = missing_before(4, observed());
    let begun = rig.now;
    let mut asked = 0;
    while rig.gaps.is_empty() {
        assert_eq!(rig.asked(), [2, 3]);
        rig.fetched(vec![None, found(event("a", 3))]);
        asked += 1;
        assert_eq!(rig.gaps.is_empty(), rig.now.since(begun) < PATIENCE);
        while rig.gaps.is_empty() && rig.fetches.is_empty() {
            rig.wait(Duration::from_millis(500));
        }
    }
    assert!(asked > 3, "asked for {asked} times");
    assert_eq!(rig.gaps, [(Key::new("a").unwrap(), vec![2])]);
    assert_eq!(rig.accept_all(), ["a@1.3.0", "a@1.4.0"], "the lane goes on without it");
    assert_eq!(rig.done_to(), "2");
}

#[test]
fn an_entry_that_was_given_up_is_published_if_it_comes_after_all() {
    let mut rig = missing_before(3, observed());
    rig.fetched(vec![None]);
    rig.wait(PATIENCE);
    rig.fetched(vec![None]);
    assert_eq!(rig.gaps, [(Key::new("a").unwrap(), vec![2])]);
    rig.accept_all();
    rig.read([event("a", 2), event("a", 3), event("a", 4)]);
    assert_eq!(rig.accept_all(), ["a@1.2.0", "a@1.4.0"]);
    let (inversion, duplicate) = (Disorder::Inversion, Disorder::Duplicate);
    assert_eq!(rig.disorders, [("a".to_owned(), 2, inversion), ("a".to_owned(), 3, duplicate)]);
}

#[test]
fn an_entry_that_comes_while_it_is_asked_for_again_ends_the_wait() {
    let mut rig = missing_before(3, observed());
    rig.fetched(vec![None]);
    rig.read([event("a", 2)]);
    assert_eq!(rig.accept_all(), ["a@1.2.0", "a@1.3.0"]);
    rig.wait(PATIENCE * 2);
    assert!(rig.fetches.is_empty() && rig.gaps.is_empty());
}

#[test]
fn patience_begins_anew_for_each_entry_that_was_found() {
    let mut rig = missing_before(4, observed());
    rig.fetched(vec![None, None]);
    rig.wait(PATIENCE);
    rig.fetched(vec![found(event("a", 2)), None]);
    assert!(rig.gaps.is_empty(), "nobody has looked for 3 alone yet");
    assert_eq!(rig.accept_all(), ["a@1.2.0"]);
    rig.wait(PATIENCE);
    rig.fetched(vec![None]);
    assert_eq!(rig.gaps, [(Key::new("a").unwrap(), vec![3])]);
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    for answer in [vec![], vec![None, None], vec![found(event("b", 2))], vec![found(event("a", 4))]] {
        let mut rig = missing_before(3, observed());
        rig.fetched(answer);
        assert!(rig.calls.is_empty() && rig.gaps.is_empty());
        rig.wait(PATIENCE);
        assert_eq!(rig.asked(), [2]);
    }
}

#[test]
fn a_key_in_trouble_has_what_is_missing_fetched_and_parked_in_order() {
    let mut rig = missing_before(3, observed());
    rig.read([event("b", 1), event("b", 4)]);
    rig.answer([refused(true)]);
    assert_eq!(rig.keep().0, ["b@1.1.0"], "what came too early is not known to be next");
    let (fetch, key, sequences) = rig.fetches.remove(1);
    assert_eq!((key.as_str(), sequences.as_slice()), ("b", &[2, 3][..]));
    rig.step(Input::Fetched { fetch, records: vec![found(event("b", 2)), found(event("b", 3))] });
    let in_order = ["b@1.2.0", "b@1.3.0", "b@1.4.0"].map(str::to_owned);
    assert_eq!(rig.keep(), (in_order.into(), true));
}

#[test]
fn what_was_fetched_is_kept_in_full_when_it_is_refused() {
    let mut rig = missing_before(3, observed());
    rig.fetched(vec![found(event("a", 2))]);
    rig.answer([refused(true), Outcome::Throttled { after: None }]);
    assert_eq!(rig.keep(), (vec!["a@1.2.0".to_owned(), "a@1.3.0".to_owned()], false));
    assert_eq!(rig.done_to(), "2");
}

#[test]
fn what_was_fetched_and_is_too_large_becomes_a_dead_letter() {
    let size = |event: &Event| if event.kind() == "huge" { 1 << 20 } else { 10 };
    let mut rig = missing_before(3, Settings { size: Arc::new(size), ..observed() });
    rig.fetched(vec![found(testing_event("huge", Some("a"), 2))]);
    let (_, _, front, ids) = rig.keeps.remove(0);
    assert_eq!(ids, ["a@1.2.0", "a@1.3.0"]);
    assert!(front.unwrap().reason.contains("1048576 bytes"));
}

#[test]
fn what_was_fetched_and_the_route_does_not_take_is_done() {
    let takes = |_: &Record, event: &Event| event.kind() != "other";
    let mut rig = missing_before(4, Settings { takes: Arc::new(takes), ..observed() });
    rig.fetched(vec![found(testing_event("other", Some("a"), 2)), found(event("a", 3))]);
    assert_eq!(rig.accept_all(), ["a@1.3.0", "a@1.4.0"]);
    assert_eq!(rig.done_to(), "2");
}

#[test]
fn what_was_fetched_and_has_been_discarded_does_not_come_again() {
    let mut rig = rig(observed());
    let carrier = Position::new("2");
    let tombstones = vec![("a@1.2.0".into(), carrier)];
    let resume = Resume { position: Position::new("0"), troubled: Vec::new(), tombstones };
    rig.pipeline = Pipeline::new(observed(), resume);
    rig.read([event("a", 1), event("a", 3)]);
    rig.fetched(vec![found(event("a", 2))]);
    assert_eq!(rig.accept_all(), ["a@1.1.0", "a@1.3.0"]);
    assert_eq!(rig.done_to(), "2");
}

#[test]
fn what_was_fetched_and_discarded_does_not_go_out_when_it_comes_at_its_own_position() {
    let discarded = vec![("a@1.2.0".into(), Position::new("7"))];
    let mut rig = rig(observed());
    rig.step(Input::Discarded { tombstones: discarded });
    rig.read([event("a", 2), event("a", 3)]);
    assert_eq!(rig.accept_all(), ["a@1.3.0"]);
    assert_eq!(rig.done_to(), "2");
}

#[test]
fn what_was_discarded_while_it_waited_to_be_parked_does_not_go_out_though_another_record_carries_it() {
    let mut rig = missing_before(3, observed());
    let lane = Lane::Key(Key::new("a").unwrap());
    rig.step(Input::Troubled { lane: lane.clone() });
    rig.fetched(vec![found(event("a", 2))]);
    let write = rig.keeps[0].0;
    rig.step(Input::Discarded { tombstones: vec![("a@1.2.0".into(), Position::new("2"))] });
    rig.step(Input::Released { lane });
    rig.step(Input::KeyFree { write });
    assert_eq!(rig.accept_all(), ["a@1.3.0"]);
}

#[test]
fn the_last_look_for_what_is_missing_is_when_patience_ends() {
    let mut rig = missing_before(3, observed());
    let begun = rig.now;
    loop {
        rig.fetched(vec![None]);
        if !rig.gaps.is_empty() {
            break;
        }
        assert!(rig.fetches.is_empty(), "not at once");
        rig.wait(rig.wake.unwrap().since(rig.now));
    }
    assert_eq!(rig.now.since(begun), PATIENCE);
}

#[test]
fn a_fetch_that_fails_when_patience_ends_is_repeated_after_a_delay() {
    let mut rig = missing_before(3, observed());
    rig.fetched(vec![None]);
    let end = rig.now + PATIENCE;
    while rig.now < end {
        rig.wait(rig.wake.unwrap().since(rig.now));
        let (fetch, ..) = rig.fetches.remove(0);
        rig.step(Input::FetchFailed { fetch });
        assert!(rig.fetches.is_empty(), "not at once");
    }
    assert_eq!(rig.now, end);
    rig.wait(PATIENCE);
    rig.fetched(vec![None]);
    assert_eq!(rig.gaps.len(), 1);
}

#[test]
fn what_comes_by_itself_while_it_is_fetched_is_taken_once() {
    let mut rig = missing_before(4, observed());
    rig.read([event("a", 3)]);
    rig.fetched(vec![found(event("a", 2)), found(event("a", 3))]);
    assert_eq!(rig.accept_all(), ["a@1.2.0", "a@1.3.0", "a@1.4.0"]);
    assert_eq!(rig.disorders, []);
    assert_eq!(rig.done_to(), "3");
}

#[test]
fn what_was_fetched_for_an_entry_that_the_route_does_not_take_goes_out() {
    let takes = |_: &Record, event: &Event| event.kind() != "other";
    let mut rig = rig(Settings { takes: Arc::new(takes), ..observed() });
    rig.read([event("a", 1), testing_event("other", Some("a"), 4)]);
    rig.accept_all();
    rig.fetched(vec![found(event("a", 2)), found(event("a", 3))]);
    assert_eq!(rig.accept_all(), ["a@1.2.0", "a@1.3.0"]);
    assert_eq!(rig.done_to(), "2");
}

//! A key's events leave in their order, its front first, in calls and pages that stay within limits.

use super::*;

#[test]
fn the_front_leaves_first_and_the_next_event_only_when_it_is_settled() {
    let mut rig = rig(singly());
    rig.keep("a", 1..=3);
    assert_eq!(rig.calls.len(), 1);
    assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
    rig.answer_only([Outcome::Accepted]);
    assert!(rig.calls.is_empty(), "not before the bookkeeping knows of the first");
    rig.serve();
    assert_eq!(rig.accept(), ["a@1.2.0"]);
    assert_eq!(rig.accept(), ["a@1.3.0"]);
    assert!(rig.calls.is_empty() && rig.left("a").is_empty());
}

#[test]
fn events_of_a_key_share_a_call_where_the_sink_keeps_order() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=3);
    assert_eq!(rig.accept(), ["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
}

#[test]
fn behind_the_first_that_is_not_accepted_nothing_counts_as_done() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=5);
    let stopped = Outcome::Throttled { after: None };
    rig.answer([Outcome::Accepted, Outcome::Accepted, refused(true), Outcome::Accepted, stopped]);
    assert_eq!(rig.left("a"), ["a@1.3.0", "a@1.4.0", "a@1.5.0"]);
    assert_eq!(rig.plan("a"), &FrontPlan::Dead);
    rig.wait(seconds(3600));
    assert!(rig.calls.is_empty(), "the followers wait behind the dead letter");
}

#[test]
fn a_key_is_released_when_its_last_event_is_settled_and_not_before() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.answer_only([Outcome::Accepted, Outcome::Accepted]);
    assert!(rig.released.is_empty() && rig.keeper.lanes() == 1);
    rig.store_settle();
    assert_eq!(rig.released, [lane("a")]);
    assert_eq!(rig.keeper.lanes(), 0);
}

#[test]
fn an_event_parked_while_the_front_is_under_way_goes_out_behind_it_before_the_key_is_released() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.park("a", [event("a", 2)]);
    assert_eq!(rig.accept(), ["a@1.1.0"]);
    assert!(rig.released.is_empty());
    assert_eq!(rig.accept(), ["a@1.2.0"]);
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn a_key_that_waits_does_not_hold_up_another() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.answer([throttled(3600), throttled(3600)]);
    rig.keep("b", 1..=2);
    assert_eq!(rig.accept(), ["b@1.1.0", "b@1.2.0"]);
    assert_eq!(rig.released, [lane("b")]);
}

#[test]
fn a_key_is_in_one_call_at_a_time_whatever_is_told_of_it() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.step(Input::Troubles(rig.troubles()));
    let again = rig.trouble(&lane("a")).unwrap();
    rig.step(Input::Trouble(again));
    rig.wait(seconds(3600));
    assert_eq!(rig.calls.len(), 1);
}

#[test]
fn a_call_honours_both_count_and_bytes() {
    let sink = SinkLimits { max_events: 3, max_bytes: 25, ..settings().sink };
    let mut by_bytes = rig(Settings { sink, size: Arc::new(|_| 10), ..settings() });
    by_bytes.keep("a", 1..=5);
    assert_eq!(by_bytes.accept(), ["a@1.1.0", "a@1.2.0"], "three events have 30 bytes");
    let mut by_count = rig(Settings { sink, size: Arc::new(|_| 1), ..settings() });
    by_count.keep("a", 1..=5);
    assert_eq!(by_count.accept(), ["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
}

#[test]
fn no_more_than_half_of_the_sinks_calls_are_taken() {
    let mut rig = rig(settings());
    for key in ["a", "b", "c", "d"] {
        rig.keep(key, [1]);
    }
    assert_eq!(rig.calls.len(), 2, "of four");
    rig.accept();
    assert_eq!(rig.calls.len(), 2);
}

#[test]
fn a_long_lane_is_read_by_the_page() {
    for (settings, page) in [(settings(), 100), (singly(), 16)] {
        let mut rig = rig(settings);
        rig.open("a", FrontPlan::Retry(Duration::ZERO), (1..=250).map(|sequence| event("a", sequence)));
        let mut published = Vec::new();
        while published.len() < 250 {
            if let Some((_, _, limit)) = rig.loads.first() {
                assert_eq!(*limit, page);
                rig.answer_load();
            } else if rig.settles.is_empty() {
                let events = rig.calls[0].1.clone();
                rig.answer_only(vec![Outcome::Accepted; events.len()]);
                published.extend(events);
            } else {
                rig.store_settle();
            }
        }
        let in_order: Vec<_> = (1..=250).map(|sequence| format!("a@1.{sequence}.0")).collect();
        assert_eq!(published, in_order);
    }
}

#[test]
fn a_long_lane_does_not_keep_the_others_waiting_to_its_end() {
    let sink = SinkLimits { max_calls: 1, ..singly().sink };
    let mut rig = rig(Settings { sink, ..settings() });
    rig.keep("long", 1..=100);
    rig.keep("short", [1]);
    let before = (0..100).take_while(|_| rig.accept() != ["short@1.1.0"]).count();
    assert!(before <= 16, "{before} events of the other key went first");
}

#[test]
fn while_settlements_are_not_answered_only_so_much_is_begun() {
    let mut rig = rig(singly());
    for number in 0..100 {
        let key = format!("key/{number}");
        let events = [event(&key, 1), event(&key, 2)];
        rig.open(&key, FrontPlan::Retry(Duration::ZERO), events);
    }
    while !rig.loads.is_empty() || !rig.calls.is_empty() {
        if rig.loads.is_empty() {
            rig.answer_only([Outcome::Accepted]);
        } else {
            rig.answer_load();
        }
    }
    assert_eq!(rig.settles.len(), 9, "four for each of two calls, and that of a call under way by then");
    for _ in 0..200 {
        rig.serve();
        while !rig.calls.is_empty() {
            rig.accept();
        }
    }
    assert_eq!(rig.released.len(), 100, "it goes on when they are");
}

#[test]
fn an_event_that_is_too_large_becomes_a_dead_letter_without_a_call() {
    let sink = SinkLimits { max_event_bytes: 5, ..settings().sink };
    let size = |event: &Event| if event.id() == "a@1.2.0" { 6 } else { 5 };
    let mut rig = rig(Settings { sink, size: Arc::new(size), ..settings() });
    rig.keep("a", 1..=3);
    assert_eq!(rig.accept(), ["a@1.1.0"]);
    assert_eq!((rig.left("a").len(), rig.plan("a")), (2, &FrontPlan::Dead));
    assert!(rig.calls.is_empty());
}

#[test]
fn a_row_that_cannot_be_read_is_a_dead_letter_when_it_comes_to_the_front() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Retry(Duration::ZERO), [event("a", 1), row("row/2", "a"), event("a", 3)]);
    rig.serve();
    assert_eq!(rig.accept(), ["a@1.1.0"]);
    assert_eq!(rig.left("a"), ["row/2", "a@1.3.0"]);
    assert_eq!(rig.plan("a"), &FrontPlan::Dead);
}

#[test]
fn what_is_under_way_is_counted_and_known_by_its_lane() {
    let mut rig = rig(settings());
    assert_eq!(rig.keeper.in_flight(), 0);
    rig.keep("a", 1..=2);
    rig.keep("b", [1]);
    rig.keep("c", [1]);
    assert_eq!(rig.keeper.in_flight(), 3);
    let publishing = |rig: &Rig| ["a", "b", "c"].map(|key| rig.keeper.is_publishing(&lane(key)));
    assert_eq!(publishing(&rig), [true, true, false]);
    rig.accept();
    assert_eq!((rig.keeper.in_flight(), publishing(&rig)), (2, [false, true, true]));
}

#[test]
fn a_dead_letter_says_why_it_can_never_go_out() {
    let sink = SinkLimits { max_event_bytes: 5, ..settings().sink };
    let mut rig = rig(Settings { sink, size: Arc::new(|_| 6), ..settings() });
    rig.open("a", FrontPlan::Retry(Duration::ZERO), [event("a", 1)]);
    rig.open("b", FrontPlan::Retry(Duration::ZERO), [row("row/1", "b")]);
    rig.answer_load();
    rig.answer_load();
    let reasons: Vec<_> = rig.settles.iter().map(|settle| settle.front.as_ref().unwrap().reason.as_str()).collect();
    assert_eq!(reasons, ["the event is larger than the 5 bytes that the sink takes", "rubbish"]);
}

#[test]
fn an_event_as_large_as_the_sink_takes_goes_out() {
    let sink = SinkLimits { max_event_bytes: 5, max_bytes: 10, ..settings().sink };
    let mut rig = rig(Settings { sink, size: Arc::new(|_| 5), ..settings() });
    rig.keep("a", 1..=3);
    assert_eq!(rig.accept(), ["a@1.1.0", "a@1.2.0"]);
}

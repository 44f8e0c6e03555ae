//! The sink as a whole: down, throttling, back; and what a route is told to do.

use super::*;

#[test]
fn a_sink_that_is_down_makes_no_dead_letter_and_counts_no_attempt() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    for _ in 0..50 {
        rig.wait_for_call();
        rig.fail(Fault::Sink, None);
    }
    let front = &rig.store[&lane("a")];
    assert_eq!((front.attempts, &front.plan), (0, &FrontPlan::Retry(Duration::ZERO)));
    assert!(matches!(rig.health[..], [Health::BackingOff { .. }]), "{:?}", rig.health);
    rig.wait_for_call();
    while !rig.calls.is_empty() {
        rig.accept();
    }
    assert_eq!(rig.health.last(), Some(&Health::Flowing));
    assert!(rig.left("a").is_empty());
}

#[test]
fn whether_the_sink_is_back_is_asked_with_one_call_of_one_event() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=3);
    rig.keep("b", 1..=3);
    rig.keep("c", 1..=3);
    rig.fail(Fault::Sink, None);
    rig.fail(Fault::Sink, None);
    assert!(rig.calls.is_empty());
    rig.wait_for_call();
    rig.wait(seconds(1));
    assert_eq!(rig.calls.len(), 1);
    assert_eq!(rig.calls[0].1.len(), 1, "{:?}", rig.calls[0].1);
    rig.accept();
    assert_eq!(rig.calls.len(), 2, "all flows again");
}

#[test]
fn a_sink_that_asks_for_a_pause_is_left_alone_for_so_long() {
    for fault in [Fault::Throttle, Fault::Sink] {
        let mut rig = rig(settings());
        rig.keep("a", [1]);
        rig.fail(fault, Some(seconds(40)));
        rig.wait(seconds(39));
        assert!(rig.calls.is_empty(), "{fault:?}");
        rig.wait(seconds(2));
        assert!(!rig.calls.is_empty(), "{fault:?}");
        assert_eq!(rig.store[&lane("a")].attempts, 0);
    }
}

#[test]
fn what_the_pipeline_had_accepted_ends_the_backoff() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.fail(Fault::Sink, None);
    assert!(rig.calls.is_empty());
    rig.step(Input::OthersAccepted);
    rig.serve();
    assert_eq!(rig.calls.len(), 1);
    assert_eq!(rig.health.last(), Some(&Health::Flowing));
}

#[test]
fn a_paused_route_makes_no_call_until_it_is_resumed() {
    let mut rig = rig(settings());
    rig.step(Input::Pause);
    rig.keep("a", [1]);
    rig.wait(seconds(3600));
    assert!(rig.calls.is_empty() && rig.loads.is_empty());
    rig.step(Input::Resume);
    rig.serve();
    assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
}

#[test]
fn a_drain_makes_no_new_call_and_ends_when_the_last_settlement_is_stored() {
    let mut rig = rig(singly());
    rig.keep("a", 1..=2);
    rig.step(Input::Drain);
    rig.keep("b", [1]);
    assert!(!rig.finished, "a call is under way");
    assert_eq!(rig.calls.len(), 1);
    rig.answer_only([Outcome::Accepted]);
    assert!(!rig.finished, "its answer is not stored");
    rig.serve();
    assert!(rig.finished && rig.calls.is_empty());
    assert_eq!(rig.left("a"), ["a@1.2.0"]);
}

#[test]
fn after_the_lease_is_lost_nothing_is_done() {
    let mut rig = rig(singly());
    rig.keep("a", 1..=2);
    rig.step(Input::LeaseLost);
    rig.answer_only([Outcome::Accepted]);
    rig.keep("b", [1]);
    rig.wait(seconds(3600));
    assert!(rig.settles.is_empty() && rig.calls.is_empty() && rig.loads.is_empty());
}

#[test]
fn a_lane_that_could_not_be_read_is_read_again() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Retry(Duration::ZERO), [event("a", 1)]);
    let (load, ..) = rig.loads.remove(0);
    rig.step(Input::LoadFailed { load });
    assert!(rig.loads.is_empty(), "not at once");
    rig.wait_for_call();
    assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
}

#[test]
fn the_same_inputs_give_the_same_calls() {
    let run = || {
        let mut rig = rig(singly());
        let mut trace = Vec::new();
        for key in ["a", "b", "c"] {
            rig.keep(key, 1..=3);
        }
        for number in 0..60 {
            if let Some(call) = rig.calls.first() {
                trace.push((rig.now, call.1.clone()));
                if number % 3 == 0 { rig.answer([refused(false)]) } else { drop(rig.accept()) }
            }
            rig.wait(Duration::from_millis(37));
        }
        trace
    };
    assert_eq!(run(), run());
}

#[test]
fn a_keeper_whose_last_lane_is_erased_ceases_to_back_off() {
    for fault in [Fault::Sink, Fault::Unknown, Fault::Throttle] {
        let mut rig = rig(settings());
        rig.keep("a", [1]);
        for _ in 0..3 {
            rig.wait_for_call();
            rig.fail(fault, Some(seconds(40)));
        }
        assert!(matches!(rig.health.last(), Some(Health::BackingOff { .. })), "{fault:?}");
        rig.store.remove(&lane("a"));
        rig.step(Input::Troubles(Vec::new()));
        while rig.keeper.lanes() > 0 {
            rig.wait(seconds(1));
        }
        assert_eq!(rig.health.last(), Some(&Health::Flowing), "{fault:?}");
    }
}

#[test]
fn a_drain_is_undone_neither_by_a_pause_nor_by_a_resume() {
    for then in [Input::Pause, Input::Resume] {
        let mut rig = rig(singly());
        rig.keep("a", 1..=2);
        rig.step(Input::Drain);
        rig.step(then.clone());
        rig.step(Input::Resume);
        rig.accept();
        assert!(rig.calls.is_empty() && rig.finished, "{then:?}");
    }
}

#[test]
fn a_wish_to_be_woken_is_said_once_and_followed_by_the_next_one() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    assert_eq!(rig.wake, None);
    rig.answer([throttled(30)]);
    assert_eq!(rig.wake.take(), Some(rig.now + seconds(30)));
    rig.step(Input::Tick);
    assert_eq!(rig.wake, None, "the shell knows of it");
    rig.keep("b", [1]);
    rig.fail(Fault::Throttle, Some(seconds(20)));
    rig.wait(seconds(20));
    assert_eq!(rig.calls.remove(0).1, ["b@1.1.0"]);
    rig.wait(seconds(10));
    assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
}

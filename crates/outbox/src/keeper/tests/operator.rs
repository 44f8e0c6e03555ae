//! What an operator asks for, and what a restart finds.

use super::*;

fn discard() -> FrontPlan {
    FrontPlan::Discard("obsolete".to_owned())
}

#[test]
fn a_redrive_sends_the_dead_letter_and_then_what_is_parked_behind_it() {
    let mut rig = rig(singly());
    rig.keep("a", [1]);
    rig.answer([refused(true)]);
    rig.park("a", [event("a", 2), event("a", 3)]);
    rig.redrive("a");
    rig.serve();
    let sent: Vec<_> = (0..3).flat_map(|_| rig.accept()).collect();
    assert_eq!(sent, ["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn a_redriven_event_has_all_its_attempts_again() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.answer([refused(true)]);
    rig.redrive("a");
    rig.serve();
    rig.answer([refused(false)]);
    assert_eq!(rig.store[&lane("a")].attempts, 1);
    assert_ne!(rig.plan("a"), &FrontPlan::Dead);
}

#[test]
fn a_redrive_while_the_lane_is_being_read_is_not_missed() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Dead, [event("a", 1)]);
    let (load, lane, _) = rig.loads.remove(0);
    let before = rig.trouble(&lane);
    let kept = rig.store[&lane].kept.clone();
    rig.redrive("a");
    rig.step(Input::Loaded { load, trouble: before, kept });
    rig.wait(seconds(1));
    assert_eq!(rig.calls.len(), 1, "the lane was read before the redrive");
}

#[test]
fn a_discarded_event_leaves_a_marker_in_its_place_and_then_the_followers_go() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=3);
    rig.answer([refused(true), throttled(0), throttled(0)]);
    rig.operate("a", discard());
    rig.serve();
    assert_eq!(rig.calls[0].1, ["marker a@1.1.0"]);
    rig.answer_only([Outcome::Accepted]);
    assert!(rig.settles[0].discarded, "so that it leaves a tombstone");
    assert_eq!(rig.settles[0].remove.len(), 1);
    rig.serve();
    rig.answer_only([Outcome::Accepted, Outcome::Accepted]);
    assert!(!rig.settles[0].discarded);
    rig.serve();
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn where_nobody_counts_a_discarded_event_goes_without_a_marker() {
    let mut rig = rig(Settings { gapless: false, ..settings() });
    rig.open("a", discard(), [event("a", 1), event("a", 2)]);
    rig.answer_load();
    assert!(rig.calls.is_empty() && rig.settles[0].discarded);
    rig.serve();
    assert_eq!(rig.accept(), ["a@1.2.0"]);
}

#[test]
fn further_copies_of_a_discarded_event_are_dropped_wherever_they_are_kept() {
    let mut rig = rig(settings());
    rig.open("a", discard(), [event("a", 1), event("a", 2), event("a", 1), event("a", 1), event("a", 3)]);
    rig.serve();
    rig.answer_only([Outcome::Accepted]);
    rig.step(Input::Discarded { ids: vec!["a@1.1.0".into()] });
    rig.serve();
    assert_eq!(rig.accept(), ["a@1.2.0"]);
    assert_eq!(rig.accept(), ["a@1.3.0"]);
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn a_marker_is_tried_until_it_is_accepted_and_the_event_stays_discarded() {
    let mut rig = rig(settings());
    rig.open("a", discard(), [event("a", 1)]);
    rig.serve();
    for _ in 0..10 {
        rig.wait_for_call();
        assert_eq!(rig.calls[0].1, ["marker a@1.1.0"]);
        rig.answer([refused(false)]);
        assert_eq!(rig.plan("a"), &discard());
    }
    rig.wait_for_call();
    rig.fail(Fault::Unknown, None);
    rig.wait_for_call();
    assert_eq!(rig.accept(), ["marker a@1.1.0"]);
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn an_event_whose_marker_is_refused_for_good_goes_without_one() {
    let mut rig = rig(settings());
    rig.open("a", discard(), [event("a", 1), event("a", 2)]);
    rig.serve();
    rig.answer_only([refused(true)]);
    assert!(rig.settles[0].discarded && rig.settles[0].remove.len() == 1);
    rig.serve();
    assert_eq!(rig.accept(), ["a@1.2.0"]);
}

#[test]
fn a_discarded_row_that_cannot_be_read_goes_without_a_marker() {
    let mut rig = rig(settings());
    rig.open("a", discard(), [row("row/1", "a"), event("a", 2)]);
    rig.serve();
    assert_eq!(rig.left("a"), ["a@1.2.0"]);
    assert_eq!(rig.accept(), ["a@1.2.0"]);
}

#[test]
fn the_follower_of_a_discarded_event_has_not_failed_yet() {
    for gapless in [true, false] {
        let mut rig = rig(Settings { gapless, sink: singly().sink, ..settings() });
        rig.keep("a", 1..=2);
        rig.answer([refused(true)]);
        rig.wait(seconds(3600));
        rig.operate("a", discard());
        rig.serve();
        if gapless {
            rig.accept();
        }
        rig.answer([refused(false)]);
        let front = &rig.store[&lane("a")];
        assert_eq!((front.attempts, front.failed_since), (1, rig.now), "gapless: {gapless}");
    }
}

#[test]
fn what_was_erased_is_released_after_a_look_at_the_lane() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.answer([refused(true)]);
    rig.store.remove(&lane("a"));
    rig.step(Input::Troubles(Vec::new()));
    assert!(rig.released.is_empty(), "the list may be older than the trouble");
    rig.serve();
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn what_was_erased_while_it_waited_for_the_sink_is_not_published() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=4);
    rig.fail(Fault::Unknown, Some(seconds(60)));
    rig.store.remove(&lane("a"));
    rig.step(Input::Troubles(Vec::new()));
    rig.wait(seconds(61));
    assert!(rig.calls.is_empty(), "{:?}", rig.calls);
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn after_a_restart_a_dead_letter_still_holds_back_what_is_parked_behind_it() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Dead, [event("a", 1), event("a", 2)]);
    rig.serve();
    rig.wait(seconds(86_400));
    assert!(rig.calls.is_empty() && rig.released.is_empty());
    assert_eq!(rig.keeper.lanes(), 1);
}

#[test]
fn after_a_restart_a_front_waits_for_the_rest_of_its_delay_and_has_the_rest_of_its_attempts() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Retry(seconds(20)), [event("a", 1), event("a", 2)]);
    rig.store.get_mut(&lane("a")).unwrap().attempts = 2;
    rig.keeper = Keeper::new(settings());
    rig.now = rig.now + seconds(5);
    rig.step(Input::Trouble(rig.trouble(&lane("a")).unwrap()));
    assert_eq!(rig.wake, Some(rig.now + seconds(15)));
    rig.wait(seconds(14));
    assert!(rig.calls.is_empty());
    rig.wait(seconds(1));
    rig.answer([refused(false), throttled(0)]);
    assert_eq!(rig.plan("a"), &FrontPlan::Dead, "the third of three attempts");
}

#[test]
fn a_keep_that_is_stored_again_after_a_lost_answer_does_not_hide_what_an_operator_did() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Dead, [event("a", 1)]);
    let first = rig.trouble(&lane("a")).unwrap();
    rig.serve();
    rig.redrive("a");
    rig.step(Input::Trouble(first));
    rig.serve();
    assert_eq!(rig.calls.len(), 1);
}

#[test]
fn a_lane_whose_front_is_stored_again_is_looked_at_for_what_an_operator_did_since() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Retry(seconds(20)), [event("a", 1)]);
    let first = rig.trouble(&lane("a")).unwrap();
    rig.store.get_mut(&lane("a")).unwrap().plan = FrontPlan::Retry(Duration::ZERO);
    rig.step(Input::Trouble(first));
    rig.serve();
    assert_eq!(rig.calls.len(), 1);
}

#[test]
fn another_trouble_of_a_lane_is_as_it_was_told() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Dead, [event("a", 1)]);
    rig.serve();
    rig.open("a", FrontPlan::Retry(seconds(20)), [event("a", 2)]);
    assert_eq!((rig.loads.len(), rig.wake), (0, Some(rig.now + seconds(20))));
    rig.wait(seconds(20));
    assert_eq!(rig.calls[0].1, ["a@1.2.0"]);
}

#[test]
fn the_follower_of_a_discarded_event_may_be_discarded_too() {
    let mut rig = rig(settings());
    rig.open("a", discard(), [event("a", 1), event("a", 2)]);
    rig.serve();
    rig.answer_only([Outcome::Accepted]);
    let (write, outcome) = rig.carry_out();
    rig.store.get_mut(&lane("a")).unwrap().plan = discard();
    rig.step(Input::Settled { write, outcome });
    rig.serve();
    assert_eq!(rig.calls[0].1, ["marker a@1.2.0"]);
}

#[test]
fn a_discarded_event_without_a_place_goes_without_a_marker() {
    let mut rig = rig(settings());
    let unplaced = KeptContent::Event(testing_event("order.placed", None, 1));
    rig.open("a", discard(), [unplaced, event("a", 2)]);
    rig.serve();
    assert_eq!(rig.left("a"), ["a@1.2.0"]);
    assert_eq!(rig.accept(), ["a@1.2.0"]);
}

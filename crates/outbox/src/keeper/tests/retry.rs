//! Whose fault it was, and what follows for the front.

use jiff::{Timestamp, ToSpan as _};

use super::*;
use crate::{
    bookkeeping::{FrontState, Trouble},
    route::AfterDeadLetter,
};

fn going_on() -> Settings {
    let retry = RetryPolicy { after_dead_letter: AfterDeadLetter::Continue, ..settings().retry };
    Settings { retry, gapless: false, ..settings() }
}

/// The one event of `key` fails without a name, while another key's events are accepted, until it is dead.
fn fail_until_dead(rig: &mut Rig, key: &str) -> Duration {
    let begun = rig.now;
    while rig.plan(key) != &FrontPlan::Dead {
        rig.wait_for_call();
        rig.fail(Fault::Unknown, None);
        rig.wait(Duration::from_millis(1));
        rig.step(Input::OthersAccepted);
        rig.serve();
        assert!(rig.now.since(begun) < seconds(86_400), "never a dead letter");
    }
    rig.now.since(begun)
}

#[test]
fn a_refused_front_is_tried_again_after_its_delay_and_no_sooner() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.answer_only([refused(false), throttled(1)]);
    let front = rig.settles[0].front.clone().unwrap();
    let delay = front.retry_in.unwrap();
    assert!(rig.settles[0].remove.is_empty() && delay > Duration::ZERO);
    assert_eq!((front.attempts, front.reason.as_str()), (1, "no"));
    rig.serve();
    assert_eq!(rig.wake, Some(rig.now + delay));
    rig.wait(delay.checked_sub(Duration::from_nanos(1)).unwrap());
    assert!(rig.calls.is_empty());
    rig.wait(Duration::from_nanos(1));
    assert_eq!(rig.calls[0].1, ["a@1.1.0", "a@1.2.0"]);
}

#[test]
fn a_look_at_the_store_cuts_no_delay_short_that_the_target_asked_for() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.answer([throttled(60)]);
    // As when an operator does something else to the route.
    rig.step(Input::Troubles(rig.troubles()));
    rig.serve();
    rig.wait(seconds(59));
    assert!(rig.calls.is_empty(), "a second too early");
    rig.wait(seconds(1));
    assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
}

#[test]
fn a_wall_clock_that_was_set_back_holds_a_front_back_for_no_longer_than_the_longest_delay() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Dead, [event("a", 1), event("a", 2)]);
    rig.serve();
    // It was redriven at once, by a clock that is hours ahead of the one that the relay has now.
    rig.operate("a", FrontPlan::Retry(seconds(6 * 3600)));
    rig.serve();
    assert!(rig.calls.is_empty(), "too early for the first attempt");
    rig.wait(settings().retry.max_delay);
    assert_eq!(rig.calls[0].1, ["a@1.1.0", "a@1.2.0"]);
    // The same clock says when the next one fails; its own delay counts from then.
    rig.answer([Outcome::Accepted, refused(false)]);
    assert!(rig.calls.is_empty());
    rig.store.get_mut(&lane("a")).unwrap().plan = FrontPlan::Retry(seconds(6 * 3600));
    rig.wait(settings().retry.max_delay);
    assert_eq!(rig.calls[0].1, ["a@1.2.0"]);
}

#[test]
fn a_front_comes_back_from_the_store_with_its_attempts_and_as_much_older_as_the_wall_says() {
    let wall = Timestamp::UNIX_EPOCH + 1000.hours();
    let reason = "no".to_owned();
    let draft = FrontDraft { retry_in: Some(seconds(100)), attempts: 2, failed_for: seconds(7), reason };
    let trouble = |draft: &FrontDraft| Trouble { lane: lane("a"), generation: 5, front: draft.at(wall), kept: 3 };
    let again = |later| TroubleDraft::at(&trouble(&draft), wall + later);
    let told = again(30.seconds());
    assert_eq!((told.lane, told.generation, told.attempts), (lane("a"), 5, 2));
    assert_eq!((told.state, told.failed_for), (FrontPlan::Retry(seconds(70)), seconds(37)));
    assert_eq!(again(101.seconds()).state, FrontPlan::Retry(Duration::ZERO), "it is due");
    let earlier = again(-8.seconds());
    assert_eq!((earlier.state, earlier.failed_for), (FrontPlan::Retry(seconds(108)), Duration::ZERO));
    let mut dead = trouble(&FrontDraft { retry_in: None, ..draft.clone() });
    assert_eq!(TroubleDraft::at(&dead, wall).state, FrontPlan::Dead);
    dead.front.state = FrontState::Discarded { reason: "not needed".to_owned() };
    assert_eq!(TroubleDraft::at(&dead, wall).state, FrontPlan::Discard("not needed".to_owned()));
}

#[test]
fn delays_grow_from_attempt_to_attempt() {
    let mut longest = [Duration::ZERO; 6];
    for seed in 0..50 {
        let retry = RetryPolicy { attempts: 100, ..settings().retry };
        let mut rig = rig(Settings { retry, seed, ..settings() });
        rig.keep("a", [1]);
        for longest in &mut longest {
            rig.wait_for_call();
            rig.answer_only([refused(false)]);
            let front = rig.settles[0].front.clone().unwrap();
            *longest = (*longest).max(front.retry_in.unwrap());
            rig.serve();
        }
    }
    assert!(longest[0] <= Duration::from_millis(200), "{longest:?}");
    assert!(longest[5] > Duration::from_secs(3), "{longest:?}");
}

#[test]
fn refusals_make_a_dead_letter_only_when_the_attempts_are_used_up() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    for attempt in 1..=3 {
        rig.wait_for_call();
        rig.answer([refused(false)]);
        assert_eq!(rig.store[&lane("a")].attempts, attempt);
        assert_eq!(rig.plan("a") == &FrontPlan::Dead, attempt == 3, "attempt {attempt}");
    }
    rig.wait(seconds(86_400));
    assert!(rig.calls.is_empty(), "a dead letter is not tried again by itself");
}

#[test]
fn a_permanent_refusal_makes_a_dead_letter_at_once() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.answer([refused(true)]);
    assert_eq!((rig.plan("a"), rig.store[&lane("a")].attempts), (&FrontPlan::Dead, 1));
}

#[test]
fn the_next_front_begins_to_count_anew() {
    let mut rig = rig(singly());
    rig.keep("a", 1..=2);
    rig.answer([refused(false)]);
    rig.wait_for_call();
    assert_eq!(rig.accept(), ["a@1.1.0"]);
    assert_eq!(rig.store[&lane("a")].attempts, 0);
    rig.answer([refused(false)]);
    let front = &rig.store[&lane("a")];
    assert_eq!((front.attempts, front.failed_since), (1, rig.now));
}

#[test]
fn how_long_a_front_has_failed_is_counted_from_its_first_failure() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    let first = rig.now;
    rig.answer([refused(false)]);
    rig.wait_for_call();
    rig.wait(seconds(7));
    rig.answer([refused(false)]);
    assert_eq!(rig.store[&lane("a")].failed_since, first);
}

#[test]
fn with_continue_a_dead_letter_moves_to_a_lane_of_its_own_in_one_write_and_its_key_goes_on() {
    let mut rig = rig(going_on());
    rig.keep("a", 1..=2);
    rig.answer_only([refused(true), throttled(0)]);
    let settle = rig.settles[0].clone();
    let (lane_apart, front) = settle.apart.unwrap();
    assert_eq!((lane_apart, front.retry_in), (Lane::Event("a@1.1.0".into()), None));
    assert_eq!(settle.remove.len(), 1);
    assert!(rig.calls.is_empty(), "nothing passes it before it is stored");
    rig.serve();
    assert_eq!(rig.keeper.troubled().collect::<Vec<_>>(), [&lane("a"), &Lane::Event("a@1.1.0".into())]);
    assert_eq!(rig.left("a"), ["a@1.2.0"]);
    assert_eq!(rig.accept(), ["a@1.2.0"]);
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn with_continue_a_dead_letter_behind_what_was_accepted_is_not_tried_again() {
    let mut rig = rig(going_on());
    rig.keep("a", 1..=3);
    rig.answer([Outcome::Accepted, refused(true), throttled(0)]);
    assert_eq!(rig.calls.last().map(|call| &call.1[..]), Some(&["a@1.3.0".to_owned()][..]));
    assert_eq!(rig.store[&Lane::Event("a@1.2.0".into())].plan, FrontPlan::Dead);
}

#[test]
fn with_continue_a_dead_letter_that_could_not_be_stored_is_not_passed() {
    let mut rig = rig(going_on());
    rig.keep("a", 1..=2);
    rig.answer_only([refused(true), throttled(0)]);
    let settle = rig.settles.remove(0);
    rig.step(Input::StoreFailed { write: settle.write });
    assert_eq!(rig.left("a"), ["a@1.1.0", "a@1.2.0"]);
    rig.wait_for_call();
    assert_eq!(rig.calls[0].1, ["a@1.2.0"], "it was stored the second time");
    assert_eq!(rig.store[&Lane::Event("a@1.1.0".into())].plan, FrontPlan::Dead);
}

#[test]
fn with_continue_a_dead_letter_whose_move_was_not_confirmed_can_be_redriven() {
    for sequences in [1..=1, 1..=2] {
        let mut rig = rig(going_on());
        rig.keep("a", sequences.clone());
        rig.answer_only(vec![refused(true); sequences.count()]);
        let (write, _) = rig.carry_out();
        rig.step(Input::StoreFailed { write });
        rig.wait(seconds(3600));
        rig.calls.clear();
        let alone = Lane::Event("a@1.1.0".into());
        rig.store.get_mut(&alone).unwrap().plan = FrontPlan::Retry(Duration::ZERO);
        rig.step(Input::Troubles(rig.troubles()));
        rig.serve();
        assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
    }
}

#[test]
fn with_continue_the_follower_of_a_dead_letter_has_not_failed_yet() {
    let mut rig = rig(Settings { sink: singly().sink, ..going_on() });
    rig.keep("a", 1..=2);
    rig.answer([refused(false)]);
    rig.wait(seconds(3600));
    rig.answer([refused(true)]);
    assert_eq!(rig.calls[0].1, ["a@1.2.0"]);
    rig.answer([refused(false)]);
    assert_eq!(rig.store[&lane("a")].failed_since, rig.now);
}

#[test]
fn failures_that_name_nobody_count_only_while_others_are_accepted() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    for _ in 0..20 {
        rig.wait_for_call();
        rig.fail(Fault::Unknown, None);
    }
    assert_eq!((rig.store[&lane("a")].attempts, rig.plan("a")), (0, &FrontPlan::Retry(Duration::ZERO)));
    rig.wait(Duration::from_millis(1));
    rig.step(Input::OthersAccepted);
    rig.wait_for_call();
    rig.fail(Fault::Unknown, None);
    assert_eq!(rig.store[&lane("a")].attempts, 1);
}

#[test]
fn failures_that_name_nobody_make_a_dead_letter_only_after_a_long_time() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    let time = fail_until_dead(&mut rig, "a");
    assert!(time >= settings().retry.doubt, "{time:?}");
    assert!(rig.store[&lane("a")].attempts >= 3);
}

#[test]
fn failures_that_name_nobody_make_a_dead_letter_only_after_the_attempts() {
    let retry = RetryPolicy { attempts: 200, ..settings().retry };
    let mut rig = rig(Settings { retry, ..settings() });
    rig.keep("a", [1]);
    fail_until_dead(&mut rig, "a");
    assert_eq!(rig.store[&lane("a")].attempts, 200);
}

fn failed() -> Outcome {
    Outcome::Failed { reason: "internal error".to_owned() }
}

#[test]
fn an_event_that_fails_by_itself_while_others_are_accepted_is_a_dead_letter_in_the_end() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    let begun = rig.now;
    while rig.plan("a") != &FrontPlan::Dead {
        rig.wait_for_call();
        rig.answer([failed()]);
        rig.wait(Duration::from_millis(1));
        rig.step(Input::OthersAccepted);
        assert!(rig.now.since(begun) < seconds(86_400), "never a dead letter");
    }
    assert!(rig.now.since(begun) >= settings().retry.doubt);
}

#[test]
fn an_event_that_failed_by_itself_behind_an_accepted_one_comes_again_after_a_delay() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.answer_only([Outcome::Accepted, failed()]);
    let front = rig.settles[0].front.clone().unwrap();
    assert!(front.retry_in.unwrap() > Duration::ZERO);
    rig.serve();
    assert!(rig.calls.is_empty());
}

#[test]
fn an_event_that_failed_by_itself_counts_only_while_others_are_accepted() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.answer([Outcome::Accepted, failed()]);
    assert_eq!(rig.left("a"), ["a@1.2.0"]);
    for _ in 0..20 {
        rig.wait_for_call();
        rig.answer([failed()]);
    }
    assert_eq!(rig.store[&lane("a")].attempts, 0);
}

#[test]
fn time_spent_waiting_is_no_time_of_failure() {
    let mut rig = rig(singly());
    rig.keep("a", 1..=2);
    rig.accept();
    let begun = rig.now;
    while rig.now.since(begun) < seconds(3600) {
        rig.wait_for_call();
        rig.fail(Fault::Sink, None);
        rig.wait(seconds(30));
    }
    let time = fail_until_dead(&mut rig, "a");
    assert!(time >= settings().retry.doubt, "condemned after {time:?} for an hour in which the sink was down");
}

#[test]
fn a_throttled_event_comes_again_when_it_was_asked_to_and_the_attempt_does_not_count() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.answer([throttled(30)]);
    rig.wait(seconds(29));
    assert!(rig.calls.is_empty());
    rig.wait(seconds(2));
    rig.answer([refused(false)]);
    assert_eq!(rig.store[&lane("a")].attempts, 1);
}

#[test]
fn an_event_throttled_behind_an_accepted_one_comes_again_when_it_was_asked_to() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=3);
    rig.answer([Outcome::Accepted, throttled(30), throttled(30)]);
    assert_eq!(rig.left("a"), ["a@1.2.0", "a@1.3.0"]);
    rig.wait(seconds(29));
    assert!(rig.calls.is_empty(), "{:?}", rig.calls);
    rig.wait(seconds(2));
    assert_eq!(rig.calls[0].1, ["a@1.2.0", "a@1.3.0"]);
}

#[test]
fn a_rejected_batch_is_halved_until_the_culprit_stands_alone() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=64);
    let mut calls = 0;
    let mut accepted = Vec::new();
    while !rig.calls.is_empty() {
        calls += 1;
        if rig.calls[0].1.contains(&"a@1.38.0".to_owned()) {
            rig.fail(Fault::Event, None);
        } else {
            accepted.extend(rig.accept());
        }
    }
    assert_eq!((accepted.len(), accepted.last().unwrap().as_str()), (37, "a@1.37.0"));
    assert_eq!((rig.left("a")[0].as_str(), rig.plan("a")), ("a@1.38.0", &FrontPlan::Dead));
    assert!(calls <= 30, "{calls} calls");
}

#[test]
fn outcomes_that_do_not_match_the_call_acknowledge_nothing() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.answer([Outcome::Accepted]);
    assert_eq!(rig.left("a"), ["a@1.1.0", "a@1.2.0"]);
    rig.wait_for_call();
    assert_eq!(rig.calls[0].1[0], "a@1.1.0");
}

#[test]
fn what_is_throttled_at_the_front_is_worth_no_write() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.answer_only([throttled(30), throttled(30)]);
    assert!(rig.settles.is_empty());
}

#[test]
fn what_the_keeper_itself_had_accepted_shows_that_a_failure_was_not_the_sinks() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.keep("b", [1]);
    rig.fail(Fault::Unknown, None);
    rig.wait(Duration::from_millis(1));
    assert_eq!(rig.accept(), ["b@1.1.0"]);
    rig.wait_for_call();
    rig.fail(Fault::Unknown, None);
    assert_eq!(rig.store[&lane("a")].attempts, 1);
}

#[test]
fn a_call_of_several_that_fails_without_a_name_is_halved_and_counts_for_none() {
    let mut rig = rig(settings());
    rig.keep("z", [1]);
    rig.accept();
    rig.keep("a", 1..=5);
    rig.fail(Fault::Unknown, None);
    assert_eq!(rig.calls[0].1, ["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
    assert_eq!(rig.store[&lane("a")].attempts, 0);
}

#[test]
fn the_time_of_failure_begins_with_the_first_failed_attempt_whether_it_counts_or_not() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    let begun = rig.now;
    for _ in 0..3 {
        rig.fail(Fault::Unknown, None);
        rig.wait_for_call();
    }
    rig.step(Input::OthersAccepted);
    rig.answer_only([refused(false)]);
    assert_eq!(rig.settles[0].front.as_ref().unwrap().failed_for, rig.now.since(begun));
    rig.serve();
    rig.wait_for_call();
    rig.answer_only([refused(false)]);
    assert_eq!(rig.settles[0].front.as_ref().unwrap().failed_for, rig.now.since(begun));
}

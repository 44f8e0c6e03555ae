//! What the bookkeeping answers, and what it fails to.

use super::*;

#[test]
fn a_settlement_that_was_not_stored_is_repeated_and_its_events_are_not_published_again() {
    let mut rig = rig(singly());
    rig.keep("a", 1..=2);
    rig.answer_only([Outcome::Accepted]);
    for _ in 0..5 {
        let settle = rig.settles.remove(0);
        rig.step(Input::StoreFailed { write: settle.write });
        assert!(rig.settles.is_empty(), "not at once");
        for _ in 0..100 {
            rig.now = rig.now + Duration::from_millis(100);
            rig.step(Input::Tick);
            if !rig.loads.is_empty() {
                rig.answer_load();
            }
            assert!(rig.calls.is_empty(), "{:?} was accepted already", rig.calls);
            if !rig.settles.is_empty() {
                break;
            }
        }
        assert_eq!(rig.settles[0].remove, settle.remove);
    }
    rig.serve();
    assert_eq!(rig.accept(), ["a@1.2.0"]);
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn a_settlement_that_took_effect_though_its_answer_was_lost_is_not_told_twice() {
    let mut rig = rig(singly());
    rig.keep("a", 1..=2);
    rig.answer_only([Outcome::Accepted]);
    let (write, _) = rig.carry_out();
    rig.step(Input::StoreFailed { write });
    rig.wait_for_call();
    assert_eq!(rig.calls[0].1, ["a@1.2.0"], "the first is settled");
    rig.answer_only([Outcome::Accepted]);
    let (write, outcome) = rig.carry_out();
    assert_eq!(outcome, SettleOutcome::Released);
    rig.step(Input::StoreFailed { write });
    rig.wait(seconds(10));
    assert!(rig.calls.is_empty());
    assert_eq!(rig.released, [lane("a")], "once");
}

#[test]
fn a_dead_letter_that_was_not_stored_is_not_forgotten() {
    let mut rig = rig(settings());
    rig.keep("a", 1..=2);
    rig.answer_only([refused(true), throttled(0)]);
    let settle = rig.settles.remove(0);
    rig.step(Input::StoreFailed { write: settle.write });
    rig.wait_for_call();
    assert_eq!(rig.calls[0].1, ["a@1.1.0", "a@1.2.0"]);
    rig.answer([refused(true), throttled(0)]);
    assert_eq!(rig.plan("a"), &FrontPlan::Dead);
}

#[test]
fn a_discard_that_was_not_stored_is_repeated_as_a_discard() {
    let mut rig = rig(settings());
    rig.open("a", FrontPlan::Discard("obsolete".to_owned()), [event("a", 1), event("a", 2)]);
    rig.serve();
    rig.answer_only([Outcome::Accepted]);
    let settle = rig.settles.remove(0);
    rig.step(Input::StoreFailed { write: settle.write });
    for _ in 0..100 {
        rig.now = rig.now + Duration::from_millis(100);
        rig.step(Input::Tick);
        if !rig.loads.is_empty() {
            rig.answer_load();
        }
        if !rig.settles.is_empty() {
            break;
        }
    }
    assert!(rig.settles[0].discarded, "or it leaves no tombstone");
    rig.serve();
    assert_eq!(rig.accept(), ["a@1.2.0"]);
}

#[test]
fn a_settlement_of_a_trouble_that_is_over_makes_the_keeper_look_again() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.store.get_mut(&lane("a")).unwrap().generation = 77;
    rig.answer_only([Outcome::Accepted]);
    rig.store_settle();
    assert!(rig.released.is_empty(), "there is another trouble of the key");
    rig.serve();
    rig.accept();
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn an_answer_that_belongs_to_nothing_is_ignored() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.step(Input::Settled { write: WriteId(99), outcome: SettleOutcome::Released });
    rig.step(Input::Answered { call: CallId(99), outcomes: vec![Outcome::Accepted] });
    rig.step(Input::Loaded { load: LoadId(99), trouble: None, kept: Vec::new() });
    assert!(rig.released.is_empty() && rig.settles.is_empty());
    assert_eq!(rig.accept(), ["a@1.1.0"]);
    assert_eq!(rig.released, [lane("a")]);
}

#[test]
fn a_key_in_trouble_anew_before_its_release_was_told_is_not_released() {
    let mut rig = rig(settings());
    rig.keep("a", [1]);
    rig.answer_only([Outcome::Accepted]);
    let (write, outcome) = rig.carry_out();
    rig.open("a", FrontPlan::Retry(Duration::ZERO), [event("a", 2)]);
    rig.step(Input::Settled { write, outcome });
    assert!(rig.released.is_empty());
    rig.serve();
    assert_eq!(rig.accept(), ["a@1.2.0"]);
    assert_eq!(rig.released, [lane("a")]);
}

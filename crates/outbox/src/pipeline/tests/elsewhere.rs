//! What happens to a pipeline's lanes elsewhere: in another partition of the route, or by the keeper.

use super::*;

fn lane(key: &str) -> Lane {
    Lane::Key(Key::new(key).unwrap())
}

#[test]
fn a_key_that_got_into_trouble_in_another_partition_waits_here_too() {
    let mut rig = rig(settings());
    rig.step(Input::Troubled { lane: lane("a") });
    rig.read([event("a", 1), event("b", 1)]);
    assert_eq!(rig.call().1, ["b@1.1.0"]);
    let (write, _, front, events) = rig.keeps.remove(0);
    assert_eq!((front, events), (None, vec!["a@1.1.0".to_owned()]));
    rig.step(Input::Stored { write });
    rig.step(Input::Released { lane: lane("a") });
    rig.read([event("a", 2)]);
    assert_eq!(rig.call().1, ["a@1.2.0"]);
}

#[test]
fn what_of_the_key_is_in_a_call_then_is_answered_and_the_rest_waits() {
    let mut rig = rig(Settings { sink: SinkLimits { max_events: 1, ..settings().sink }, ..settings() });
    rig.read([event("a", 1), event("a", 2)]);
    let (call, events) = rig.call();
    assert_eq!(events, ["a@1.1.0"]);
    rig.step(Input::Troubled { lane: lane("a") });
    rig.step(Input::Answered { call, outcomes: vec![Outcome::Accepted] });
    assert!(rig.calls.is_empty());
    assert_eq!(rig.keeps[0].3, ["a@1.2.0"]);
}

#[test]
fn what_was_discarded_after_it_was_read_again_does_not_go_out_once_its_lane_is_free() {
    let resume = Resume { position: Position::new("0"), troubled: vec![lane("a"), lane("b")], tombstones: Vec::new() };
    let mut rig = rig(settings());
    rig.pipeline = Pipeline::new(settings(), resume);
    rig.step(Input::Pause);
    rig.read([event("a", 1), event("a", 2)]);
    let tombstones = vec![("a@1.1.0".into(), Position::new("1")), ("b@1.1.0".into(), Position::new("3"))];
    rig.step(Input::Discarded { tombstones });
    rig.step(Input::Released { lane: lane("a") });
    rig.step(Input::Released { lane: lane("b") });
    rig.step(Input::Resume);
    assert_eq!(rig.call().1, ["a@1.2.0"]);
    rig.read([event("b", 1), event("b", 2)]);
    assert_eq!(rig.call().1, ["b@1.2.0"]);
}

#[test]
fn what_was_discarded_while_it_was_being_parked_again_does_not_go_out_either() {
    let resume = Resume { position: Position::new("0"), troubled: vec![lane("a")], tombstones: Vec::new() };
    let mut rig = rig(settings());
    rig.pipeline = Pipeline::new(settings(), resume);
    rig.read([event("a", 1), event("a", 2)]);
    let write = rig.keeps[0].0;
    rig.step(Input::Discarded { tombstones: vec![("a@1.1.0".into(), Position::new("1"))] });
    rig.step(Input::Released { lane: lane("a") });
    rig.step(Input::KeyFree { write });
    assert_eq!(rig.call().1, ["a@1.2.0"]);
}

#[test]
fn a_dead_letter_that_its_key_went_on_without_is_kept_apart_when_it_is_read_again() {
    let retry = RetryPolicy { after_dead_letter: AfterDeadLetter::Continue, ..settings().retry };
    let apart = Lane::Event("a@1.1.0".into());
    let resume = Resume { position: Position::new("0"), troubled: vec![apart.clone()], tombstones: Vec::new() };
    let mut rig = rig(settings());
    rig.pipeline = Pipeline::new(Settings { retry, ..settings() }, resume);
    rig.read([event("a", 1), event("a", 2)]);
    assert_eq!(rig.call().1, ["a@1.2.0"]);
    let (_, lane, front, ids) = rig.keeps.remove(0);
    assert_eq!((lane, front, ids), (apart, None, vec!["a@1.1.0".to_owned()]));
}

/// A route that goes on without its dead letters, and has one, `a@1.1.0`. Its sink keeps no order in a call.
fn rig_with_a_dead_letter() -> Rig {
    let retry = RetryPolicy { after_dead_letter: AfterDeadLetter::Continue, ..settings().retry };
    let sink = SinkLimits { ordered_calls: false, ..settings().sink };
    let settings = Settings { sink, retry, ..settings() };
    let troubled = vec![Lane::Event("a@1.1.0".into())];
    let mut rig = rig(settings.clone());
    let resume = Resume { position: Position::new("0"), troubled, tombstones: Vec::new() };
    rig.pipeline = Pipeline::new(settings, resume);
    rig
}

#[test]
fn a_copy_of_a_dead_letter_that_is_redriven_meanwhile_goes_out_with_its_key_not_beside_it() {
    let mut rig = rig_with_a_dead_letter();
    rig.step(Input::Pause);
    rig.read([event("a", 1), event("a", 2)]);
    rig.step(Input::Released { lane: Lane::Event("a@1.1.0".into()) });
    rig.step(Input::Resume);
    let (call, events) = rig.call();
    assert_eq!(events, ["a@1.1.0"]);
    assert!(rig.calls.is_empty(), "two events of a key go out side by side: {:?}", rig.calls);
    rig.step(Input::Answered { call, outcomes: vec![Outcome::Accepted] });
    assert_eq!(rig.call().1, ["a@1.2.0"]);
}

#[test]
fn a_copy_of_a_dead_letter_that_was_being_parked_behind_it_goes_out_with_its_key_once_that_is_free() {
    let mut rig = rig_with_a_dead_letter();
    rig.read([event("a", 1), event("a", 2)]);
    let (write, ..) = rig.keeps.remove(0);
    let (call, events) = rig.call();
    assert_eq!(events, ["a@1.2.0"]);
    rig.step(Input::Released { lane: Lane::Event("a@1.1.0".into()) });
    rig.step(Input::KeyFree { write });
    assert!(rig.calls.is_empty(), "a call of its key is under way: {:?}", rig.calls);
    rig.step(Input::Answered { call, outcomes: vec![Outcome::Accepted] });
    assert_eq!(rig.call().1, ["a@1.1.0"]);
}

#[test]
fn a_copy_of_a_dead_letter_waits_with_its_key_if_that_is_in_trouble_once_the_letter_is_gone() {
    let mut rig = rig_with_a_dead_letter();
    rig.step(Input::Pause);
    rig.read([event("a", 1)]);
    rig.step(Input::Troubled { lane: lane("a") });
    rig.step(Input::Released { lane: Lane::Event("a@1.1.0".into()) });
    rig.step(Input::Resume);
    assert!(rig.calls.is_empty(), "{:?}", rig.calls);
    let (_, kept_in, front, ids) = rig.keeps.remove(0);
    assert_eq!((kept_in, front, ids), (lane("a"), None, vec!["a@1.1.0".to_owned()]));
}

#[test]
fn a_pause_whose_events_are_kept_meanwhile_is_told_to_be_over_once_it_is() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    for _ in 0..3 {
        rig.fail(Fault::Throttle);
        rig.wait(Duration::from_secs(600));
    }
    let (call, _) = rig.call();
    rig.step(Input::Troubled { lane: lane("a") });
    rig.step(Input::CallFailed { call, fault: Fault::Throttle, retry_after: None, reason: "slowly".to_owned() });
    rig.wait(Duration::from_secs(600));
    let (write, ..) = rig.keeps.remove(0);
    assert!(matches!(rig.health[..], [Health::BackingOff { .. }]), "{:?}", rig.health);
    rig.step(Input::Stored { write });
    assert_eq!(rig.health.last(), Some(&Health::Flowing));
}

#[test]
fn a_route_that_backed_off_for_what_is_kept_meanwhile_flows_once_its_time_has_come() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.fail(Fault::Unknown);
    assert!(matches!(rig.health[..], [Health::BackingOff { .. }]), "{:?}", rig.health);
    rig.step(Input::Troubled { lane: lane("a") });
    rig.wait(Duration::from_secs(600));
    let (write, ..) = rig.keeps.remove(0);
    rig.step(Input::Stored { write });
    assert_eq!(rig.health.last(), Some(&Health::Flowing));
}

#[test]
fn a_key_in_trouble_elsewhere_leaves_the_others_that_could_go_out_where_they_are() {
    let mut rig = rig(settings());
    rig.step(Input::Pause);
    rig.read([event("a", 1), event("b", 1)]);
    rig.step(Input::Troubled { lane: lane("a") });
    rig.step(Input::Resume);
    assert_eq!(rig.call().1, ["b@1.1.0"]);
    assert_eq!(rig.keeps[0].3, ["a@1.1.0"]);
}

#[test]
fn a_release_from_before_does_not_undo_a_trouble_that_is_not_stored_yet() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.step(Input::Pause);
    rig.answer([refused(true)]);
    rig.step(Input::Released { lane: lane("a") });
    rig.step(Input::Resume);
    assert!(rig.calls.is_empty(), "{:?}", rig.calls);
    assert_eq!(rig.keeps[0].3, ["a@1.1.0"]);
}

#[test]
fn an_event_without_a_key_whose_lane_is_free_goes_out_and_others_beside_it() {
    let alone = Lane::Event("id-1".into());
    let mut rig = rig(settings());
    rig.step(Input::Troubled { lane: alone.clone() });
    rig.read([testing_event("order.placed", None, 1)]);
    let (write, kept_in, ..) = rig.keeps.remove(0);
    assert_eq!(kept_in, alone);
    rig.step(Input::KeyFree { write });
    rig.read([event("b", 1)]);
    assert_eq!(rig.calls.iter().map(|(_, events)| events[0].as_str()).collect::<Vec<_>>(), ["id-1", "b@1.1.0"]);
}

#[test]
fn a_copy_of_a_dead_letter_goes_out_before_the_events_of_its_entry_that_stand_behind_it() {
    let mut rig = rig_with_a_dead_letter();
    rig.pipeline.settings.size = Arc::new(|_| 10);
    rig.step(Input::Pause);
    let mut second = event("a", 1);
    second.id = "a@1.1.1".into();
    rig.read_contents(vec![Content::Events([event("a", 1), second].into_iter().collect())]);
    rig.step(Input::Released { lane: Lane::Event("a@1.1.0".into()) });
    rig.step(Input::Resume);
    assert_eq!(rig.call().1, ["a@1.1.0"]);
}

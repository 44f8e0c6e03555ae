//! Whose fault a failure is, and who waits for it.

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// A pipeline whose calls take one event each.
fn singly() -> Settings {
    Settings { sink: SinkLimits { max_events: 1, ..settings().sink }, ..settings() }
}

fn throttled(after: Duration) -> Outcome {
    Outcome::Throttled { after: Some(after) }
}

/// The one event of `calls` whose id begins so is answered.
fn answer_to(rig: &mut Rig, key: &str, outcome: Outcome) {
    let at = rig.calls.iter().position(|(_, events)| events[0].starts_with(key)).unwrap();
    let (call, _) = rig.calls.remove(at);
    rig.step(Input::Answered { call, outcomes: vec![outcome] });
}

/// The same, with a failure of the whole call.
fn fail_to(rig: &mut Rig, key: &str, fault: Fault) {
    let at = rig.calls.iter().position(|(_, events)| events[0].starts_with(key)).unwrap();
    rig.calls.swap(0, at);
    rig.fail(fault);
}

fn sent(rig: &Rig) -> Vec<&str> {
    let mut sent: Vec<_> = rig.calls.iter().flat_map(|(_, events)| events).map(String::as_str).collect();
    sent.sort_unstable();
    sent
}

#[test]
fn what_failed_without_a_name_goes_out_as_soon_as_the_sink_is_seen_to_be_back() {
    let mut rig = rig(singly());
    rig.read([event("a", 1), event("b", 1)]);
    fail_to(&mut rig, "a", Fault::Unknown);
    assert!(matches!(rig.health[..], [Health::BackingOff { .. }]));
    answer_to(&mut rig, "b", refused(false));
    assert_eq!(sent(&rig), ["a@1.1.0"], "a refusal shows it as well as an acceptance");
    assert_eq!(rig.health.last(), Some(&Health::Flowing));
}

#[test]
fn a_throttle_that_names_an_event_does_not_show_that_the_sink_is_back() {
    let mut rig = rig(singly());
    rig.read([event("a", 1), event("b", 1)]);
    fail_to(&mut rig, "a", Fault::Sink);
    answer_to(&mut rig, "b", throttled(LONG));
    assert!(matches!(rig.health[..], [Health::BackingOff { .. }]));
    assert!(rig.calls.is_empty());
}

/// While `c` is in a call, `a` fails and waits, then the sink is down, and then `c` is accepted; gives what goes out then.
fn sent_once_the_sink_is_back(fail: impl Fn(&mut Rig)) -> Vec<String> {
    let mut rig = rig(singly());
    rig.read([event("z", 1)]);
    rig.accept();
    rig.read([event("a", 1)]);
    fail(&mut rig);
    assert!(rig.calls.is_empty());
    rig.read([event("b", 1), event("c", 1)]);
    fail_to(&mut rig, "b", Fault::Sink);
    answer_to(&mut rig, "c", Outcome::Accepted);
    sent(&rig).into_iter().map(str::to_owned).collect()
}

#[test]
fn what_was_refused_by_name_waits_out_its_delay_though_the_sink_is_back() {
    assert_eq!(sent_once_the_sink_is_back(|rig| rig.answer([refused(false)])), ["b@1.1.0"]);
}

#[test]
fn what_failed_without_a_name_waits_for_as_long_as_the_sink_asked_for_it() {
    for (asked, expected) in [(Duration::ZERO, &["a@1.1.0", "b@1.1.0"][..]), (LONG, &["b@1.1.0"][..])] {
        let sent = sent_once_the_sink_is_back(|rig| {
            rig.fail(Fault::Unknown);
            rig.wait(LONG);
            rig.answer([throttled(asked)]);
        });
        assert_eq!(sent, expected, "{asked:?}");
    }
}

#[test]
fn an_event_that_is_in_trouble_elsewhere_by_then_does_not_go_out_when_the_sink_is_back() {
    let lane = Lane::Key(Key::new("a").unwrap());
    let sent = sent_once_the_sink_is_back(|rig| {
        rig.fail(Fault::Unknown);
        rig.step(Input::Troubled { lane: lane.clone() });
    });
    assert_eq!(sent, ["b@1.1.0"]);
}

#[test]
fn a_call_of_the_sinks_fault_goes_out_again_in_its_order() {
    let mut rig = rig(settings());
    rig.read([event("a", 1), event("a", 2), event("a", 3), event("b", 1)]);
    let (_, before) = rig.calls[0].clone();
    rig.fail(Fault::Sink);
    rig.wait(LONG);
    assert_eq!(rig.calls[0].1, ["a@1.1.0"], "one event finds out");
    rig.accept();
    let again: Vec<_> = ["a@1.1.0".to_owned()].into_iter().chain(rig.calls[0].1.clone()).collect();
    assert_eq!(again, before);
}

#[test]
fn a_call_that_fails_without_a_name_comes_again_in_halves_after_a_while() {
    let mut rig = rig(settings());
    rig.read([event("z", 1)]);
    rig.accept();
    rig.read((1..=5).map(|sequence| event("a", sequence)));
    rig.fail(Fault::Unknown);
    assert!(rig.calls.is_empty(), "not at once");
    rig.wait(LONG);
    let (call, events) = rig.call();
    assert_eq!(events, ["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
    assert!(rig.calls.is_empty(), "the other half waits for its key");
    rig.step(Input::Answered { call, outcomes: vec![Outcome::Accepted; 3] });
    assert_eq!(rig.call().1, ["a@1.4.0", "a@1.5.0"]);
    assert!(rig.keeps.is_empty());
}

#[test]
fn the_halves_of_a_call_keep_the_events_of_a_key_together() {
    let mut rig = rig(settings());
    rig.read([event("a", 1), event("a", 2), event("a", 3), event("b", 1), event("c", 1), event("d", 1)]);
    rig.fail(Fault::Event);
    let halves: Vec<_> = rig.calls.iter().map(|(_, events)| events.clone()).collect();
    assert_eq!(halves, [vec!["a@1.1.0", "a@1.2.0", "a@1.3.0", "b@1.1.0"], vec!["c@1.1.0", "d@1.1.0"]]);
}

#[test]
fn failures_without_a_name_set_an_event_aside_once_enough_of_them_count() {
    let mut rig = rig(singly());
    rig.read([event("z", 1)]);
    rig.accept();
    rig.read([event("a", 1)]);
    for failed in 1..=2 {
        rig.fail(Fault::Unknown);
        assert!(rig.keeps.is_empty(), "after {failed} failures");
        rig.wait(Duration::from_millis(1));
        rig.read([event("z", 1 + failed)]);
        answer_to(&mut rig, "z", Outcome::Accepted);
        while rig.calls.is_empty() {
            rig.wait(Duration::from_secs(1));
        }
    }
    rig.fail(Fault::Unknown);
    let [(_, _, Some(front), ids)] = rig.keeps.as_slice() else { panic!("{:?}", rig.keeps) };
    assert_eq!((front.attempts, ids.as_slice()), (2, &["a@1.1.0".to_owned()][..]), "the first had nothing before it");
    assert!(front.retry_in.is_some() && front.failed_for > Duration::ZERO);
}

#[test]
fn refusals_by_name_are_retried_quickly_and_then_set_aside() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.answer([refused(false)]);
    assert!(rig.keeps.is_empty() && rig.calls.is_empty());
    let begun = rig.now;
    rig.wait(LONG);
    rig.answer([refused(false)]);
    let [(_, _, Some(front), _)] = rig.keeps.as_slice() else { panic!("{:?}", rig.keeps) };
    assert_eq!((front.attempts, front.failed_for, front.reason.as_str()), (2, rig.now.since(begun), "no"));
    assert!(front.retry_in.is_some());
}

#[test]
fn with_as_many_quick_attempts_as_there_are_a_refusal_makes_a_dead_letter() {
    let retry = RetryPolicy { attempts: 2, quick_attempts: 2, ..settings().retry };
    let mut rig = rig(Settings { retry, ..settings() });
    rig.read([event("a", 1)]);
    rig.answer([refused(false)]);
    rig.wait(LONG);
    rig.answer([refused(false)]);
    assert_eq!(rig.keeps[0].2.as_ref().unwrap().retry_in, None);
}

#[test]
fn one_call_at_a_time_finds_out_whether_the_sink_is_back_with_an_event_that_has_not_failed() {
    let mut rig = rig(singly());
    rig.read([event("z", 1)]);
    rig.accept();
    rig.read([event("a", 1), event("b", 1), event("c", 1)]);
    fail_to(&mut rig, "a", Fault::Unknown);
    fail_to(&mut rig, "b", Fault::Sink);
    fail_to(&mut rig, "c", Fault::Sink);
    rig.wait(LONG);
    assert_eq!(sent(&rig), ["b@1.1.0"], "not the first, for that has failed, and no second");
    rig.step(Input::Tick);
    assert_eq!(rig.calls.len(), 1);
    rig.accept();
    assert_eq!(sent(&rig), ["a@1.1.0", "c@1.1.0"]);
}

#[test]
fn a_call_that_failed_finds_out_whether_the_sink_is_back_where_there_is_nothing_else() {
    let mut rig = rig(settings());
    rig.read([event("a", 1), event("b", 1)]);
    rig.fail(Fault::Unknown);
    rig.wait(LONG);
    assert_eq!(sent(&rig), ["a@1.1.0"]);
}

#[test]
fn an_event_that_never_goes_out_does_not_find_out_whether_the_sink_is_back() {
    let size = |event: &Event| if event.kind() == "huge" { 1 << 20 } else { 10 };
    let huge = || testing_event("huge", Some("huge"), 1);
    for others in [vec![], vec![event("b", 1)]] {
        let mut rig = rig(Settings { size: Arc::new(size), ..singly() });
        rig.read([event("a", 1)]);
        rig.fail_for(Fault::Sink, Some(LONG));
        rig.step(Input::Troubled { lane: Lane::Key(Key::new("a").unwrap()) });
        rig.read([huge()].into_iter().chain(others.clone()));
        rig.wait(LONG);
        let expected: Vec<_> = others.iter().map(|event| event.id().to_owned()).collect();
        let calls: Vec<_> = rig.calls.iter().flat_map(|(_, events)| events.clone()).collect();
        assert_eq!((rig.calls.len(), calls), (others.len(), expected));
    }
}

#[test]
fn an_event_as_large_as_the_sink_takes_goes_out() {
    let size = Arc::new(|_: &Event| settings().sink.max_event_bytes);
    let mut rig = rig(Settings { size, ..settings() });
    rig.read([event("a", 1)]);
    assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
}

#[test]
fn where_unreadable_rows_are_not_kept_they_are_done() {
    let mut rig = rig(Settings { keeps_undecodable: false, ..settings() });
    let row = Undecodable { id: "row/1".into(), key: None, reason: "rubbish".to_owned(), raw: "".into() };
    rig.read_contents(vec![Content::Undecodable(row)]);
    assert!(rig.keeps.is_empty());
    assert_eq!(rig.last_checkpoint(), Some("1"));
}

#[test]
fn the_dead_letter_of_an_unreadable_row_says_what_is_wrong_with_it() {
    let mut rig = rig(settings());
    let row = Undecodable { id: "row/1".into(), key: None, reason: "rubbish".to_owned(), raw: "".into() };
    rig.read_contents(vec![Content::Undecodable(row)]);
    assert_eq!(rig.keeps[0].2.as_ref().unwrap().reason, "rubbish");
}

#[test]
fn a_keep_that_could_not_be_stored_is_repeated_with_what_came_since() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.answer([refused(true)]);
    let (write, ..) = rig.keeps.remove(0);
    rig.read([event("a", 2)]);
    rig.step(Input::StoreFailed { write });
    assert!(rig.keeps.is_empty(), "not at once");
    rig.wait(LONG);
    let (_, _, front, ids) = &rig.keeps[0];
    assert_eq!(ids, &["a@1.1.0", "a@1.2.0"]);
    assert!(front.is_some(), "the trouble is not open yet");
}

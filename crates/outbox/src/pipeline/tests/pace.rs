//! When progress is stored, when something is read, and when the pipeline wants to be woken.

use super::*;

const INTERVAL: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(30);

fn events(count: u64) -> impl Iterator<Item = Event> {
    (0..count).map(|number| event(&format!("key/{number}"), 1))
}

/// A pipeline that has just stored a checkpoint.
fn rig_with_a_checkpoint() -> Rig {
    let mut rig = rig(settings());
    rig.read([event("first", 1)]);
    rig.accept();
    rig.store_checkpoints();
    rig
}

#[test]
fn progress_is_stored_after_the_interval_and_the_pipeline_asks_to_be_woken_for_it() {
    let mut rig = rig_with_a_checkpoint();
    assert_eq!(rig.wake, None, "there is nothing to store");
    rig.read([event("a", 1)]);
    rig.accept();
    assert_eq!((rig.last_checkpoint(), rig.wake), (None, Some(rig.now + INTERVAL)));
    rig.wait(INTERVAL);
    assert_eq!(rig.last_checkpoint(), Some("2"));
}

#[test]
fn progress_of_a_quarter_of_the_window_is_stored_at_once() {
    for (count, stored) in [(24, None), (25, Some("26"))] {
        let mut rig = rig_with_a_checkpoint();
        rig.read(events(count));
        rig.accept();
        assert_eq!(rig.last_checkpoint(), stored);
    }
}

#[test]
fn one_checkpoint_is_stored_at_a_time_and_nothing_is_due_meanwhile() {
    let mut rig = rig_with_a_checkpoint();
    rig.read(events(25));
    rig.accept();
    rig.read([event("a", 1)]);
    rig.accept();
    assert_eq!((rig.checkpoints.len(), rig.wake), (1, None));
    rig.wait(LONG);
    assert_eq!(rig.checkpoints.len(), 1);
    rig.store_checkpoints();
    rig.wait(INTERVAL);
    assert_eq!(rig.last_checkpoint(), Some("27"));
}

#[test]
fn a_checkpoint_that_was_not_stored_is_repeated_after_a_delay() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.accept();
    let (write, ..) = rig.checkpoints.remove(0);
    rig.step(Input::StoreFailed { write });
    assert!(rig.checkpoints.is_empty(), "not at once");
    let due = rig.wake.unwrap();
    rig.wait(due.since(rig.now).checked_sub(Duration::from_nanos(1)).unwrap());
    rig.step(Input::Tick);
    assert!(rig.checkpoints.is_empty(), "not before its time");
    rig.wait(Duration::from_nanos(1));
    assert_eq!(rig.last_checkpoint(), Some("1"));
}

#[test]
fn the_delay_of_a_checkpoint_grows_while_it_cannot_be_stored() {
    let mut longest = [Duration::ZERO; 6];
    for seed in 0..50 {
        let mut rig = rig(Settings { seed, ..settings() });
        rig.read([event("a", 1)]);
        rig.accept();
        for longest in &mut longest {
            let (write, ..) = rig.checkpoints.remove(0);
            rig.step(Input::StoreFailed { write });
            *longest = (*longest).max(rig.wake.unwrap().since(rig.now));
            rig.wait(Duration::from_secs(60));
        }
    }
    assert!(longest[0] <= Duration::from_millis(200) && longest[5] > Duration::from_secs(3), "{longest:?}");
}

#[test]
fn what_a_checkpoint_did_not_store_still_counts_against_the_window() {
    let mut rig = rig(settings());
    rig.read(events(80));
    rig.accept();
    let (write, ..) = rig.checkpoints.remove(0);
    rig.credit = None;
    rig.step(Input::StoreFailed { write });
    assert_eq!(rig.credit, None);
    rig.wait(LONG);
    rig.store_checkpoints();
    assert_eq!(rig.credit, Some(100));
}

/// A partition that is closed, of one record, with the events of that accepted.
fn closed() -> Rig {
    let mut rig = rig(settings());
    rig.credit = None;
    let records = vec![record(1, Content::Events(event("a", 1).into()))];
    rig.step(Input::Read { records, next: Position::new("end"), end: true });
    assert_eq!(rig.credit, None, "nothing is read behind the end");
    rig.accept();
    rig
}

#[test]
fn the_last_checkpoint_of_a_closed_partition_is_repeated_until_it_is_stored() {
    let mut rig = closed();
    for _ in 0..3 {
        let (write, position, finished) = rig.checkpoints.remove(0);
        assert_eq!((position.as_str(), finished), ("end", true));
        rig.step(Input::StoreFailed { write });
        assert!(rig.checkpoints.is_empty() && !rig.finished);
        rig.wait(LONG);
    }
    rig.store_checkpoints();
    assert!(rig.finished);
}

#[test]
fn a_closed_partition_of_which_all_is_stored_ends_with_a_checkpoint_that_says_so_and_is_repeated_too() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.accept();
    rig.store_checkpoints();
    rig.step(Input::Read { records: Vec::new(), next: Position::new("end"), end: true });
    for _ in 0..3 {
        let (write, position, finished) = rig.checkpoints.remove(0);
        assert_eq!((position.as_str(), finished), ("end", true));
        rig.step(Input::StoreFailed { write });
        assert!(rig.checkpoints.is_empty());
        rig.wait(LONG);
    }
    rig.store_checkpoints();
    assert!(rig.finished);
}

#[test]
fn a_wish_to_be_woken_is_said_once() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.answer([Outcome::Throttled { after: Some(LONG) }]);
    assert_eq!(rig.wake.take(), Some(rig.now + LONG));
    rig.step(Input::Tick);
    assert_eq!(rig.wake, None, "the shell knows of it");
}

#[test]
fn parts_of_a_call_that_failed_are_woken_for() {
    let mut rig = rig(settings());
    rig.read([event("z", 1)]);
    rig.accept();
    rig.store_checkpoints();
    rig.read([event("a", 1), event("b", 1)]);
    rig.fail(Fault::Unknown);
    let due = rig.wake.unwrap();
    assert!(due > rig.now && rig.calls.is_empty());
    rig.wait(due.since(rig.now));
    assert_eq!(rig.calls.len(), 2);
    assert!(rig.wake.is_none_or(|wake| wake > rig.now));
}

#[test]
fn one_read_is_asked_for_at_a_time() {
    let mut rig = rig(settings());
    assert_eq!(rig.credit.take(), Some(100));
    rig.step(Input::Tick);
    assert_eq!(rig.credit, None);
}

#[test]
fn nothing_is_read_while_the_route_is_paused() {
    let mut rig = rig(settings());
    rig.step(Input::Pause);
    rig.read([]);
    assert_eq!(rig.credit, None);
    rig.step(Input::Resume);
    assert_eq!(rig.credit, Some(100));
}

#[test]
fn a_drain_is_undone_neither_by_a_pause_nor_by_a_resume() {
    for then in [Input::Pause, Input::Resume] {
        let mut rig =
            rig(Settings { sink: SinkLimits { max_calls: 1, max_events: 1, ..settings().sink }, ..settings() });
        rig.read([event("a", 1), event("b", 1)]);
        rig.step(Input::Drain);
        rig.step(then.clone());
        rig.step(Input::Resume);
        rig.accept();
        assert!(rig.calls.is_empty(), "{then:?}");
        rig.store_checkpoints();
        assert!(rig.finished, "{then:?}");
    }
}

#[test]
fn a_window_full_of_bytes_reads_no_more() {
    let weight = event("key/0", 1).weight();
    for (held, credit) in [(75, Some(325)), (76, None)] {
        let window = WindowLimits { events: 400, bytes: 100 * weight, ..settings().window };
        let mut rig = rig(Settings { window, ..settings() });
        rig.read((0..held).map(|number| event(&format!("key/{}", number % 10), 1)));
        assert_eq!(rig.credit, credit, "a quarter of the bytes is enough to read for");
    }
}

#[test]
fn what_is_in_flight_is_counted_by_the_event() {
    let mut rig = rig(Settings { sink: SinkLimits { max_events: 2, ..settings().sink }, ..settings() });
    assert_eq!(rig.pipeline.in_flight(), 0);
    rig.read(events(3));
    assert_eq!((rig.calls.len(), rig.pipeline.in_flight()), (2, 3));
    rig.accept();
    assert_eq!(rig.pipeline.in_flight(), 1);
}

#[test]
fn once_finished_or_without_its_lease_it_asks_for_nothing() {
    for last in [Input::Drain, Input::LeaseLost] {
        let mut rig = rig(settings());
        rig.read([event("a", 1)]);
        rig.answer([Outcome::Throttled { after: Some(LONG) }]);
        assert_eq!(rig.wake.take(), Some(rig.now + LONG));
        rig.step(last);
        rig.step(Input::Tick);
        assert_eq!(rig.wake, None);
    }
}

#[test]
fn a_wish_to_be_woken_is_followed_by_the_next_one() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.answer([Outcome::Throttled { after: Some(LONG) }]);
    rig.read([event("b", 1)]);
    rig.fail_for(Fault::Throttle, Some(LONG / 2));
    rig.wait(LONG / 2);
    assert_eq!(rig.call().1, ["b@1.1.0"]);
    rig.wait(LONG / 2);
    assert_eq!(rig.call().1, ["a@1.1.0"]);
}

#[test]
fn while_the_sink_may_be_back_something_is_read_only_if_nothing_is_left_to_find_out_with() {
    let mut rig = rig(Settings { sink: SinkLimits { max_events: 1, ..settings().sink }, ..settings() });
    rig.read([event("a", 1), event("b", 1)]);
    rig.fail(Fault::Sink);
    rig.fail(Fault::Sink);
    rig.read([]);
    rig.wait(LONG);
    assert_eq!((rig.calls.len(), rig.credit), (1, None), "one is in a call, and one could go out");
    rig.step(Input::Troubled { lane: Lane::Key(Key::new("b").unwrap()) });
    assert_eq!(rig.credit, None, "one is in a call");
    rig.answer([Outcome::Throttled { after: Some(LONG * 20) }]);
    assert_eq!((rig.calls.len(), rig.credit), (0, Some(98)), "what is left waits for long");
}

#[test]
fn nothing_is_read_while_a_part_of_a_call_waits_to_find_out_whether_the_sink_is_back() {
    for seed in 0..20 {
        let mut rig = rig(Settings { seed, ..settings() });
        rig.read([event("a", 1), event("b", 1)]);
        rig.fail(Fault::Unknown);
        rig.read([]);
        rig.wait(LONG);
        assert_eq!((rig.calls.len(), rig.credit), (1, None));
    }
}

#[test]
fn trouble_of_too_many_keys_ends_below_nine_tenths_of_them() {
    let mut rig = rig(settings());
    let lane = |number: usize| Lane::Key(Key::new(format!("key/{number}")).unwrap());
    for number in 0..9 {
        rig.step(Input::Troubled { lane: lane(number) });
    }
    rig.read([]);
    assert_eq!((rig.health.len(), rig.credit, rig.pipeline.troubled_lanes()), (0, Some(100), 9));
    rig.step(Input::Troubled { lane: lane(9) });
    rig.read([]);
    assert_eq!((rig.health.as_slice(), rig.credit), (&[Health::Overloaded][..], None));
    rig.step(Input::Released { lane: lane(0) });
    assert_eq!((rig.health.len(), rig.credit), (1, None), "nine of ten");
    rig.step(Input::Released { lane: lane(1) });
    assert_eq!((rig.health.last(), rig.credit), (Some(&Health::Flowing), Some(100)));
    rig.step(Input::Troubled { lane: lane(1) });
    rig.read([]);
    assert_eq!((rig.health.len(), rig.credit), (2, Some(100)), "nine of ten, from below");
}

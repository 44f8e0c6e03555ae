//! A key that holds more than its share of the window, or blocks it, and when that keeps others waiting.

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn lane(key: &str) -> Lane {
    Lane::Key(Key::new(key).unwrap())
}

fn hot(sequences: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Event> {
    sequences.map(|sequence| event("hot", sequence))
}

fn others(count: u64) -> impl Iterator<Item = Event> {
    (10..10 + count).map(|number| event(&format!("k{number}"), 11))
}

impl Rig {
    /// Answers all calls: events of `hot` keys are throttled by name, the others accepted.
    fn throttle(&mut self, hot: &str) {
        while !self.calls.is_empty() {
            let (call, events) = self.call();
            let throttled = Outcome::Throttled { after: Some(LONG) };
            let answer = |id: &String| if id.starts_with(hot) { throttled.clone() } else { Outcome::Accepted };
            self.step(Input::Answered { call, outcomes: events.iter().map(answer).collect() });
        }
    }

    /// What was set aside, once a second has passed.
    fn set_aside(&mut self) -> Vec<Lane> {
        self.wait(Duration::from_secs(1));
        self.keeps.iter().map(|(_, lane, ..)| lane.clone()).collect()
    }
}

#[test]
fn a_hot_key_is_set_aside_where_more_than_half_of_the_windows_events_are_taken() {
    for (number, expected) in [(29, vec![]), (30, vec![lane("hot")])] {
        let mut rig = rig(settings());
        rig.read(hot(11..=31).chain(others(number)));
        rig.throttle("hot");
        assert_eq!(rig.set_aside(), expected, "{number} events of others");
    }
}

#[test]
fn a_hot_key_is_set_aside_where_more_than_half_of_the_windows_bytes_are_taken() {
    let held: usize = hot(11..=31).chain(others(9)).map(|event| event.weight()).sum();
    for (bytes, expected) in [(2 * held, vec![]), (2 * held - 2, vec![lane("hot")])] {
        let mut rig = rig(Settings { window: WindowLimits { events: 1000, bytes, ..settings().window }, ..settings() });
        rig.read(hot(11..=31).chain(others(9)));
        rig.throttle("hot");
        assert_eq!(rig.set_aside(), expected);
    }
}

#[test]
fn a_key_may_hold_a_quarter_of_the_windows_bytes_and_no_more() {
    for (size, expected) in [(25_000, vec![]), (25_001, vec![lane("hot")])] {
        let window = WindowLimits { bytes: 1_000_000, key_share: 1000, ..settings().window };
        let mut rig = rig(Settings { window, size: Arc::new(move |_| size), ..settings() });
        rig.read(hot(11..=20).chain(others(41)));
        rig.throttle("hot");
        assert_eq!(rig.set_aside(), expected, "ten events of {size} bytes");
    }
}

#[test]
fn what_of_a_key_went_out_before_does_not_count_against_its_share() {
    let mut rig = rig(settings());
    rig.read(hot(1..=30));
    rig.accept();
    rig.store_checkpoints();
    rig.read(hot(31..=50).chain(others(40)));
    rig.throttle("hot");
    assert!(rig.set_aside().is_empty(), "it holds 20 events");
}

#[test]
fn a_hot_key_is_not_set_aside_while_all_calls_are_under_way() {
    let sink = SinkLimits { max_calls: 1, ..settings().sink };
    let mut rig = rig(Settings { sink, ..settings() });
    rig.read(hot(11..=31).chain(others(40)));
    rig.throttle("hot");
    rig.read([event("slow", 1)]);
    assert!(rig.set_aside().is_empty(), "the sink is what the others wait for");
    rig.accept();
    assert_eq!(rig.set_aside(), [lane("hot")]);
}

#[test]
fn a_hot_key_is_not_set_aside_while_others_could_go_out() {
    for (more, expected) in [(1, vec![lane("hot")]), (2, vec![])] {
        let mut rig = rig(settings());
        rig.read(hot(11..=31).chain(others(29)));
        rig.throttle("hot");
        rig.read((0..more).map(|number| event(&format!("more/{number}"), 1)));
        rig.now = rig.now + Duration::from_millis(600);
        rig.step(Input::Tick);
        let aside: Vec<_> = rig.keeps.iter().map(|(_, lane, ..)| lane.clone()).collect();
        assert_eq!(aside, expected, "{more} keys could go out since it is full");
    }
}

#[test]
fn a_hot_key_is_not_set_aside_while_the_route_backs_off() {
    let mut rig = rig(settings());
    rig.read(hot(11..=31).chain(others(40)));
    rig.throttle("hot");
    rig.read([event("slow", 1)]);
    rig.fail_for(Fault::Throttle, Some(LONG * 2));
    assert!(rig.set_aside().is_empty());
}

#[test]
fn a_hot_key_is_not_set_aside_while_its_events_are_in_a_call() {
    let sink = SinkLimits { ordered_calls: false, ..settings().sink };
    let mut rig = rig(Settings { sink, ..settings() });
    rig.read(hot(11..=40).chain(others(40)));
    rig.step(Input::Tick);
    assert!(rig.calls.iter().any(|(_, events)| events.contains(&"hot@1.11.0".to_owned())));
    assert!(rig.set_aside().is_empty());
    rig.accept();
    assert_eq!(rig.keeps[0].1, lane("hot"), "once it is back");
}

#[test]
fn a_hot_key_that_is_alone_in_the_window_keeps_nobody_waiting() {
    let takes = |_: &Record, event: &Event| event.kind() != "other";
    let row = Undecodable { id: "row".into(), key: Key::new("hot").ok(), reason: "rubbish".to_owned(), raw: "".into() };
    let of = |event: Event| Content::Events(event.into());
    let last = [of(event("hot", 99)), of(testing_event("other", Some("b"), 1)), Content::Undecodable(row)];
    for last in last {
        let mut rig = rig(Settings { takes: Arc::new(takes), ..settings() });
        rig.read_contents(hot(11..=70).map(of).chain([last]).collect());
        rig.throttle("hot");
        assert!(rig.set_aside().is_empty());
    }
    let mut rig = rig(settings());
    rig.read(hot(11..=70).chain([event("b", 1)]));
    rig.throttle("hot");
    assert_eq!(rig.set_aside(), [lane("hot")], "another key is in the window");
}

#[test]
fn a_key_blocks_the_window_where_half_of_what_that_holds_is_done_and_waits_for_it() {
    for (waiting, expected) in [(39, vec![lane("slow/10")]), (40, vec![])] {
        let mut rig = rig(settings());
        let slow = (10..=10 + waiting).map(|number| event(&format!("slow/{number}"), 1));
        rig.read(slow.chain(others(79 - waiting)));
        rig.throttle("slow");
        let aside: Vec<_> = rig.keeps.iter().map(|(_, lane, ..)| lane.clone()).collect();
        assert_eq!(aside, expected, "{waiting} others of 80 wait");
    }
}

#[test]
fn many_keys_share_a_call_with_a_hot_one_that_came_first() {
    let sink = SinkLimits { max_events: 10, max_calls: 1, ..settings().sink };
    let mut rig = rig(Settings { sink, ..settings() });
    rig.read(hot(1..=50).chain(others(9)));
    let of_hot = rig.calls[0].1.iter().filter(|id| id.starts_with("hot")).count();
    assert_eq!((of_hot, rig.calls[0].1.len()), (1, 10));
}

#[test]
fn while_the_route_backs_off_nothing_is_parked_and_what_failed_is_kept_all_the_same() {
    let mut rig = rig(Settings { sink: SinkLimits { max_events: 1, ..settings().sink }, ..settings() });
    rig.read([event("a", 1), event("b", 1)]);
    rig.fail_for(Fault::Throttle, Some(LONG));
    rig.step(Input::Troubled { lane: lane("a") });
    rig.read([event("a", 2)]);
    assert!(rig.keeps.is_empty());
    rig.answer([refused(true)]);
    assert_eq!(rig.keeps.remove(0).3, ["b@1.1.0"]);
    rig.wait(LONG);
    assert_eq!(rig.keeps[0].3, ["a@1.1.0", "a@1.2.0"]);
}

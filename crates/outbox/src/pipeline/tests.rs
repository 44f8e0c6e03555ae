//! The pipeline's rules, one by one.

use std::{sync::Arc, time::Duration};

use super::{CallId, Disorder, Effect, FetchId, FrontDraft, Health, Input, Pipeline, Resume, Settings, WriteId};
use crate::{
    bookkeeping::{KeptContent, Lane},
    clock::Moment,
    entry::{CommitId, Content, Position, Record, Undecodable},
    event::{Event, Key},
    route::{AfterDeadLetter, RetryPolicy, WindowLimits},
    sink::{Fault, Outcome, SinkLimits},
    testing_event,
};

mod blame;
mod elsewhere;
mod observed;
mod pace;
mod shares;
mod unnamed;

/// A pipeline, and what it wants.
struct Rig {
    pipeline: Pipeline,
    now: Moment,
    read: u64,
    calls: Vec<(CallId, Vec<String>)>,
    keeps: Vec<(WriteId, Lane, Option<FrontDraft>, Vec<String>)>,
    checkpoints: Vec<(WriteId, String, bool)>,
    health: Vec<Health>,
    fetches: Vec<(FetchId, Key, Vec<u64>)>,
    disorders: Vec<(String, u64, Disorder)>,
    gaps: Vec<(Key, Vec<u64>)>,
    credit: Option<usize>,
    wake: Option<Moment>,
    finished: bool,
}

fn settings() -> Settings {
    Settings {
        takes: Arc::new(|_, _| true),
        keeps_undecodable: true,
        sink: SinkLimits {
            ordered_calls: true,
            max_events: 100,
            max_bytes: 1_000_000,
            max_event_bytes: 100_000,
            max_calls: 4,
        },
        size: Arc::new(|event| event.data().map_or(0, bytes::Bytes::len)),
        retry: RetryPolicy { attempts: 5, quick_attempts: 2, ..RetryPolicy::default() },
        window: WindowLimits { events: 100, bytes: 1 << 20, key_share: 20, troubled_keys: 10 },
        checkpoint_after: Duration::from_millis(100),
        observed: None,
        seed: 1,
    }
}

fn rig(settings: Settings) -> Rig {
    let resume = Resume { position: Position::new("0"), troubled: Vec::new(), tombstones: Vec::new() };
    let mut rig = Rig {
        pipeline: Pipeline::new(settings, resume),
        now: Moment::from_zero(Duration::from_secs(100)),
        read: 0,
        calls: Vec::new(),
        keeps: Vec::new(),
        checkpoints: Vec::new(),
        health: Vec::new(),
        fetches: Vec::new(),
        disorders: Vec::new(),
        gaps: Vec::new(),
        credit: None,
        wake: None,
        finished: false,
    };
    rig.step(Input::Tick);
    rig
}

fn record(position: u64, content: Content) -> Arc<Record> {
    let position = Position::new(position.to_string());
    Arc::new(Record { position, commit: CommitId([7; 16]), recorded: jiff::Timestamp::UNIX_EPOCH, content })
}

fn event(key: &str, sequence: u64) -> Event {
    testing_event("order.placed", Some(key), sequence)
}

fn refused(permanent: bool) -> Outcome {
    Outcome::Refused { permanent, reason: "no".to_owned() }
}

impl Rig {
    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.pipeline.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Read { credit } => self.credit = Some(credit.events),
                Effect::FetchMissing { fetch, key, sequences } => self.fetches.push((fetch, key, sequences)),
                Effect::OutOfTurn { key, place, disorder } => {
                    self.disorders.push((key.to_string(), place.sequence, disorder));
                }
                Effect::Gap { key, sequences } => self.gaps.push((key, sequences)),
                Effect::Publish { call, events } => {
                    self.calls.push((call, events.iter().map(|event| event.id().to_owned()).collect()));
                }
                Effect::Keep { write, lane, front, events } => {
                    let ids = events.iter().map(|(content, _)| content.id().to_owned()).collect();
                    self.keeps.push((write, lane, front, ids));
                }
                Effect::Checkpoint { write, position, finished, .. } => {
                    self.checkpoints.push((write, position.to_string(), finished));
                }
                Effect::Health(health) => self.health.push(health),
                Effect::Finished => self.finished = true,
                Effect::WakeAt(moment) => self.wake = Some(moment),
            }
        }
    }

    /// Lets time pass. As a shell does, it tells the pipeline of it only when that asked to be woken.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wake) = self.wake.take_if(|wake| *wake <= end) {
            self.now = wake;
            self.step(Input::Tick);
        }
        self.now = end;
    }

    fn read_contents(&mut self, contents: Vec<Content>) {
        self.credit = None;
        let first = self.read + 1;
        self.read += contents.len() as u64;
        let records = (first..).zip(contents).map(|(position, content)| record(position, content)).collect();
        self.step(Input::Read { records, next: Position::new(self.read.to_string()), end: false });
    }

    /// Reads one entry for each event.
    fn read(&mut self, events: impl IntoIterator<Item = Event>) {
        self.read_contents(events.into_iter().map(|event| Content::Events(event.into())).collect());
    }

    /// The next call, taken from the list.
    fn call(&mut self) -> (CallId, Vec<String>) {
        self.calls.remove(0)
    }

    fn answer(&mut self, outcomes: impl Into<Vec<Outcome>>) {
        let (call, _) = self.call();
        self.step(Input::Answered { call, outcomes: outcomes.into() });
    }

    fn accept(&mut self) {
        let (call, events) = self.call();
        self.step(Input::Answered { call, outcomes: vec![Outcome::Accepted; events.len()] });
    }

    fn fail(&mut self, fault: Fault) {
        self.fail_for(fault, None);
    }

    /// The next call fails as a whole, and the sink asks to be left alone for so long.
    fn fail_for(&mut self, fault: Fault, retry_after: Option<Duration>) {
        let (call, _) = self.call();
        self.step(Input::CallFailed { call, fault, retry_after, reason: "down".to_owned() });
    }

    fn store_checkpoints(&mut self) {
        while let Some((write, ..)) = self.checkpoints.pop() {
            self.step(Input::Stored { write });
        }
    }

    fn last_checkpoint(&self) -> Option<&str> {
        self.checkpoints.last().map(|(_, position, _)| position.as_str())
    }
}

#[test]
fn the_checkpoint_is_the_end_of_the_contiguous_acknowledged_prefix() {
    let mut rig = rig(Settings { sink: SinkLimits { max_events: 1, ..settings().sink }, ..settings() });
    rig.read([event("a", 1), event("b", 1), event("c", 1)]);
    let first = rig.calls.remove(0);
    rig.accept();
    rig.accept();
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.last_checkpoint(), None, "nothing before the gap is done");
    rig.step(Input::Answered { call: first.0, outcomes: vec![Outcome::Accepted] });
    assert_eq!(rig.last_checkpoint(), Some("3"));
}

#[test]
fn partial_failures_twice_in_a_row_keep_every_record_once_in_the_retry_set() {
    let mut rig = rig(settings());
    rig.read([event("a", 1), event("b", 1), event("c", 1)]);
    rig.answer([Outcome::Accepted, refused(false), refused(false)]);
    rig.wait(Duration::from_secs(1));
    let mut again = Vec::new();
    while !rig.calls.is_empty() {
        let (call, events) = rig.call();
        let outcomes = events.iter().map(|id| if id.starts_with('b') { refused(false) } else { Outcome::Accepted });
        let outcomes = outcomes.collect();
        again.extend(events);
        rig.step(Input::Answered { call, outcomes });
    }
    again.sort();
    assert_eq!(again, ["b@1.1.0", "c@1.1.0"]);
    assert_eq!(rig.keeps.len(), 1, "the second refusal sets b aside, once");
    assert_eq!(rig.keeps[0].3, ["b@1.1.0"]);
}

#[test]
fn outcomes_that_do_not_match_the_call_acknowledge_nothing() {
    let mut rig = rig(settings());
    rig.read([event("a", 1), event("b", 1)]);
    rig.answer([Outcome::Accepted]);
    rig.wait(Duration::from_secs(2));
    let (_, events) = rig.call();
    assert!(rig.checkpoints.is_empty() && !events.is_empty());
}

#[test]
fn a_batch_honours_both_count_and_bytes() {
    let sink = SinkLimits { max_events: 3, max_bytes: 25, max_calls: 100, ..settings().sink };
    let mut rig = rig(Settings { sink, size: Arc::new(|_| 10), ..settings() });
    rig.read((0..10).map(|n| event(&format!("key/{n}"), 1)));
    assert!(rig.calls.iter().all(|(_, events)| events.len() <= 2), "three events have 30 bytes");
    assert_eq!(rig.calls.iter().map(|(_, events)| events.len()).sum::<usize>(), 10);
}

#[test]
fn an_event_too_large_for_the_sink_becomes_a_dead_letter_and_the_rest_goes_on() {
    let size = |event: &Event| if event.kind() == "huge" { 1 << 20 } else { 10 };
    let mut rig = rig(Settings { size: Arc::new(size), ..settings() });
    rig.read([testing_event("huge", Some("a"), 1), event("b", 1)]);
    assert_eq!(rig.calls[0].1, ["b@1.1.0"]);
    let (_, lane, front, _) = &rig.keeps[0];
    assert_eq!(*lane, Lane::Key(Key::new("a").unwrap()));
    let front = front.as_ref().unwrap();
    assert!(front.retry_in.is_none() && front.reason.contains("1048576 bytes"), "{}", front.reason);
}

#[test]
fn one_undecodable_row_is_set_aside_and_the_rest_goes_on() {
    let mut rig = rig(settings());
    let row = Undecodable { id: "row/1".into(), key: None, reason: "rubbish".to_owned(), raw: bytes::Bytes::new() };
    let good = Content::Events(event("b", 1).into());
    rig.read_contents(vec![Content::Undecodable(row), good]);
    assert_eq!(rig.keeps[0].3, ["row/1"]);
    rig.accept();
    let write = rig.keeps[0].0;
    rig.step(Input::Stored { write });
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.last_checkpoint(), Some("2"));
}

#[test]
fn the_third_of_five_refused_leaves_two_accepted_one_kept_and_two_parked() {
    let mut rig = rig(settings());
    rig.read((1..=5).map(|sequence| event("a", sequence)));
    assert_eq!(rig.calls[0].1.len(), 5, "the sink keeps order within a call");
    let stopped = Outcome::Throttled { after: None };
    rig.answer([Outcome::Accepted, Outcome::Accepted, refused(true), stopped.clone(), stopped]);
    let (write, _, front, ids) = rig.keeps.remove(0);
    assert_eq!(ids, ["a@1.3.0", "a@1.4.0", "a@1.5.0"]);
    assert!(front.unwrap().retry_in.is_none(), "refused for good: a dead letter");
    rig.step(Input::Stored { write });
    rig.read([event("a", 6), event("b", 1)]);
    assert_eq!(rig.keeps[0].3, ["a@1.6.0"], "what comes later is parked");
    assert!(rig.keeps[0].2.is_none());
    assert_eq!(rig.calls[0].1, ["b@1.1.0"], "another key is not held up");
}

#[test]
fn a_key_has_one_event_in_a_call_where_the_sink_keeps_no_order() {
    let sink = SinkLimits { ordered_calls: false, ..settings().sink };
    let mut rig = rig(Settings { sink, ..settings() });
    rig.read([event("a", 1), event("a", 2), event("b", 1)]);
    assert_eq!(rig.calls.len(), 1);
    assert_eq!(rig.calls[0].1, ["a@1.1.0", "b@1.1.0"]);
    rig.accept();
    assert_eq!(rig.calls[0].1, ["a@1.2.0"]);
}

#[test]
fn the_sinks_fault_counts_no_attempts_and_condemns_nothing() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    for _ in 0..50 {
        rig.fail(Fault::Sink);
        rig.wait(Duration::from_secs(120));
    }
    assert!(rig.keeps.is_empty());
    assert!(matches!(rig.health[0], Health::BackingOff { .. }));
    rig.accept();
    assert_eq!(rig.health.last(), Some(&Health::Flowing));
}

#[test]
fn a_sink_that_failed_is_tried_with_an_event_that_has_not_failed_before_one_that_has() {
    let mut rig = rig(Settings { sink: SinkLimits { max_events: 1, max_calls: 1, ..settings().sink }, ..settings() });
    rig.read([event("a", 1), event("b", 1)]);
    rig.answer([refused(false)]);
    rig.fail(Fault::Sink);
    rig.wait(Duration::from_secs(120));
    assert_eq!(rig.call().1, ["b@1.1.0"], "the refused one stands before it");
}

#[test]
fn a_batch_rejected_as_a_whole_is_halved_until_the_culprit_stands_alone() {
    let mut rig = rig(settings());
    rig.read((0..64).map(|n| event(&format!("key/{n}"), 1)));
    let mut calls = 0;
    while !rig.calls.is_empty() {
        calls += 1;
        if rig.calls[0].1.iter().any(|id| id == "key/37@1.1.0") {
            rig.fail(Fault::Event);
        } else {
            rig.accept();
        }
    }
    assert_eq!(rig.keeps.len(), 1);
    assert_eq!(rig.keeps[0].3, ["key/37@1.1.0"]);
    assert!(calls <= 2 * 6 + 2, "{calls} calls");
}

#[test]
fn an_event_that_fails_the_target_while_others_are_accepted_is_set_aside_and_not_yet_dead() {
    let mut rig = rig(Settings { sink: SinkLimits { max_events: 1, ..settings().sink }, ..settings() });
    rig.read([event("bomb", 1), event("b", 1)]);
    for sequence in 2..60 {
        if !rig.keeps.is_empty() {
            break;
        }
        rig.read([event("b", sequence)]);
        while let Some((call, events)) = (!rig.calls.is_empty()).then(|| rig.call()) {
            if events[0].starts_with("bomb") {
                let (fault, reason) = (Fault::Unknown, "500".to_owned());
                rig.step(Input::CallFailed { call, fault, retry_after: Some(Duration::from_secs(1)), reason });
            } else {
                rig.step(Input::Answered { call, outcomes: vec![Outcome::Accepted] });
            }
        }
        rig.wait(Duration::from_secs(5));
        rig.store_checkpoints();
    }
    assert_eq!(rig.keeps[0].3, ["bomb@1.1.0"]);
    assert!(rig.keeps[0].2.as_ref().unwrap().retry_in.is_some());
}

#[test]
fn a_throttle_that_names_an_event_holds_back_only_its_key() {
    let mut rig = rig(settings());
    rig.read([event("a", 1), event("b", 1)]);
    rig.answer([Outcome::Throttled { after: Some(Duration::from_secs(30)) }, Outcome::Accepted]);
    rig.read([event("b", 2)]);
    assert_eq!(rig.calls[0].1, ["b@1.2.0"]);
    rig.accept();
    rig.wait(Duration::from_secs(29));
    assert!(rig.calls.is_empty());
    rig.wait(Duration::from_secs(2));
    assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
}

#[test]
fn the_window_bounds_what_is_read_and_not_behind_a_stored_checkpoint() {
    let mut rig = rig(settings());
    rig.read((1..=80).map(|n| event(&format!("key/{n}"), 1)));
    assert_eq!(rig.credit, None, "less than a quarter is free");
    while !rig.calls.is_empty() {
        rig.accept();
    }
    assert_eq!(rig.credit, None, "accepted, but not behind a stored checkpoint");
    rig.store_checkpoints();
    assert_eq!(rig.credit, Some(100));
}

#[test]
fn nothing_is_read_while_the_route_backs_off() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.credit = None;
    rig.fail(Fault::Sink);
    rig.step(Input::Tick);
    assert_eq!(rig.credit, None);
}

#[test]
fn nothing_new_is_read_while_too_many_keys_are_in_trouble() {
    let mut rig = rig(settings());
    rig.read((0..10).map(|n| event(&format!("key/{n}"), 1)));
    rig.answer(vec![refused(true); 10]);
    for (write, ..) in std::mem::take(&mut rig.keeps) {
        rig.step(Input::Stored { write });
    }
    rig.store_checkpoints();
    rig.credit = None;
    rig.read([]);
    assert_eq!((rig.credit, rig.health.last()), (None, Some(&Health::Overloaded)));
    for n in 0..2 {
        rig.step(Input::Released { lane: Lane::Key(Key::new(format!("key/{n}")).unwrap()) });
    }
    assert!(rig.credit.is_some());
    assert_eq!(rig.health.last(), Some(&Health::Flowing));
}

#[test]
fn a_key_released_meanwhile_is_published_instead_of_parked() {
    let resume = Resume {
        position: Position::new("0"),
        troubled: vec![Lane::Key(Key::new("a").unwrap())],
        tombstones: Vec::new(),
    };
    let mut rig = rig(settings());
    rig.pipeline = Pipeline::new(settings(), resume);
    rig.read([event("a", 7)]);
    assert!(rig.calls.is_empty());
    let write = rig.keeps[0].0;
    rig.step(Input::KeyFree { write });
    assert_eq!(rig.calls[0].1, ["a@1.7.0"]);
}

#[test]
fn a_keep_whose_answer_was_lost_is_stored_again() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.answer([refused(true)]);
    let first = rig.keeps.remove(0);
    rig.step(Input::StoreFailed { write: first.0 });
    rig.wait(Duration::from_secs(120));
    assert_eq!(rig.keeps[0].3, first.3);
    assert!(rig.checkpoints.is_empty());
}

#[test]
fn a_discarded_event_that_is_read_again_is_not_published() {
    let resume = Resume {
        position: Position::new("0"),
        troubled: Vec::new(),
        tombstones: vec![("a@1.1.0".into(), Position::new("1"))],
    };
    let mut rig = rig(settings());
    rig.pipeline = Pipeline::new(settings(), resume);
    rig.read([event("a", 1), event("a", 2)]);
    assert_eq!(rig.calls[0].1, ["a@1.2.0"]);
}

#[test]
fn a_discarded_event_is_known_at_whatever_position_its_record_is_read_again() {
    let position = |text| Position::new(text);
    let tombstones = vec![("a@1.1.0".into(), position("1@read/another/way")), ("a@1.2.0".into(), position("7@other"))];
    let resume = Resume { position: position("0"), troubled: Vec::new(), tombstones };
    let mut rig = rig(settings());
    rig.pipeline = Pipeline::new(settings(), resume);
    rig.read([event("a", 1), event("a", 2)]);
    assert_eq!(rig.calls[0].1, ["a@1.2.0"]);
}

#[test]
fn a_hot_key_is_set_aside_only_when_it_keeps_others_waiting() {
    let sink = SinkLimits { ordered_calls: false, ..settings().sink };
    let mut alone = rig(Settings { sink, ..settings() });
    alone.read((1..=90).map(|sequence| event("hot", sequence)));
    alone.wait(Duration::from_secs(5));
    assert!(alone.keeps.is_empty());

    let mut rig = rig(Settings { sink: SinkLimits { max_calls: 2, ..sink }, ..settings() });
    rig.read([event("slow", 1)].into_iter().chain((1..=90).map(|sequence| event("hot", sequence))));
    rig.step(Input::Tick);
    rig.wait(Duration::from_secs(1));
    let hot = rig.calls.iter().position(|(_, events)| events.iter().any(|id| id.starts_with("hot"))).unwrap();
    let (call, events) = rig.calls.remove(hot);
    let throttled = Outcome::Throttled { after: Some(Duration::from_secs(60)) };
    let answer = |id: &String| if id.starts_with("hot") { Outcome::Accepted } else { throttled.clone() };
    let outcomes = events.iter().map(answer).collect();
    rig.step(Input::Answered { call, outcomes });
    for _ in 0..4 {
        rig.wait(Duration::from_millis(600));
        if !rig.calls.is_empty() {
            rig.accept();
        }
    }
    assert_eq!(rig.keeps.len(), 1);
    assert_eq!(rig.keeps[0].1, Lane::Key(Key::new("hot").unwrap()));
}

#[test]
fn a_hot_key_among_others_is_set_aside_though_a_few_of_them_get_through_again_and_again() {
    let sink = SinkLimits { ordered_calls: false, ..settings().sink };
    let mut rig = rig(Settings { sink, ..settings() });
    let mut events = (1..).flat_map(|sequence| [event("hot", sequence), event(&format!("key/{sequence}"), 1)]);
    for _ in 0..200 {
        if let Some(credit) = rig.credit.take() {
            rig.read(events.by_ref().take(credit));
        }
        rig.wait(Duration::from_millis(20));
        for _ in 0..rig.calls.len() {
            rig.accept();
        }
        rig.store_checkpoints();
        if !rig.keeps.is_empty() {
            break;
        }
    }
    let [(_, lane, Some(front), _)] = rig.keeps.as_slice() else { panic!("nothing was set aside") };
    assert_eq!((lane, front.attempts), (&Lane::Key(Key::new("hot").unwrap()), 0));
}

#[test]
fn a_hot_key_that_the_target_throttles_by_name_is_set_aside_until_the_time_that_was_asked_for() {
    let mut rig = rig(settings());
    rig.read((1..=60).map(|sequence| event("hot", sequence)).chain([event("other", 1)]));
    let throttled = Outcome::Throttled { after: Some(Duration::from_secs(30)) };
    while !rig.calls.is_empty() {
        let (call, events) = rig.call();
        let answer = |id: &String| if id.starts_with("hot") { throttled.clone() } else { Outcome::Accepted };
        rig.step(Input::Answered { call, outcomes: events.iter().map(answer).collect() });
    }
    assert!(rig.keeps.is_empty());
    rig.wait(Duration::from_secs(1));
    let [(_, lane, Some(front), _)] = rig.keeps.as_slice() else { panic!("nothing was set aside") };
    assert_eq!((lane, front.retry_in), (&Lane::Key(Key::new("hot").unwrap()), Some(Duration::from_millis(29_500))));
}

#[test]
fn a_key_may_hold_its_whole_share_of_the_window_and_not_one_event_more() {
    let share = settings().window.key_share as u64;
    for (held, set_aside) in [(share, 0), (share + 1, 1)] {
        let mut rig = rig(settings());
        let others = (1..=40).map(|number| event(&format!("other/{number}"), 1));
        rig.read((1..=held).map(|sequence| event("hot", sequence)).chain(others));
        let throttled = Outcome::Throttled { after: Some(Duration::from_secs(30)) };
        while !rig.calls.is_empty() {
            let (call, events) = rig.call();
            let answer = |id: &String| if id.starts_with("hot") { throttled.clone() } else { Outcome::Accepted };
            rig.step(Input::Answered { call, outcomes: events.iter().map(answer).collect() });
        }
        rig.wait(Duration::from_secs(1));
        assert_eq!(rig.keeps.len(), set_aside, "{held} events of one key");
    }
}

#[test]
fn a_key_that_the_target_throttles_by_name_does_not_stop_the_others_once_the_window_is_full_behind_it() {
    let mut rig = rig(settings());
    rig.read([event("slow", 1), event("slow", 2)]);
    let (call, events) = rig.call();
    let throttled = Outcome::Throttled { after: Some(Duration::from_secs(30)) };
    rig.step(Input::Answered { call, outcomes: vec![throttled; events.len()] });
    let mut published = 0;
    for round in 0..10 {
        if let Some(credit) = rig.credit.take() {
            rig.read((0..credit).map(|number| event(&format!("key/{round}/{number}"), 1)));
        }
        while !rig.calls.is_empty() {
            published += rig.calls[0].1.len();
            rig.accept();
        }
        for (write, ..) in std::mem::take(&mut rig.keeps) {
            rig.step(Input::Stored { write });
        }
        rig.wait(Duration::from_millis(200));
        rig.store_checkpoints();
    }
    assert!(published > 500, "{published} events of other keys with a window of 100");
}

#[test]
fn a_key_that_blocks_the_window_is_set_aside_until_its_next_attempt_and_without_an_attempt_counted() {
    let mut rig = rig(settings());
    rig.read([event("slow", 1), event("slow", 2)].into_iter().chain((0..98).map(|key| event(&format!("k/{key}"), 1))));
    let throttled = Outcome::Throttled { after: Some(Duration::from_secs(30)) };
    while !rig.calls.is_empty() {
        let (call, events) = rig.call();
        let answer = |id: &String| if id.starts_with("slow") { throttled.clone() } else { Outcome::Accepted };
        rig.step(Input::Answered { call, outcomes: events.iter().map(answer).collect() });
    }
    let [(_, lane, Some(front), kept)] = rig.keeps.as_slice() else { panic!("nothing was set aside") };
    assert_eq!((lane, kept.len()), (&Lane::Key(Key::new("slow").unwrap()), 2));
    assert_eq!((front.attempts, front.retry_in), (0, Some(Duration::from_secs(30))));
}

#[test]
fn keys_that_are_all_throttled_stay_in_the_window() {
    let mut rig = rig(settings());
    rig.read((0..100).map(|key| event(&format!("k/{key}"), 1)));
    while !rig.calls.is_empty() {
        let (call, events) = rig.call();
        let throttled = Outcome::Throttled { after: Some(Duration::from_secs(30)) };
        rig.step(Input::Answered { call, outcomes: vec![throttled; events.len()] });
    }
    rig.wait(Duration::from_secs(10));
    assert!(rig.keeps.is_empty());
}

#[test]
fn with_continue_a_dead_letter_holds_nothing_back() {
    let retry = RetryPolicy { after_dead_letter: AfterDeadLetter::Continue, ..settings().retry };
    let mut rig = rig(Settings { retry, ..settings() });
    rig.read([event("a", 1), event("a", 2)]);
    rig.answer([refused(true), Outcome::Throttled { after: None }]);
    assert_eq!(rig.keeps[0].1, Lane::Event("a@1.1.0".into()));
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.calls[0].1, ["a@1.2.0"]);
}

#[test]
fn with_continue_an_event_that_is_tried_again_holds_its_key_back() {
    let retry = RetryPolicy { after_dead_letter: AfterDeadLetter::Continue, quick_attempts: 2, ..settings().retry };
    let mut rig = rig(Settings { retry, ..settings() });
    rig.read([event("a", 1), event("a", 2)]);
    rig.answer([refused(false), Outcome::Throttled { after: None }]);
    rig.wait(settings().retry.max_delay);
    assert_eq!(rig.calls[0].1[0], "a@1.1.0");
    rig.answer([refused(false), Outcome::Throttled { after: None }]);
    rig.wait(settings().retry.max_delay);
    assert_eq!(rig.keeps[0].1, Lane::Key(Key::new("a").unwrap()), "it waits for its next attempt, and its key for it");
    assert!(rig.calls.is_empty(), "{:?}", rig.calls);
}

#[test]
fn after_the_lease_is_lost_nothing_is_done() {
    let mut rig = rig(settings());
    rig.read([event("a", 1)]);
    rig.step(Input::LeaseLost);
    rig.accept();
    rig.wait(Duration::from_secs(10));
    rig.read([event("b", 1)]);
    assert!(rig.calls.is_empty() && rig.checkpoints.is_empty() && rig.keeps.is_empty());
}

#[test]
fn a_drain_makes_no_new_call_and_a_last_checkpoint() {
    let mut rig = rig(Settings { sink: SinkLimits { max_events: 1, max_calls: 1, ..settings().sink }, ..settings() });
    rig.read([event("a", 1), event("b", 1)]);
    rig.step(Input::Drain);
    assert!(!rig.finished, "a call is under way");
    rig.accept();
    assert!(rig.calls.is_empty());
    assert_eq!(rig.last_checkpoint(), Some("1"));
    rig.store_checkpoints();
    assert!(rig.finished);
}

#[test]
fn a_paused_route_makes_no_call_until_it_is_resumed() {
    let mut rig = rig(settings());
    rig.step(Input::Pause);
    rig.read([event("a", 1)]);
    assert!(rig.calls.is_empty());
    rig.step(Input::Resume);
    assert_eq!(rig.calls[0].1, ["a@1.1.0"]);
}

#[test]
fn a_closed_partition_ends_with_a_finished_checkpoint() {
    let mut rig = rig(settings());
    let records = vec![record(1, Content::Events(event("a", 1).into()))];
    rig.step(Input::Read { records, next: Position::new("end"), end: true });
    rig.accept();
    rig.store_checkpoints();
    rig.wait(Duration::from_secs(1));
    rig.store_checkpoints();
    assert!(rig.finished);
}

#[test]
fn what_is_kept_is_a_full_copy() {
    let mut pipeline = Pipeline::new(
        settings(),
        Resume { position: Position::new("0"), troubled: Vec::new(), tombstones: Vec::new() },
    );
    let (now, mut effects) = (Moment::default(), Vec::new());
    let records = vec![record(1, Content::Events(event("a", 1).into()))];
    pipeline.step(now, Input::Read { records, next: Position::new("1"), end: false }, &mut effects);
    pipeline.step(now, Input::Answered { call: CallId(1), outcomes: vec![refused(true)] }, &mut effects);
    let kept = effects.iter().find_map(|effect| match effect {
        Effect::Keep { events, .. } => Some(events[0].0.clone()),
        _ => None,
    });
    assert_eq!(kept, Some(KeptContent::Event(event("a", 1))));
}

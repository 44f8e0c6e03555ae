//! Sources that were only ever seen to keep the order of a key.

use super::*;
use crate::{
    event::{Identity, NewEvent},
    pipeline::Observed,
    place::{Place, Placing},
};

mod fetching;
mod limits;

const PATIENCE: Duration = Duration::from_secs(60);

fn observed() -> Settings {
    Settings { observed: Some(Observed { keys: 100, patience: PATIENCE }), ..settings() }
}

/// The record of an event as a fetch gives it: its position means nothing.
#[expect(clippy::unnecessary_wraps, reason = "a fetch answers so")]
fn found(event: Event) -> Option<Arc<Record>> {
    Some(record(9_999, Content::Events(event.into())))
}

/// An event of another incarnation, and the place that it follows.
fn placed(key: &str, place: Place, after: Place) -> Event {
    let new = NewEvent::builder("order.placed").key(key).json(&1).build().unwrap();
    let placing = Some(Placing { place, count: 1, after });
    let identity = Identity { source: &"/tests".into(), placing, recorded: None, fallback_id: "id" };
    Event::from_new(new, identity).unwrap()
}

impl Rig {
    /// Answers the first fetch.
    fn fetched(&mut self, records: Vec<Option<Arc<Record>>>) {
        let (fetch, ..) = self.fetches.remove(0);
        self.step(Input::Fetched { fetch, records });
    }

    /// The sequences that the only fetch asks for.
    fn asked(&self) -> &[u64] {
        let [(_, _, sequences)] = self.fetches.as_slice() else { panic!("{:?}", self.fetches) };
        sequences
    }

    /// Where the checkpoint gets to, once all are stored.
    fn done_to(&mut self) -> String {
        let mut done_to = String::new();
        loop {
            self.wait(Duration::from_secs(1));
            let Some((_, position, _)) = self.checkpoints.last() else { return done_to };
            done_to.clone_from(position);
            self.store_checkpoints();
        }
    }

    /// The events of the next keep, and whether they are parked; it is stored.
    fn keep(&mut self) -> (Vec<String>, bool) {
        let (write, _, front, ids) = self.keeps.remove(0);
        self.step(Input::Stored { write });
        (ids, front.is_none())
    }

    /// Accepts all calls, one after the other, and gives what went out in them.
    fn accept_all(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while !self.calls.is_empty() {
            out.extend(self.calls[0].1.clone());
            self.accept();
        }
        out
    }
}

#[test]
fn entries_in_their_order_go_out_as_they_come() {
    let mut rig = rig(observed());
    rig.read([event("a", 5), event("a", 6), event("b", 1), event("a", 7)]);
    assert_eq!(rig.accept_all(), ["a@1.5.0", "a@1.6.0", "a@1.7.0", "b@1.1.0"]);
    assert!(rig.fetches.is_empty() && rig.disorders.is_empty());
}

#[test]
fn a_record_that_comes_again_is_done_without_publishing() {
    let mut rig = rig(observed());
    rig.read([event("a", 5), event("a", 6), event("a", 5), event("a", 6)]);
    assert_eq!(rig.accept_all(), ["a@1.5.0", "a@1.6.0"]);
    let duplicate = |sequence| ("a".to_owned(), sequence, Disorder::Duplicate);
    assert_eq!(rig.disorders, [duplicate(5), duplicate(6)]);
    assert_eq!(rig.last_checkpoint(), Some("4"));
}

#[test]
fn an_entry_from_before_all_that_was_seen_of_its_key_is_published_all_the_same() {
    let mut rig = rig(observed());
    rig.read([event("a", 5), event("a", 3), event("a", 4), event("a", 6)]);
    let mut out = rig.accept_all();
    out.sort();
    assert_eq!(out, ["a@1.3.0", "a@1.4.0", "a@1.5.0", "a@1.6.0"]);
    let inversion = |sequence| ("a".to_owned(), sequence, Disorder::Inversion);
    assert_eq!(rig.disorders, [inversion(3), inversion(4)]);
}

#[test]
fn an_entry_that_misses_its_predecessor_waits_and_other_keys_go_on() {
    let mut rig = rig(observed());
    rig.read([event("a", 1), event("a", 3), event("a", 4), event("b", 1)]);
    assert_eq!(rig.accept_all(), ["a@1.1.0", "b@1.1.0"]);
    assert_eq!(rig.asked(), [2]);
    assert_eq!(rig.done_to(), "1", "it does not pass the record that showed the gap");
}

#[test]
fn a_predecessor_that_comes_by_itself_goes_out_first_and_is_not_waited_for_any_more() {
    let mut rig = rig(observed());
    rig.read([event("a", 1), event("a", 4), event("a", 3)]);
    assert_eq!(rig.asked(), [2], "what came is asked for no more");
    rig.read([event("a", 2)]);
    assert_eq!(rig.accept_all(), ["a@1.1.0", "a@1.2.0", "a@1.3.0", "a@1.4.0"]);
    rig.fetched(vec![found(event("a", 2))]);
    assert!(rig.calls.is_empty(), "what was fetched had come");
    assert_eq!(rig.done_to(), "4");
}

#[test]
fn events_that_the_route_does_not_take_move_the_mark() {
    let takes = |_: &Record, event: &Event| event.kind() != "other";
    let mut rig = rig(Settings { takes: Arc::new(takes), ..observed() });
    rig.read([event("a", 1), testing_event("other", Some("a"), 2), event("a", 3)]);
    assert_eq!(rig.accept_all(), ["a@1.1.0", "a@1.3.0"]);
    assert!(rig.fetches.is_empty());
}

#[test]
fn events_without_a_key_are_not_judged() {
    let mut rig = rig(observed());
    let keyless = |number| testing_event("order.placed", None, number);
    rig.read([keyless(2), keyless(1), keyless(2), keyless(9)]);
    assert_eq!(rig.accept_all().len(), 4);
    assert!(rig.fetches.is_empty() && rig.disorders.is_empty());
}

#[test]
fn a_row_that_cannot_be_read_is_not_judged_and_not_fetched_twice() {
    let mut rig = rig(observed());
    let row = || {
        let key = Some(Key::new("a").unwrap());
        Content::Undecodable(Undecodable { id: "row/2".into(), key, reason: "rubbish".to_owned(), raw: "".into() })
    };
    rig.read_contents(vec![Content::Events(event("a", 1).into()), row(), Content::Events(event("a", 3).into())]);
    rig.accept();
    assert_eq!(rig.keep().0, ["row/2"]);
    assert_eq!(rig.asked(), [2], "nobody knows that it is number 2");
    rig.fetched(vec![Some(record(9_999, row()))]);
    assert_eq!(rig.keep(), (vec!["a@1.3.0".to_owned()], true), "the row is kept already");
    assert_eq!(rig.done_to(), "3");
}

#[test]
fn an_unreadable_row_that_was_fetched_becomes_a_dead_letter_before_what_follows_it() {
    let mut rig = rig(observed());
    rig.read([event("a", 1), event("a", 3)]);
    rig.accept();
    let key = Some(Key::new("a").unwrap());
    let row = Undecodable { id: "row/2".into(), key, reason: "rubbish".to_owned(), raw: "".into() };
    rig.fetched(vec![Some(record(9_999, Content::Undecodable(row)))]);
    assert_eq!(rig.keeps[0].3, ["row/2", "a@1.3.0"]);
    assert!(rig.calls.is_empty());
}

#[test]
fn a_higher_incarnation_follows_the_mark_that_it_names() {
    let mut rig = rig(observed());
    let second = |sequence| placed("a", Place::new(2, sequence, 0), Place::new(2, sequence - 1, 0));
    rig.read([event("a", 7), placed("a", Place::new(2, 8, 0), Place::new(1, 7, 0)), second(9), second(8)]);
    assert_eq!(rig.accept_all(), ["a@1.7.0", "a@2.8.0", "a@2.9.0"]);
    assert_eq!(rig.disorders, [("a".to_owned(), 8, Disorder::Duplicate)]);
    assert!(rig.fetches.is_empty());
}

#[test]
fn all_events_of_an_entry_share_its_turn() {
    let of_two = |sequence| {
        let before = if sequence > 1 { Place::new(1, sequence - 1, 1) } else { Place::ORIGIN };
        let first = placed("a", Place::new(1, sequence, 0), before);
        let second = placed("a", Place::new(1, sequence, 1), Place::new(1, sequence, 0));
        Content::Events([first, second].into_iter().collect())
    };
    let mut rig = rig(observed());
    rig.read_contents(vec![of_two(1), of_two(2), of_two(1), of_two(4)]);
    assert_eq!(rig.accept_all(), ["a@1.1.0", "a@1.1.1", "a@1.2.0", "a@1.2.1"]);
    assert_eq!(rig.asked(), [3]);
    rig.fetched(vec![Some(record(9_999, of_two(3)))]);
    assert_eq!(rig.accept_all(), ["a@1.3.0", "a@1.3.1", "a@1.4.0", "a@1.4.1"]);
    assert_eq!(rig.done_to(), "4");
}

#[test]
fn a_source_that_promises_its_order_is_not_judged() {
    let mut rig = rig(settings());
    rig.read([event("a", 1), event("a", 3), event("a", 1)]);
    assert_eq!(rig.accept_all().len(), 3);
    assert!(rig.fetches.is_empty() && rig.disorders.is_empty());
}

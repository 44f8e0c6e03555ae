//! Events that a target does not take.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    arrivals::assert_whole_and_in_order,
    rig::{Rig, eventually},
    target::{Answer, Target},
};

const KEYS: u32 = 10_000;
const RETRY: &str =
    "retry = { quick_attempts = 2, attempts = 3, base_delay = '10ms', max_delay = '200ms', doubt = '1s' }\n";

/// Refuses the event `refused` by name, and falls over at the event `failed`.
fn poisoned(target: &Target, refused: &'static [u8], failed: &'static [u8]) {
    target.set_mood(move |event| match event.data().map(|data| &**data) {
        Some(data) if data == refused => Answer::Refuse("unknown article"),
        Some(data) if data == failed => Answer::Fail,
        _ => Answer::Accept,
    });
}

fn letters(rig: &Rig) -> Vec<Value> {
    rig.json(&["dead-letters", "list"])["dead_letters"].as_array().unwrap().clone()
}

fn key_of(letter: &Value) -> &str {
    letter["event"]["key"].as_str().unwrap()
}

#[test]
fn of_ten_thousand_keys_only_the_two_with_a_poison_event_wait_and_a_redrive_releases_them_in_order() {
    let target = Target::new();
    poisoned(&target, b"17", b"4242");
    let rig = Rig::new(&target.route(RETRY));
    // One event for each key, then two more for those in trouble.
    rig.write(0..KEYS, KEYS, 1_000);
    rig.write([KEYS + 17, KEYS + 4242, 2 * KEYS + 17, 2 * KEYS + 4242], KEYS, 1);
    let relay = rig.relay();
    // What fails without being named is judged by what is accepted meanwhile.
    let status = eventually("both are dead letters", || {
        rig.write_events([("another".to_owned(), "1".to_owned())], 1);
        let status = rig.status();
        let route = &status["routes"][0];
        (route["dead"] == 2 && route["backlog"] == 0).then_some(status)
    });
    assert_eq!(status["routes"][0]["parked"], 4, "{status:#}");
    let list = letters(&rig);
    assert_eq!(list.iter().map(key_of).collect::<BTreeSet<_>>(), BTreeSet::from(["key/17", "key/4242"]));
    for letter in &list {
        let reason = letter["reason"].as_str().unwrap();
        let named =
            if key_of(letter) == "key/17" { ["422", "unknown article"] } else { ["500", "Internal Server Error"] };
        assert!(named.iter().all(|word| reason.contains(word)), "{reason}");
        assert_eq!(letter["parked"], 2);
    }
    let others = rig.committed().len() - 2;
    let accepted: BTreeSet<_> = target.arrivals().into_iter().filter(|a| a.accepted).filter_map(|a| a.key).collect();
    assert_eq!(accepted.len(), others, "every other key has gone on");

    assert_eq!(relay.stop().code, 0);
    let before = target.count();
    let relay = rig.relay();
    rig.write_events([("another".to_owned(), "1".to_owned())], 1);
    rig.wait_status("the new relay publishes", |status| {
        status["relay"]["epoch"] == 2 && status["routes"][0]["backlog"] == 0
    });
    let since: Vec<_> = target.arrivals().split_off(before);
    assert!(since.iter().all(|arrival| !arrival.is_of("key/17") && !arrival.is_of("key/4242")), "still parked");
    assert_eq!(letters(&rig), list);

    target.set_mood(|_| Answer::Accept);
    assert_eq!(rig.json(&["dead-letters", "redrive", "--all"])["redriven"], 2);
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    assert_eq!(letters(&rig), Vec::<Value>::new());
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_poison_event_in_batches_that_are_refused_as_a_whole_is_found() {
    let target = Target::of_whole_batches();
    poisoned(&target, b"313", b"");
    let sink = target.sink("encoding = 'batch'");
    let rig = Rig::new(&format!("[[route]]\nname = 'main'\n{RETRY}{sink}"));
    rig.write(0..1_000, 500, 100);
    let relay = rig.relay();
    let status = rig.wait_status("the culprit stands alone", |status| {
        status["routes"][0]["dead"] == 1 && status["routes"][0]["backlog"] == 0
    });
    assert_eq!(status["routes"][0]["parked"], 1);
    let list = letters(&rig);
    assert_eq!(key_of(&list[0]), "key/313");
    target.set_mood(|_| Answer::Accept);
    assert_eq!(rig.json(&["dead-letters", "redrive", &list[0]["id"].to_string()])["redriven"], 1);
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_poison_event_in_batches_with_an_outcome_each_is_found_at_once() {
    let target = Target::new();
    poisoned(&target, b"313", b"");
    let sink = target.sink("encoding = 'batch'");
    let rig = Rig::new(&format!("[[route]]\nname = 'main'\n{RETRY}{sink}"));
    rig.write(0..1_000, 500, 100);
    let relay = rig.relay();
    rig.wait_status("it is a dead letter", |status| {
        status["routes"][0]["dead"] == 1 && status["routes"][0]["backlog"] == 0
    });
    let times = target.arrivals().iter().filter(|arrival| arrival.data.as_deref() == Some(b"313")).count();
    assert_eq!(times, 1, "a refusal by name is final");
    assert_eq!(rig.json(&["dead-letters", "discard", "--all", "--yes", "--reason", "a test"])["discarded"], 1);
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    let of_key: Vec<_> = target.arrivals().into_iter().filter(|a| a.accepted && a.is_of("key/313")).collect();
    let kinds: Vec<_> = of_key.iter().map(|arrival| arrival.kind.as_str()).collect();
    assert_eq!(kinds, ["outbox.skipped", "order.placed"], "a marker stands in its place");
}

//! How others lost, doubled or reordered events, where it takes a real relay to see it: `docs/field-defects.md` says who, and
//! which tests elsewhere guard the rest.

use crate::{
    arrivals::assert_whole_and_in_order,
    process::RelayProcess,
    rig::{Rig, eventually},
    target::{Answer, Target},
};

#[test]
fn a_target_that_is_not_there_is_said_at_the_start_before_there_is_anything_to_publish() {
    let mut target = Target::down_at_first();
    let rig = Rig::new(&target.route(""));
    let check = rig.outbox(&["check"]);
    assert_ne!(check.code, 0, "{check:?}");
    assert!(check.said().contains("main") && check.said().contains("http://127."), "{check:?}");
    let relay = rig.relay();
    eventually("the relay says so", || relay.log().contains("does not take events now").then_some(()));
    assert!(relay.log().contains("route=main"), "{}", relay.log());
    target.up();
    let check = rig.outbox(&["check"]);
    assert_eq!(check.code, 0, "{check:?}");
    rig.write(0..10, 2, 1);
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

/// What the relay has read from files so far, whether they were cached or not.
fn bytes_read(relay: &RelayProcess) -> u64 {
    let counters = std::fs::read_to_string(format!("/proc/{}/io", relay.id())).unwrap();
    let line = counters.lines().find(|line| line.starts_with("rchar:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_poll_reads_only_what_is_pending_however_long_the_history_is() {
    const COMMITS: u32 = 20;
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    let history = (0..20_000).map(|number| (format!("key/{}", number % 100), "x".repeat(1_000)));
    rig.write_events(history, 1_000);
    let relay = rig.relay();
    rig.wait_published();
    let size = std::fs::metadata(rig.path("orders.db")).unwrap().len();
    assert!(size > 20 << 20, "{size}");
    let before = bytes_read(&relay);
    // Each commit by another process takes away what the relay has in its cache.
    for number in 0..COMMITS {
        let already = target.count();
        rig.write([number], 1, 1);
        target.wait_count(already + 1);
    }
    let read = bytes_read(&relay) - before;
    assert!(read < size / 4, "{read} bytes for {COMMITS} commits behind a history of {size}");
    assert_eq!(relay.stop().code, 0);
}

#[test]
fn more_dead_letters_than_fit_on_a_page_are_all_listed_and_all_redriven() {
    const KEYS: u32 = 1_200;
    let target = Target::new();
    target.set_mood(|_| Answer::Refuse("not today"));
    let rig = Rig::new(&target.route(""));
    rig.write(0..2 * KEYS, KEYS, 200);
    let relay = rig.relay();
    rig.wait_status("every key is in trouble", |status| {
        let route = &status["routes"][0];
        (&route["dead"], &route["parked"], &route["backlog"]) == (&KEYS.into(), &KEYS.into(), &0.into())
    });
    let listed = rig.json(&["dead-letters", "list", "--limit", "100000"]);
    assert_eq!(listed["dead_letters"].as_array().unwrap().len(), KEYS as usize);
    assert_eq!(listed["more"], false);
    target.set_mood(|_| Answer::Accept);
    assert_eq!(rig.json(&["dead-letters", "redrive", "--all"])["redriven"], KEYS);
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

//! Replay and purge.

use crate::place::Place;

#[test]
fn a_replay_is_first_shown_and_then_done_by_a_relay() {
    let place = Place::initialised();
    place.place_orders(30);
    place.publish_all();
    let dry = place.json(&["replay", "--route", "ledger", "--key", "customer/3"]);
    assert_eq!((&dry["dry_run"], &dry["routes"][0]["events"]), (&true.into(), &3.into()));
    assert_eq!(place.read("ledger.jsonl").lines().count(), 30);
    let relay = place.relay();
    let done = place.json(&["replay", "--route", "ledger", "--key", "customer/3", "--yes"]);
    let id = done["routes"][0]["replay"].as_str().unwrap();
    assert_eq!(relay.stop().code, 0);
    let lines = place.read("ledger.jsonl");
    let again: Vec<_> = lines.lines().skip(30).collect();
    assert_eq!(again.len(), 3);
    assert!(again.iter().all(|line| line.contains(id) && line.contains("customer/3")), "{again:?}");
}

#[test]
fn a_replay_finds_by_type_id_and_time() {
    let place = Place::initialised();
    place.place_orders(12);
    place.publish_all();
    let events = |args: &[&str]| {
        let mut all = vec!["replay", "--all"];
        all.extend(args);
        let found = place.json(&all);
        found["routes"].as_array().unwrap().iter().map(|route| route["events"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(events(&[]), 24);
    assert_eq!(events(&["--type", "order.*"]), 24);
    assert_eq!(events(&["--id", "customer/1@1.1.0"]), 2);
    assert_eq!(events(&["--since", "1h"]), 24);
    assert_eq!(place.run(&["replay", "--all", "--until", "1h"]).code, 3);
    assert_eq!(place.run(&["replay", "--all", "--since", "1h", "--until", "2h"]).code, 2);
    assert_eq!(place.run(&["replay", "--all", "--since", "yesterday"]).code, 2);
}

#[test]
fn only_what_is_published_is_purged() {
    let place = Place::initialised();
    place.place_orders(20);
    assert_eq!(place.json(&["purge", "--keep", "5", "--yes"])["entries"], 0);
    place.publish_all();
    assert_eq!(place.json(&["purge", "--keep", "5", "--yes"])["entries"], 15);
    assert_eq!(place.json(&["purge", "--older-than", "1h"])["entries"], 0);
    assert_eq!(place.run(&["purge"]).code, 2);
    let refused = place.run(&["purge", "--keep", "0"]);
    assert_eq!(refused.code, 2, "what is purged cannot be replayed any more");
    assert!(refused.err.contains("nothing was done") && refused.err.contains("--yes"), "{}", refused.err);
    place.place_orders(3);
    place.publish_all();
    assert_eq!(place.read("ledger.jsonl").lines().count(), 23);
}

#[test]
fn a_paused_route_keeps_its_backlog() {
    let place = Place::initialised();
    place.place_orders(1);
    place.publish_all();
    assert_eq!(place.run(&["route", "pause", "ledger"]).code, 0);
    place.place_orders(4);
    let relay = place.relay();
    let status = place.wait_until(|status| status["routes"][1]["backlog"] == 0);
    assert_eq!((&status["routes"][0]["state"], &status["routes"][0]["backlog"]), (&"paused".into(), &4.into()));
    assert_eq!(place.run(&["route", "resume", "ledger"]).code, 0);
    place.wait_until(|status| status["routes"][0]["backlog"] == 0);
    assert_eq!(relay.stop().code, 0);
    assert_eq!(place.read("ledger.jsonl").lines().count(), 5);
}

#[test]
fn a_replay_that_is_under_way_holds_retention_until_it_is_cancelled() {
    let place = Place::initialised();
    place.place_orders(20);
    place.publish_all();
    let asked = place.json(&["replay", "--route", "ledger", "--yes", "--no-wait"]);
    let id = asked["routes"][0]["replay"].as_str().unwrap();
    assert_eq!(place.json(&["purge", "--keep", "5", "--yes"])["entries"], 0);
    assert_eq!(place.json(&["replay", "list"])["replays"][0]["id"], id);
    assert_eq!(place.run(&["replay", "cancel", "another"]).code, 3);
    assert_eq!(place.json(&["replay", "cancel", id])["cancelled"], id);
    assert_eq!(place.json(&["replay", "list"])["replays"].as_array().unwrap().len(), 0);
    assert_eq!(place.json(&["purge", "--keep", "5", "--yes"])["entries"], 15);
}

#[test]
fn whoever_waits_for_a_replay_is_told_that_it_was_cancelled() {
    let place = Place::initialised();
    place.place_orders(20);
    place.publish_all();
    let waiting = place.spawn(&["replay", "--route", "ledger", "--yes"]);
    let id = place.until("the replay is asked for", |place| {
        place.json(&["replay", "list"])["replays"][0]["id"].as_str().map(str::to_owned)
    });
    assert_eq!(place.run(&["replay", "cancel", &id]).code, 0);
    let ran = waiting.wait();
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("was cancelled, 20 entries before its end"), "{}", ran.err);
}

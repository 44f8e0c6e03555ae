//! What operators do while a relay runs.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use outbox::Place;

use crate::{
    arrivals::{Arrival, assert_whole_and_in_order},
    rig::{Rig, eventually},
    target::Target,
};

/// What a relay says of itself.
pub(crate) fn health(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /health HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_paused_route_gets_nothing_until_it_is_resumed_and_then_all_in_order() {
    let (main, other) = (Target::new(), Target::new());
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = Rig::new(&format!(
        "[relay]\nlisten = '{address}'\n{}[[route]]\nname = 'other'\n{}",
        main.route(""),
        other.sink(""),
    ));
    let relay = rig.relay();
    rig.write(0..100, 10, 10);
    rig.wait_published();
    assert_eq!(rig.json(&["route", "pause", "main"])["changed"], true);
    // A relay looks once a second, and says then what it does.
    eventually("the relay has noticed", || health(address).contains("\"state\":\"paused\"").then_some(()));
    let quiet = main.count();
    rig.write(200..700, 10, 10);
    rig.wait_status("the other route is done", |status| status["routes"][1]["backlog"] == 0);
    assert_eq!(main.count(), quiet, "a paused route gets nothing");
    let status = rig.status();
    assert_eq!(status["routes"][0]["state"], "paused");
    assert!(status["routes"][0]["backlog"].as_u64().unwrap() >= 500, "{status:#}");
    assert_eq!(rig.json(&["route", "resume", "main"])["changed"], true);
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    for target in [main, other] {
        assert_whole_and_in_order(&target.arrivals(), &rig.committed());
    }
}

/// Has a running relay replay, after a dry run that changes nothing, and gives what arrived.
fn replayed(rig: &Rig, target: &Target, args: &[&str]) -> Vec<Arrival> {
    let before = target.count();
    let all = [&["replay", "--route", "main"], args].concat();
    let dry = rig.json(&all);
    assert_eq!(dry["dry_run"], true);
    let events = dry["routes"][0]["events"].as_u64().unwrap();
    assert_eq!(target.count(), before, "a dry run publishes nothing");
    let done = rig.json(&[&all[..], &["--yes"]].concat());
    let id = done["routes"][0]["replay"].as_str().unwrap().to_owned();
    let arrivals = target.arrivals().split_off(before);
    assert_eq!(arrivals.len() as u64, events, "as many as the dry run said: {args:?}");
    assert!(arrivals.iter().all(|arrival| arrival.replay.as_ref() == Some(&id)));
    arrivals
}

#[test]
fn a_running_relay_replays_by_key_type_id_and_time_in_order() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    let database = rig.database();
    rig.write(0..200, 10, 10);
    let sql = "INSERT INTO outbox (key, type, data, recorded_at) VALUES (?1, ?2, '1', ?3)";
    for number in 0..20 {
        let recorded = 1_700_000_000_000_i64 + number * 1_000;
        database.execute(sql, (format!("old/{}", number % 4), "order.imported", recorded)).unwrap();
    }
    let relay = rig.relay();
    rig.wait_published();
    let in_order = |arrivals: &[Arrival]| {
        let mut places: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
        for arrival in arrivals {
            places.entry(arrival.key.as_deref().unwrap()).or_default().push(arrival.place.unwrap());
        }
        places.values().all(|places| places.is_sorted())
    };
    let by_key = replayed(&rig, &target, &["--key", "key/3"]);
    assert_eq!(by_key.len(), 20);
    assert!(by_key.iter().all(|arrival| arrival.is_of("key/3")) && in_order(&by_key));
    let by_type = replayed(&rig, &target, &["--type", "order.imp*"]);
    assert_eq!(by_type.len(), 20);
    assert!(by_type.iter().all(|arrival| arrival.kind == "order.imported") && in_order(&by_type));
    let by_id = replayed(&rig, &target, &["--id", "key/3@1.7.0"]);
    assert_eq!(by_id.iter().map(|arrival| arrival.id.as_str()).collect::<Vec<_>>(), ["key/3@1.7.0"]);
    let by_time = replayed(&rig, &target, &["--since", "2023-11-14T22:13:25Z", "--until", "2023-11-14T22:13:30Z"]);
    assert_eq!(by_time.len(), 5);
    let all = replayed(&rig, &target, &[]);
    assert_eq!(all.len(), 220);
    assert!(in_order(&all));
    assert_eq!(rig.outbox(&["replay", "--route", "main", "--key", "nobody"]).code, 3);
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_replay_goes_on_after_a_crash_in_its_middle() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    rig.write(0..2_000, 20, 100);
    let relay = rig.relay();
    rig.wait_published();
    let before = target.count();
    let asked = rig.json(&["replay", "--route", "main", "--yes", "--no-wait"]);
    assert_eq!(asked["routes"][0]["events"], 2_000);
    target.wait_count(before + 300);
    relay.kill();
    let relay = rig.relay();
    rig.wait_status("the replay is done", |status| status["replays"] == serde_json::json!([]));
    assert_eq!(relay.stop().code, 0);
    let again: Vec<_> = target.arrivals().into_iter().filter(|arrival| arrival.replay.is_some()).collect();
    let as_first = |arrival: &Arrival| Arrival { replay: None, ..arrival.clone() };
    assert_whole_and_in_order(&again.iter().map(as_first).collect::<Vec<_>>(), &rig.committed());
}

#[test]
fn a_route_is_renamed_and_retired_without_losing_its_place() {
    let (main, other) = (Target::new(), Target::new());
    let beside = format!("[[route]]\nname = 'other'\n{}", other.sink(""));
    let rig = Rig::new(&format!("{}{beside}", main.route("")));
    rig.write(0..50, 10, 10);
    let relay = rig.relay();
    rig.wait_published();
    let running = rig.outbox(&["route", "rename", "main", "ledger"]);
    assert_eq!(running.code, 1, "{running:?}");
    assert!(running.err.contains("a relay is running"), "{running:?}");
    assert_eq!(relay.stop().code, 0);

    assert_eq!(rig.json(&["route", "rename", "main", "ledger"])["to"], "ledger");
    rig.configure("outbox.toml", &format!("[[route]]\nname = 'ledger'\n{}{beside}", main.sink("")));
    let relay = rig.relay();
    rig.write(50..100, 10, 10);
    rig.wait_published();
    assert_eq!(main.count(), 100, "it goes on where it stood");
    assert_eq!(relay.stop().code, 0);

    rig.configure("outbox.toml", &format!("[[route]]\nname = 'ledger'\n{}", main.sink("")));
    rig.write(100..110, 10, 10);
    let relay = rig.relay();
    rig.wait_status("the configured route is done", |status| status["routes"][0]["backlog"] == 0);
    assert!(relay.log().contains("other") && relay.log().contains("outbox route retire"), "{}", relay.log());
    assert_eq!(rig.json(&["purge", "--keep", "1", "--yes"])["entries"], 99, "retention waits for what is registered");
    let running = rig.outbox(&["route", "retire", "other", "--yes"]);
    assert_eq!(running.code, 1, "{running:?}");
    assert!(running.err.contains("a relay is running"), "{running:?}");
    assert_eq!(relay.stop().code, 0);
    let unpublished = rig.outbox(&["route", "retire", "other"]);
    assert_eq!(unpublished.code, 2, "{unpublished:?}");
    assert!(unpublished.err.contains("10 entries") && unpublished.err.contains("--yes"), "{unpublished:?}");
    assert_eq!(rig.json(&["route", "retire", "other", "--yes"])["retired"], "other");
    assert_eq!(rig.json(&["purge", "--keep", "1", "--yes"])["entries"], 10);
    let relay = rig.relay();
    rig.write(110..120, 10, 10);
    rig.wait_status("the relay goes on behind the purge", |status| {
        status["routes"][0]["backlog"] == 0 && main.count() == 120
    });
    assert_eq!(relay.stop().code, 0);
}

#[test]
fn purging_while_events_flow_removes_only_what_is_published() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    let relay = rig.relay();
    let mut committed: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for round in 0..5 {
        rig.write(round * 400..(round + 1) * 400, 20, 20);
        for (key, places) in rig.committed() {
            let known = committed.entry(key).or_default();
            known.extend(places);
            known.sort_unstable();
            known.dedup();
        }
        let purged = rig.json(&["purge", "--keep", "50", "--yes"]);
        assert!(purged["entries"].is_u64(), "{purged}");
    }
    rig.wait_published();
    rig.json(&["purge", "--keep", "50", "--yes"]);
    let left: i64 = rig.database().query_row("SELECT count(*) FROM outbox_entries", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 50);
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &committed);
    let relay = rig.relay();
    rig.write(2_000..2_010, 10, 10);
    target.wait_count(2_010);
    assert_eq!(relay.stop().code, 0, "a purge does not look like a lost history");
    assert_eq!(target.count(), 2_010);
}

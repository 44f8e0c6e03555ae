//! Sinks that are down.

use std::time::Duration;

use crate::{
    arrivals::assert_whole_and_in_order,
    rig::{Rig, eventually, now},
    target::{Answer, Target},
};

/// How long the sink is down.
const OUTAGE: Duration = Duration::from_secs(10);
/// Memory that may come and go, in KiB: a few probes, statements that were not prepared before.
const SLACK: u64 = 4 << 10;

fn kilobyte(number: u32) -> (String, String) {
    (format!("key/{}", number % 200), format!("{{\"number\":{number},\"filling\":\"{:1000}\"}}", ""))
}

#[test]
fn a_sink_down_for_long_costs_neither_events_nor_memory_and_is_caught_up_with() {
    let mut target = Target::down_at_first();
    let sink = target.sink("encoding = 'batch'");
    let retry = "retry = { attempts = 2, base_delay = '20ms', max_delay = '500ms', doubt = '0s' }\n";
    let rig = Rig::new(&format!("[[route]]\nname = 'main'\n{retry}{sink}"));
    rig.write_events((0..10_000).map(kilobyte), 500);
    let relay = rig.relay();
    let down = now();
    let status = rig.wait_status("it backs off", |status| status["routes"][0]["state"] == "backing_off");
    let reason = status["routes"][0]["reason"].as_str().unwrap().to_lowercase();
    assert!(reason.contains("connect"), "{reason}");
    let since = status["routes"][0]["since"].clone();
    assert!(since.is_string(), "{status:#}");

    eventually("two seconds have passed", || (now().since(down) > Duration::from_secs(2)).then_some(()));
    let early = relay.resident();
    rig.write_events((10_000..15_000).map(kilobyte), 500);
    eventually("the outage is over", || (now().since(down) > OUTAGE).then_some(()));
    let late = relay.resident();
    assert!(late <= early + SLACK, "{early} KiB after two seconds, {late} KiB after {OUTAGE:?}");

    let route = &rig.status()["routes"][0];
    assert_eq!((&route["state"], &route["since"]), (&"backing_off".into(), &since), "since when it is down");
    assert_eq!((&route["backlog"], &route["retrying"]), (&15_000.into(), &0.into()), "{route:#}");
    assert_eq!(rig.json(&["dead-letters", "list"])["dead_letters"], serde_json::json!([]));

    target.up();
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_sink_that_goes_away_while_events_flow_is_caught_up_with_in_order() {
    let mut target = Target::new();
    target.set_mood(|_| Answer::AcceptAfter(Duration::from_millis(2)));
    let rig = Rig::new(&target.route("retry = { base_delay = '20ms', max_delay = '200ms' }\n"));
    let relay = rig.relay();
    for round in 0..3_u32 {
        rig.write(round * 600..(round + 1) * 600, 30, 20);
        target.wait_count(round as usize * 600 + 200);
        target.down();
        rig.wait_status("it backs off", |status| status["routes"][0]["state"] == "backing_off");
        target.up();
        rig.wait_published();
    }
    assert_eq!(rig.json(&["dead-letters", "list"])["dead_letters"], serde_json::json!([]));
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

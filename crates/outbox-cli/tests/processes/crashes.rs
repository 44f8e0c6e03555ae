//! Relays that are killed.

use std::{thread, time::Duration};

use crate::{
    arrivals::{assert_whole_and_in_order, duplicates},
    rig::Rig,
    target::{Answer, Target},
};

const KILLS: u32 = 20;
const EVENTS: u32 = 3_000;
const KEYS: u32 = 50;
const WINDOW: usize = 200;

#[test]
fn a_relay_killed_again_and_again_while_events_flow_loses_nothing_and_keeps_order() {
    let target = Target::new();
    target.set_mood(|_| Answer::AcceptAfter(Duration::from_millis(2)));
    let rig = Rig::new(&target.route(&format!("window = {{ events = {WINDOW}, key_share = 100 }}\n")));
    // Where in the flow each kill falls differs from kill to kill, and from key to key.
    let pace = |kill: u32| 20 + (kill * 37 % 110) as usize;
    let mut kills = Vec::new();
    for kill in 0..KILLS {
        let share = EVENTS / KILLS;
        thread::scope(|scope| {
            scope.spawn(|| rig.write(kill * share..(kill + 1) * share, KEYS, 3));
            let relay = rig.relay();
            target.wait_count(kills.last().copied().unwrap_or(0) + pace(kill));
            relay.kill();
            kills.push(target.count());
        });
    }
    let relay = rig.relay();
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);

    let arrivals = target.arrivals();
    assert_whole_and_in_order(&arrivals, &rig.committed());
    kills.push(arrivals.len());
    for pair in kills.windows(2) {
        let again = duplicates(&arrivals[pair[0]..pair[1]], &arrivals[..pair[0]]);
        assert!(again <= WINDOW, "{again} duplicates after a crash, and the window is {WINDOW}");
    }
}

#[test]
fn a_relay_killed_while_it_keeps_events_forgets_none_of_them() {
    let target = Target::new();
    target.set_mood(|event| match event.key().map(outbox::Key::as_str) {
        Some("key/3" | "key/7") => Answer::Refuse("this key is not welcome"),
        _ => Answer::Accept,
    });
    let rig = Rig::new(&target.route("retry = { base_delay = '10ms', max_delay = '50ms' }\n"));
    for round in 0..5_u32 {
        let relay = rig.relay();
        let before = target.count();
        rig.write(round * 100..(round + 1) * 100, 10, 10);
        target.wait_count(before + 30 + (round as usize) * 9);
        relay.kill();
    }
    let relay = rig.relay();
    let status = rig.wait_status("all that can be published is", |status| {
        status["routes"][0]["backlog"] == 0 && status["routes"][0]["state"] == "flowing"
    });
    assert_eq!((&status["routes"][0]["dead"], &status["routes"][0]["parked"]), (&2.into(), &98.into()));
    target.set_mood(|_| Answer::Accept);
    assert_eq!(rig.json(&["dead-letters", "redrive", "--all"])["redriven"], 2);
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

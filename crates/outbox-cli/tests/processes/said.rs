//! What a target says of an event: it may be the event's payload.

use crate::{
    operating::health,
    rig::{Rig, eventually},
    target::{Answer, Target},
};

const RETRY: &str = "retry = { quick_attempts = 1, attempts = 1, base_delay = '10ms', max_delay = '100ms' }\n";

#[test]
fn what_a_target_says_is_shown_with_the_dead_letter_and_in_no_log_health_or_status() {
    let target = Target::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = Rig::new(&format!("[relay]\nfailover = '1s'\nlisten = '{address}'\n{}", target.route(RETRY)));
    let relay = rig.start(rig.command(&["relay", "-vv"]));
    target.set_mood(|_| Answer::Refuse("card 4111"));
    rig.write_events([("key/1".to_owned(), "1".to_owned())], 1);
    rig.wait_status("the event is a dead letter", |status| status["routes"][0]["dead"] == 1);
    let shown = rig.outbox(&["dead-letters", "show"]);
    assert!(shown.out.contains("422") && shown.out.contains("card 4111"), "{}", shown.out);

    // The body of a 500 is `it fell over`.
    target.set_mood(|_| Answer::Fail);
    rig.write_events([("key/2".to_owned(), "2".to_owned())], 1);
    let status = rig.wait_status("it backs off", |status| status["routes"][0]["state"] == "backing_off");
    assert!(status["routes"][0]["reason"].as_str().unwrap().contains("500"), "{status:#}");
    let health = eventually("it says so", || Some(health(address)).filter(|said| said.contains("backing_off")));
    assert!(health.contains("500"), "{health}");

    // The marker of a discarded event is refused as well.
    target.set_mood(|_| Answer::Refuse("card 4111"));
    assert_eq!(rig.json(&["dead-letters", "discard", "--key", "key/1", "--yes"])["discarded"], 1);
    let log = eventually("the marker is refused", || Some(relay.log()).filter(|log| log.contains("goes without")));
    assert!(log.contains("500"), "{log}");
    for said in [rig.status().to_string(), rig.outbox(&["status"]).said(), health, log] {
        assert!(!said.contains("4111") && !said.contains("fell over"), "{said}");
    }
    assert_eq!(relay.stop().code, 0);
}

//! Events that failed by themselves, and nobody said that they are to blame.

use super::*;

fn failed() -> Outcome {
    Outcome::Failed { reason: "internal error".to_owned() }
}

#[test]
fn an_event_that_fails_beside_accepted_ones_is_set_aside_and_not_yet_dead() {
    let retry = RetryPolicy { attempts: 1, ..settings().retry };
    let mut rig = rig(Settings { retry, ..settings() });
    rig.read([event("bomb", 1)]);
    for sequence in 1..60 {
        if !rig.keeps.is_empty() {
            break;
        }
        rig.read([event("b", sequence)]);
        while let Some((call, events)) = (!rig.calls.is_empty()).then(|| rig.call()) {
            let outcome = |id: &String| if id.starts_with("bomb") { failed() } else { Outcome::Accepted };
            let outcomes = events.iter().map(outcome).collect();
            rig.step(Input::Answered { call, outcomes });
        }
        rig.wait(Duration::from_secs(5));
        rig.store_checkpoints();
    }
    assert_eq!(rig.keeps[0].3, ["bomb@1.1.0"]);
    assert!(rig.keeps[0].2.as_ref().unwrap().retry_in.is_some(), "it is tried again");
}

#[test]
fn where_every_event_of_a_call_failed_the_route_backs_off() {
    let mut rig = rig(settings());
    rig.read([event("a", 1), event("b", 1)]);
    rig.answer([failed(), failed()]);
    assert!(matches!(rig.health[..], [Health::BackingOff { .. }]), "{:?}", rig.health);
    for _ in 0..50 {
        rig.wait(Duration::from_secs(120));
        rig.answer([failed()]);
    }
    assert!(rig.keeps.is_empty(), "no event is blamed");
}

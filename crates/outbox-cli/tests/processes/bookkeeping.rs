//! Bookkeepings that are lost or doubled.

use std::path::Path;

use crate::{
    arrivals::{assert_whole_and_in_order, duplicates},
    rig::{Ran, Rig, eventually},
    target::Target,
};

const EVENTS: u32 = 100;

/// A rig whose events are all published.
fn published(target: &Target) -> Rig {
    let rig = Rig::new(&target.route(""));
    rig.write(0..EVENTS, 10, 10);
    rig.publish_all();
    assert_eq!(target.count(), EVENTS as usize);
    rig
}

fn assert_names_adopt(ran: &Ran) {
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.said().contains("outbox adopt") && ran.said().contains("bookkeeping"), "{ran:?}");
}

fn remove(bookkeeping: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let mut file = bookkeeping.as_os_str().to_owned();
        file.push(ending);
        // The last two are gone after a clean end.
        let _ = std::fs::remove_file(file);
    }
    assert!(!bookkeeping.exists());
}

#[test]
fn a_lost_bookkeeping_is_refused_and_adopting_publishes_all_again() {
    let target = Target::new();
    let rig = published(&target);
    remove(&rig.path("orders.db.relay"));
    for command in ["relay", "status"] {
        assert_names_adopt(&rig.outbox(&[command]));
    }
    assert!(!rig.path("orders.db.relay").exists(), "none is made in its place");
    assert_eq!(rig.json(&["adopt"])["done"], false);
    assert!(!rig.path("orders.db.relay").exists(), "a dry run makes none either");
    assert_eq!(rig.json(&["adopt", "--yes"])["done"], true);
    rig.write(EVENTS..EVENTS + 20, 10, 10);
    rig.publish_all();
    let arrivals = target.arrivals();
    assert_whole_and_in_order(&arrivals, &rig.committed());
    assert_eq!(duplicates(&arrivals, &[]), EVENTS as usize, "each once more, under the same id");
}

#[test]
fn a_lost_bookkeeping_can_be_adopted_from_now_on() {
    let target = Target::new();
    let rig = published(&target);
    remove(&rig.path("orders.db.relay"));
    assert_eq!(rig.json(&["adopt", "--yes", "--from-now"])["done"], true);
    rig.write(EVENTS..EVENTS + 20, 10, 10);
    rig.publish_all();
    let arrivals = target.arrivals();
    assert_eq!(arrivals.len(), EVENTS as usize + 20);
    assert_whole_and_in_order(&arrivals, &rig.committed());
}

#[test]
fn a_bookkeeping_that_is_taken_away_while_the_relay_runs_stops_it() {
    let target = Target::new();
    let rig = published(&target);
    let relay = rig.relay();
    rig.wait_status("the relay runs", |status| status["relay"]["released"] == false);
    remove(&rig.path("orders.db.relay"));
    assert_names_adopt(&relay.end());
    assert_names_adopt(&rig.outbox(&["relay"]));
    assert_eq!(rig.json(&["adopt", "--yes"])["done"], true);
    rig.publish_all();
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_doubled_bookkeeping_is_refused_and_the_first_goes_on_until_one_is_chosen() {
    let target = Target::new();
    let rig = published(&target);
    // Nobody has it open, so that a plain copy is whole.
    std::fs::copy(rig.path("orders.db.relay"), rig.path("copy.relay")).unwrap();
    rig.configure("copy.toml", &format!("[relay]\nfailover = '1s'\nbookkeeping = 'copy.relay'\n{}", target.route("")));
    let mut first = rig.relay();
    rig.wait_status("the relay runs", |status| status["relay"]["released"] == false);
    for _ in 0..3 {
        assert_names_adopt(&rig.relay_of("copy.toml").end());
    }
    assert_names_adopt(&rig.outbox(&["--config", "copy.toml", "check"]));
    assert_eq!(rig.outbox(&["check"]).code, 0);
    rig.write(EVENTS..EVENTS + 50, 10, 10);
    rig.wait_published();
    assert!(first.runs(), "{}", first.log());
    assert_eq!(target.count(), EVENTS as usize + 50, "nothing twice");

    // The operator decides for the copy.
    assert_eq!(first.stop().code, 0);
    let done = rig.json(&["--config", "copy.toml", "adopt", "--yes"]);
    assert_eq!(done["done"], true, "{done:#}");
    let second = rig.relay_of("copy.toml");
    rig.write(EVENTS + 50..EVENTS + 70, 10, 10);
    let last = EVENTS as usize + 70;
    eventually("the copy publishes on", || {
        let arrivals = target.arrivals();
        (arrivals.len() - duplicates(&arrivals, &[]) == last).then_some(())
    });
    assert_names_adopt(&rig.relay().end());
    assert_eq!(second.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_bookkeeping_that_was_given_up_is_refused_though_it_claimed_under_a_higher_epoch() {
    let target = Target::new();
    let rig = published(&target);
    std::fs::copy(rig.path("orders.db.relay"), rig.path("copy.relay")).unwrap();
    rig.configure("copy.toml", &format!("[relay]\nfailover = '1s'\nbookkeeping = 'copy.relay'\n{}", target.route("")));
    for round in 0..5 {
        rig.write(EVENTS + round..=EVENTS + round, 10, 10);
        rig.publish_all();
    }
    let id = |config| rig.json(&["--config", config, "init"])["bookkeeping_id"].as_str().unwrap().to_owned();
    assert_eq!(id("copy.toml"), id("outbox.toml"));
    let done = rig.json(&["--config", "copy.toml", "adopt", "--yes"]);
    assert_eq!(done["done"], true, "{done:#}");
    assert_ne!(id("copy.toml"), id("outbox.toml"));
    // At once, before the adopted one has run; and after that.
    assert_names_adopt(&rig.relay().end());
    let adopted = rig.relay_of("copy.toml");
    rig.write(EVENTS + 5..EVENTS + 20, 10, 10);
    let last = EVENTS as usize + 20;
    eventually("the adopted one publishes", || {
        let arrivals = target.arrivals();
        (arrivals.len() - duplicates(&arrivals, &[]) == last).then_some(())
    });
    assert_names_adopt(&rig.relay().end());
    assert_eq!(adopted.stop().code, 0);
    assert_names_adopt(&rig.relay().end());
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());

    // A copy of the adopted one is found out as well.
    std::fs::copy(rig.path("copy.relay"), rig.path("second.relay")).unwrap();
    let second = format!("[relay]\nfailover = '1s'\nbookkeeping = 'second.relay'\n{}", target.route(""));
    rig.configure("second.toml", &second);
    let first = rig.relay_of("copy.toml");
    // It has claimed the database once it publishes: to own the lease is not enough.
    rig.write(EVENTS + 20..EVENTS + 21, 10, 10);
    eventually("the adopted one publishes again", || {
        let arrivals = target.arrivals();
        (arrivals.len() - duplicates(&arrivals, &[]) == last + 1).then_some(())
    });
    assert_eq!(first.stop().code, 0);
    assert_names_adopt(&rig.relay_of("second.toml").end());
}

//! A database that was put back from an older copy.

use crate::place::Place;

/// Five orders published, a copy taken, five more published, the copy put back.
fn restored() -> Place {
    let place = Place::initialised();
    place.place_orders(5);
    place.publish_all();
    std::fs::copy(place.path("orders.db"), place.path("backup.db")).unwrap();
    place.place_orders(5);
    place.publish_all();
    for file in ["orders.db-wal", "orders.db-shm"] {
        let _ = std::fs::remove_file(place.path(file));
    }
    std::fs::copy(place.path("backup.db"), place.path("orders.db")).unwrap();
    place
}

/// The store's incarnation, whether the status is well or, as after a relay that stopped, is not.
fn incarnation(place: &Place) -> u64 {
    let ran = place.run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    status["store"]["incarnation"].as_u64().unwrap()
}

#[test]
fn a_relay_stops_before_an_older_copy_and_adopt_puts_things_right() {
    let place = restored();
    for command in ["relay", "check"] {
        let ran = place.run(&[command]);
        assert_eq!(ran.code, 4, "{command}: {}{}", ran.out, ran.err);
        assert!(format!("{}{}", ran.out, ran.err).contains("outbox adopt"), "{command}: {}{}", ran.out, ran.err);
    }
    let dry = place.json(&["adopt"]);
    assert_eq!(dry["done"], false);
    assert!(dry["found"][0].as_str().unwrap().contains("older copy"), "{dry:#}");
    assert_eq!(incarnation(&place), 1, "a dry run changes nothing");

    let done = place.json(&["adopt", "--yes", "--entries", "keep"]);
    assert_eq!(done["done"], true, "{done:#}");
    assert_eq!(incarnation(&place), 2);
    let before = place.read("ledger.jsonl").lines().count();
    place.place_orders(5);
    place.publish_all();
    let lines = place.read("ledger.jsonl");
    let new: Vec<_> = lines.lines().skip(before).filter(|line| line.contains("\"place\":\"2.")).collect();
    assert_eq!(new.len(), 5, "{lines}");
    assert_eq!(place.run(&["check"]).code, 0);
}

#[test]
fn what_cannot_be_decided_is_left_to_the_operator() {
    let place = restored();
    // Written before anybody noticed: these have numbers that consumers know already.
    place.place_orders(3);
    let ran = place.run(&["adopt", "--yes"]);
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("--entries keep") && ran.out.contains("--entries renumber"), "{}", ran.out);
    assert_eq!(incarnation(&place), 1);
    assert_eq!(place.run(&["adopt", "--yes", "--entries", "renumber"]).code, 0);
    let before = place.read("ledger.jsonl").lines().count();
    place.publish_all();
    let lines = place.read("ledger.jsonl");
    let renumbered = lines.lines().skip(before).filter(|line| line.contains("\"place\":\"2.")).count();
    assert!(renumbered >= 3, "{lines}");
}

#[test]
fn nothing_is_adopted_while_a_relay_runs() {
    let place = Place::initialised();
    place.place_orders(1);
    let relay = place.relay();
    place.wait_until(|status| status["relay"]["released"] == false && status["relay"]["epoch"] == 1);
    let ran = place.run(&["adopt", "--yes", "--restored"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("a relay is running"), "{}", ran.err);
    assert_eq!(relay.stop().code, 0);
}

#[test]
fn what_belongs_together_needs_no_adopting() {
    let place = Place::initialised();
    place.place_orders(1);
    place.publish_all();
    let ran = place.run(&["adopt", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("belong together"), "{}", ran.out);
}

/// Five orders published, copies of both files taken, five more published, both copies put back.
fn both_restored() -> Place {
    let place = Place::initialised();
    place.place_orders(5);
    place.publish_all();
    for (from, to) in [("orders.db", "backup.db"), ("orders.db.relay", "backup.db.relay")] {
        // Whole, whatever is still in the write-ahead log.
        let connection = rusqlite::Connection::open(place.path(from)).unwrap();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        std::fs::copy(place.path(from), place.path(to)).unwrap();
    }
    place.place_orders(5);
    place.publish_all();
    for file in ["orders.db-wal", "orders.db-shm", "orders.db.relay-wal", "orders.db.relay-shm"] {
        let _ = std::fs::remove_file(place.path(file));
    }
    for (from, to) in [("backup.db", "orders.db"), ("backup.db.relay", "orders.db.relay")] {
        std::fs::copy(place.path(from), place.path(to)).unwrap();
    }
    place
}

#[test]
fn after_a_restore_of_both_files_new_events_have_places_that_no_lost_one_had() {
    let place = both_restored();
    // Nothing in the files tells, so nothing is done unless it is said.
    let ran = place.run(&["adopt", "--yes"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("--restored"), "{}", ran.out);
    assert_eq!(incarnation(&place), 1);
    let dry = place.json(&["adopt", "--restored"]);
    assert_eq!(dry["done"], false, "{dry:#}");
    assert!(dry["actions"].to_string().contains("raise the incarnation"), "{dry:#}");
    assert_eq!(incarnation(&place), 1, "a dry run changes nothing");

    let done = place.json(&["adopt", "--restored", "--yes"]);
    assert_eq!(done["done"], true, "{done:#}");
    assert_eq!(incarnation(&place), 2);
    let before = place.read("ledger.jsonl").lines().count();
    place.place_orders(5);
    place.publish_all();
    let lines = place.read("ledger.jsonl");
    let new: Vec<_> = lines.lines().skip(before).collect();
    assert_eq!(new.len(), 5, "the restored checkpoints are gone on from: {lines}");
    assert!(new.iter().all(|line| line.contains("\"place\":\"2.")), "{lines}");
}

#[test]
fn what_was_written_since_both_files_were_restored_is_left_to_the_operator() {
    let place = both_restored();
    place.place_orders(3);
    let ran = place.run(&["adopt", "--restored", "--yes"]);
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("--entries keep") && ran.out.contains("--entries renumber"), "{}", ran.out);
    assert_eq!(incarnation(&place), 1);
    assert_eq!(place.run(&["adopt", "--restored", "--yes", "--entries", "renumber"]).code, 0);
    let before = place.read("ledger.jsonl").lines().count();
    place.publish_all();
    let lines = place.read("ledger.jsonl");
    let new: Vec<_> = lines.lines().skip(before).collect();
    assert_eq!(new.len(), 3, "{lines}");
    assert!(new.iter().all(|line| line.contains("\"place\":\"2.")), "{lines}");
}

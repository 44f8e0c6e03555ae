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

/// Another route, beside `ledger` and `mails`.
const ANOTHER_ROUTE: &str = "[[route]]\nname = 'audit'\nfile = 'audit.jsonl'\n";

fn put_back(place: &Place, backup: &str) {
    for file in ["orders.db-wal", "orders.db-shm"] {
        let _ = std::fs::remove_file(place.path(file));
    }
    std::fs::copy(place.path(backup), place.path("orders.db")).unwrap();
}

#[test]
fn a_route_that_is_newer_than_the_restored_copy_is_set_back_with_the_others() {
    let place = Place::initialised();
    place.place_orders(5);
    place.publish_all();
    std::fs::copy(place.path("orders.db"), place.path("backup.db")).unwrap();
    place.write("outbox.toml", &format!("{}{ANOTHER_ROUTE}", place.read("outbox.toml")));
    place.place_orders(5);
    place.publish_all();
    put_back(&place, "backup.db");

    let done = place.json(&["adopt", "--yes", "--entries", "keep"]);
    assert_eq!(done["done"], true, "{done:#}");
    place.place_orders(5);
    place.publish_all();
    assert_eq!(incarnation(&place), 2);
    for file in ["ledger.jsonl", "audit.jsonl"] {
        let lines = place.read(file);
        let new = lines.lines().filter(|line| line.contains("\"place\":\"2.")).count();
        assert_eq!(new, 5, "{file}: {lines}");
    }
    let again = place.json(&["adopt"]);
    assert!(again["found"].to_string().contains("belong together"), "{again:#}");
}

#[test]
fn a_route_that_was_renamed_since_the_restored_copy_is_set_back_under_its_new_name() {
    let place = Place::initialised();
    place.place_orders(5);
    place.publish_all();
    std::fs::copy(place.path("orders.db"), place.path("backup.db")).unwrap();
    assert_eq!(place.run(&["route", "rename", "ledger", "book"]).code, 0);
    place.write("outbox.toml", &place.read("outbox.toml").replace("name = 'ledger'", "name = 'book'"));
    place.place_orders(5);
    place.publish_all();
    put_back(&place, "backup.db");

    assert_eq!(place.json(&["adopt", "--yes", "--entries", "keep"])["done"], true);
    let before = place.read("ledger.jsonl").lines().count();
    place.place_orders(5);
    let relay = place.relay();
    place.wait_until(|_| place.read("ledger.jsonl").lines().count() >= before + 5);
    assert_eq!(relay.stop().code, 0);
    assert_eq!(incarnation(&place), 2);
}

/// Who holds the lease of the relay, and whether it was given up.
fn lease(place: &Place) -> (String, bool) {
    let connection = rusqlite::Connection::open(place.path("orders.db.relay")).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    connection.query_row("SELECT holder, released FROM leases", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[test]
fn no_relay_can_start_while_a_database_is_adopted() {
    let place = Place::initialised();
    place.place_orders(1);
    place.publish_all();
    // Holds the command up when it writes to the database.
    let mut service = rusqlite::Connection::open(place.path("orders.db")).unwrap();
    let transaction = service.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    std::thread::scope(|scope| {
        let adopting = scope.spawn(|| place.run(&["adopt", "--restored", "--yes"]));
        while lease(&place) != ("outbox adopt".to_owned(), false) {
            assert!(!adopting.is_finished(), "it ended without the lease");
            std::thread::yield_now();
        }
        transaction.rollback().unwrap();
        let ran = adopting.join().unwrap();
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    });
    assert!(lease(&place).1, "it is given up: the next relay need not wait");
}

#[test]
fn an_adoption_that_fails_gives_the_lease_up() {
    let place = both_restored();
    place.place_orders(3);
    assert_eq!(place.run(&["adopt", "--restored", "--yes"]).code, 2);
    assert_eq!(lease(&place), ("outbox adopt".to_owned(), true));
}

#[test]
fn an_option_that_would_do_nothing_is_refused() {
    let whole = Place::initialised();
    whole.place_orders(1);
    whole.publish_all();
    for (option, args) in [
        ("--entries", &["adopt", "--entries", "keep"][..]),
        ("--from-now", &["adopt", "--from-now"]),
        ("--from-now", &["adopt", "--yes", "--restored", "--from-now"]),
        ("--entries", &["adopt", "--yes", "--entries", "renumber"]),
    ] {
        let ran = whole.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(option) && ran.err.contains("leave it out"), "{args:?}: {}", ran.err);
    }
    assert_eq!(incarnation(&whole), 1, "nothing was done");
    let older = restored();
    let ran = older.run(&["adopt", "--yes", "--entries", "keep", "--from-now"]);
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    assert_eq!(incarnation(&older), 1, "nothing was done");
}

#[test]
fn no_bookkeeping_is_made_before_everything_is_decided() {
    let place = Place::initialised();
    place.place_orders(3);
    place.publish_all();
    std::fs::remove_file(place.path("orders.db.relay")).unwrap();
    for args in [&["adopt", "--yes", "--restored"][..], &["adopt", "--yes", "--entries", "keep"]] {
        let ran = place.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}{}", ran.out, ran.err);
        assert!(!place.path("orders.db.relay").exists(), "{args:?}");
    }
    let done = place.json(&["adopt", "--yes", "--restored", "--entries", "keep", "--from-now"]);
    assert_eq!(done["done"], true, "{done:#}");
}

#[test]
fn no_bookkeeping_is_made_for_a_database_that_none_has_read() {
    let place = Place::initialised();
    std::fs::remove_file(place.path("orders.db.relay")).unwrap();
    let said = place.json(&["adopt", "--yes"]);
    assert!(said["found"].to_string().contains("just start the relay"), "{said:#}");
    let refused = place.run(&["adopt", "--yes", "--from-now"]);
    assert_eq!(refused.code, 2, "{}{}", refused.out, refused.err);
    assert!(!place.path("orders.db.relay").exists());
}

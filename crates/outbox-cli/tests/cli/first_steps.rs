//! From nothing to a relay: init, check, status, relay.

use crate::place::Place;

#[test]
fn init_makes_tables_bookkeeping_and_a_valid_configuration() {
    let place = Place::new();
    let ran = place.run(&["init", "orders.db"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for file in ["orders.db", "orders.db.relay", "outbox.toml"] {
        assert!(place.path(file).exists(), "{file}");
        assert!(ran.out.contains(file), "{file}: {}", ran.out);
    }
    assert!(ran.out.contains("outbox check"), "{}", ran.out);
    let ran = place.run(&["check"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("all is well"), "{}", ran.out);
}

#[test]
fn init_overwrites_nothing() {
    let place = Place::new();
    place.write("outbox.toml", "# mine\n");
    let ran = place.run(&["init", "orders.db"]);
    assert_eq!(ran.code, 2);
    assert_eq!(place.read("outbox.toml"), "# mine\n");
    assert!(!place.path("orders.db").exists());
}

#[test]
fn init_again_changes_nothing_and_says_so() {
    let place = Place::initialised();
    place.place_orders(3);
    let ran = place.run(&["init"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("already"), "{}", ran.out);
    assert_eq!(place.json(&["status"])["routes"][0]["backlog"], 3);
}

#[test]
fn init_leaves_the_services_own_tables_alone() {
    let place = Place::new();
    let connection = rusqlite::Connection::open(place.path("shop.db")).unwrap();
    connection.execute_batch("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (1)").unwrap();
    assert_eq!(place.run(&["init", "shop.db", "--producer", "/shop"]).code, 0);
    let count: u32 = connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[test]
fn init_takes_a_webhook() {
    let place = Place::new();
    let ran = place.run(&["init", "a.db", "--webhook", "https://ledger.example.com/events?a=$b", "--route", "ledger"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let list = place.json(&["route", "list"]);
    assert_eq!(list["routes"][0]["name"], "ledger");
    assert_eq!(list["routes"][0]["sink"], "webhook https://ledger.example.com");
}

#[test]
fn status_before_any_relay_shows_what_waits() {
    let place = Place::initialised();
    place.place_orders(25);
    let status = place.json(&["status"]);
    assert_eq!(status["relay"]["holder"], serde_json::Value::Null);
    assert_eq!(status["routes"][0]["state"], "new");
    assert_eq!(status["routes"][0]["backlog"], 25);
    // The window, and one call of the keeper.
    assert_eq!(status["routes"][0]["duplicates_after_crash"], 8_192 + 500);
    let text = place.run(&["status"]);
    assert!(text.out.contains("duplicates after a crash at most: ledger 8,692, mails 8,692"), "{}", text.out);
    assert!(text.out.contains("ledger") && text.out.contains("25"), "{}", text.out);
    assert!(text.out.lines().all(|line| line.chars().count() <= 80), "{}", text.out);
}

#[test]
fn check_says_what_a_relay_would_do() {
    let place = Place::initialised();
    place.place_orders(25);
    let ran = place.run(&["check"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("would start at the beginning, with 25"), "{}", ran.out);
    assert!(ran.out.contains("gapless"), "{}", ran.out);
}

#[test]
fn check_names_all_problems_at_once() {
    let place = Place::new();
    place.write(
        "outbox.toml",
        "[store]\nsqlite = 'orders.db'\nproducer = '/orders'\n\
         [[route]]\nname = 'a'\nfile = 'no/such/folder/a.jsonl'\n\
         [[route]]\nname = 'b'\nwebhook = { url = 'http://127.0.0.1:1/' }\n",
    );
    assert_eq!(place.run(&["init"]).code, 0);
    let ran = place.run(&["--json", "check"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let problems: Vec<_> =
        value["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == "problem").collect();
    assert_eq!(problems.len(), 2, "{value:#}");
    assert_eq!(problems[0]["subject"], "route a");
    assert_eq!(problems[1]["subject"], "route b");
}

#[test]
fn check_changes_nothing() {
    let place = Place::new();
    place.write("outbox.toml", "[store]\nsqlite = 'orders.db'\n[[route]]\nname = 'a'\nstdout = true\n");
    assert_eq!(place.run(&["check"]).code, 1);
    assert!(!place.path("orders.db").exists() && !place.path("orders.db.relay").exists());
    let place = Place::initialised();
    let files = || {
        let files = place.folder().read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        // SQLite's own, which come and go with whoever has a database open.
        let mut names: Vec<_> = files.filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm")).collect();
        names.sort();
        names
    };
    let before = files();
    let ran = place.run(&["check"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("not there yet"), "{}", ran.out);
    assert_eq!(files(), before, "no file of a sink is made");
}

#[test]
fn a_relay_publishes_everything_in_order_and_stops_on_sigterm() {
    let place = Place::initialised();
    place.place_orders(100);
    place.publish_all();
    let lines = place.read("ledger.jsonl");
    let events: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 100);
    for key in 0..10 {
        let key = format!("customer/{key}");
        let of_key: Vec<_> = events.iter().filter(|event| event["partitionkey"] == *key).collect();
        let sequences: Vec<_> = of_key.iter().map(|event| event["sequence"].as_str().unwrap()).collect();
        assert_eq!(sequences.len(), 10);
        assert!(sequences.is_sorted(), "{sequences:?}");
    }
    assert_eq!(place.json(&["status"])["relay"]["released"], true);
}

#[test]
fn an_old_relay_of_a_database_claims_it_and_a_lost_bookkeeping_is_noticed() {
    let place = Place::initialised();
    place.place_orders(5);
    place.publish_all();
    for file in ["orders.db.relay", "orders.db.relay-wal", "orders.db.relay-shm"] {
        let _ = std::fs::remove_file(place.path(file));
    }
    for command in ["relay", "status", "check", "init"] {
        let ran = place.run(&[command]);
        assert_eq!(ran.code, 4, "{command}: {}{}", ran.out, ran.err);
        assert!(!place.path("orders.db.relay").exists(), "{command}");
    }
    let dry = place.run(&["adopt"]);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(dry.out.contains("nothing was changed") && !place.path("orders.db.relay").exists(), "{}", dry.out);
    let ran = place.run(&["adopt", "--yes", "--from-now"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    place.place_orders(2);
    place.publish_all();
    assert_eq!(place.read("ledger.jsonl").lines().count(), 7);
}

//! What is wrong with files and ports, each with an error that says what to do.

use crate::place::Place;

#[test]
fn a_port_in_use_is_named_with_the_remedy() {
    let place = Place::initialised();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = place.read("outbox.toml").replace("[relay]\n", &format!("[relay]\nlisten = '{address}'\n"));
    place.write("outbox.toml", &text);
    let ran = place.run(&["relay"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains(&address.to_string()) && ran.err.contains("relay.listen"), "{}", ran.err);
    let check = place.run(&["check"]);
    assert_eq!(check.code, 1);
    assert!(check.out.contains("listen"), "{}", check.out);
}

#[test]
fn a_relay_answers_metrics_and_health_when_asked_to() {
    use std::io::{Read as _, Write as _};
    let place = Place::initialised();
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let text = place.read("outbox.toml").replace("[relay]\n", &format!("[relay]\nlisten = '{address}'\n"));
    place.write("outbox.toml", &text);
    place.place_orders(10);
    let relay = place.relay();
    place.wait_until(|status| status["routes"][0]["state"] == "flowing" && status["routes"][0]["backlog"] == 0);
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let metrics = ask("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("outbox_published_total{route=\"ledger\"}"), "{metrics}");
    let health = ask("/health");
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("\"owner\":true"), "{health}");
    assert_eq!(relay.stop().code, 0);
}

#[test]
fn a_database_that_is_not_there_is_not_made() {
    let place = Place::new();
    place.write("outbox.toml", "[store]\nsqlite = 'nowhere.db'\n[[route]]\nname = 'a'\nstdout = true\n");
    for command in ["relay", "status"] {
        let ran = place.run(&[command]);
        assert_ne!(ran.code, 0);
        assert!(ran.err.contains("nowhere.db"), "{}", ran.err);
        assert!(!place.path("nowhere.db").exists());
    }
}

#[test]
fn a_database_without_tables_names_init() {
    let place = Place::new();
    rusqlite::Connection::open(place.path("plain.db")).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    place.write("outbox.toml", "[store]\nsqlite = 'plain.db'\n[[route]]\nname = 'a'\nstdout = true\n");
    let ran = place.run(&["relay"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("outbox init"), "{}", ran.err);
}

#[test]
fn a_database_from_a_newer_version_is_left_alone() {
    let place = Place::initialised();
    let connection = rusqlite::Connection::open(place.path("orders.db")).unwrap();
    connection.execute_batch("UPDATE outbox_meta SET layout = 99").unwrap();
    for command in ["relay", "status", "check", "init"] {
        let ran = place.run(&[command]);
        assert_eq!(ran.code, 1, "{command}: {}{}", ran.out, ran.err);
        let said = format!("{}{}", ran.out, ran.err).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("99") && said.contains("newer version"), "{command}: {said}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let place = Place::new();
    place.write("orders.db", &"not a database, but long enough to look at\n".repeat(100));
    place
        .write("outbox.toml", "[store]\nsqlite = 'orders.db'\nproducer = '/a'\n[[route]]\nname = 'a'\nstdout = true\n");
    for command in ["relay", "init", "check"] {
        let ran = place.run(&[command]);
        assert_eq!(ran.code, 1, "{command}: {}", ran.err);
    }
    assert!(place.read("orders.db").starts_with("not a database"));
}

/// Root may write everything, so there is nothing to refuse.
#[cfg(unix)]
#[test]
fn a_read_only_database_is_named_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::initialised();
    let folder = place.folder();
    let make = |mode| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::set_permissions(place.path("orders.db"), std::fs::Permissions::from_mode(0o444)).unwrap();
    make(0o555);
    let root = std::fs::write(place.path("probe"), "").is_ok();
    // `init` writes, and ends by itself in either case.
    let ran = place.run(&["init"]);
    make(0o755);
    if !root {
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("orders.db") && ran.err.contains("right"), "{}", ran.err);
    }
}

#[test]
fn a_route_that_is_no_longer_configured_is_an_alarm_until_it_is_renamed_or_retired() {
    let place = Place::initialised();
    place.place_orders(5);
    place.publish_all();
    let whole = place.read("outbox.toml");
    place.write("outbox.toml", &whole.replace("name = 'mails'", "name = 'letters'"));
    assert_eq!(place.run(&["check"]).code, 1);
    assert!(place.run(&["status"]).out.contains("not configured"));
    assert_eq!(place.run(&["route", "rename", "mails", "letters"]).code, 0);
    assert_eq!(place.run(&["check"]).code, 0);
    let status = place.json(&["status"]);
    assert_eq!((&status["routes"][1]["name"], &status["routes"][1]["backlog"]), (&"letters".into(), &0.into()));
    let only_one = whole.split("[[route]]").take(2).collect::<Vec<_>>().join("[[route]]");
    place.write("outbox.toml", &only_one);
    assert_eq!(place.run(&["route", "retire", "ledger"]).code, 2, "it is still configured");
    assert_eq!(place.run(&["route", "retire", "letters"]).code, 0);
    assert_eq!(place.json(&["route", "list"])["routes"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_not_there_exits_with_3() {
    let place = Place::initialised();
    for args in [
        vec!["route", "retire", "nobody"],
        vec!["dead-letters", "list", "--route", "nobody"],
        vec!["dead-letters", "show", "7"],
        vec!["dead-letters", "redrive", "--all"],
        vec!["replay", "--route", "nobody"],
        vec!["purge", "--key", "nobody", "--yes"],
    ] {
        let ran = place.run(&args);
        assert_eq!(ran.code, 3, "{args:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.starts_with("error: "), "{args:?}: {}", ran.err);
    }
}

//! What the command says of configurations, and how it exits.

use crate::place::Place;

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let place = Place::new();
    place.write(
        "outbox.toml",
        "[store]\nsqlite = 'a.db'\n[[route]]\nname = 'a'\nwebhok = { url = 'https://a.example' }\n",
    );
    let ran = place.run(&["check"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("error: outbox.toml:5: route[a].webhok: unknown key"), "{}", ran.err);
    assert!(ran.err.contains("help: did you mean `webhook`?"), "{}", ran.err);
}

#[test]
fn a_name_that_is_given_twice_is_said_beside_what_else_is_wrong_with_its_routes() {
    let place = Place::new();
    let routes = "[[route]]\nname = 'a'\nwebhook = { url = 'no url' }\n[[route]]\nname = 'a'\nfile = {}\n";
    place.write("outbox.toml", &format!("[store]\nsqlite = 'a.db'\n{routes}"));
    let ran = place.run(&["check"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("outbox.toml:5: "), "the first sink: {}", ran.err);
    assert!(ran.err.contains("outbox.toml:7: ") && ran.err.contains("two routes are called `a`"), "{}", ran.err);
    assert!(ran.err.contains("outbox.toml:8: "), "the second sink: {}", ran.err);
}

#[test]
fn mistakes_are_json_when_asked_for() {
    let place = Place::new();
    place.write("outbox.toml", "[store]\nsqlite = 'a.db'\n[relay]\nfailover = 10\n");
    let ran = place.run(&["--json", "status"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    let problems = error["error"]["problems"].as_array().unwrap();
    assert_eq!(problems[0]["line"], 4);
    assert_eq!(problems[0]["field"], "relay.failover");
    assert_eq!(problems[1]["field"], "route");
}

#[test]
fn a_missing_configuration_names_init() {
    let ran = Place::new().run(&["status"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("outbox init"), "{}", ran.err);
}

#[test]
fn a_bad_command_line_exits_with_2() {
    let place = Place::new();
    assert_eq!(place.run(&["relais"]).code, 2);
    assert_eq!(place.run(&["replay"]).code, 2);
    assert_eq!(place.run(&["init"]).code, 2);
}

#[test]
fn every_command_has_help_and_the_exit_codes_are_in_it() {
    let place = Place::new();
    let main = place.run(&["--help"]);
    assert_eq!(main.code, 0);
    assert!(main.out.contains("Exit codes:") && main.out.contains("outbox adopt"), "{}", main.out);
    for command in
        ["init", "check", "relay", "status", "dead-letters", "replay", "route", "inbox", "adopt", "purge", "demo"]
    {
        assert!(main.out.contains(command), "{command}");
        let ran = place.run(&[command, "--help"]);
        assert_eq!(ran.code, 0, "{command}");
        assert!(ran.out.len() > 200, "{command}: {}", ran.out);
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = place.run(&["completions", shell]);
        assert_eq!(ran.code, 0, "{shell}");
        assert!(ran.out.contains("dead-letters"), "{shell}");
    }
}

#[test]
fn paths_are_relative_to_the_configuration() {
    let place = Place::new();
    std::fs::create_dir(place.path("etc")).unwrap();
    let ran = place.run(&["--config", "etc/outbox.toml", "init", "orders.db"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(place.path("orders.db").exists() && place.path("orders.db.relay").exists());
    let ran = place.command(&["--config", "outbox.toml", "check"]).current_dir(place.path("etc")).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn a_mistake_of_the_command_line_is_json_when_asked_for() {
    let place = Place::new();
    for args in [&["--json", "statsu"][..], &["status", "--bogus", "--json"], &["--json", "replay"]] {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        let error: serde_json::Value = serde_json::from_str(&ran.err).expect(&ran.err);
        assert_eq!(error["error"]["exit"], 2, "{args:?}");
        assert!(!error["error"]["message"].as_str().unwrap().starts_with("error"), "{error:#}");
    }
}

#[test]
fn only_what_calls_the_sinks_needs_their_secrets() {
    let place = Place::initialised();
    place.write(
        "secret.toml",
        "[store]\nsqlite = 'orders.db'\n[[route]]\nname = 'ledger'\n\
         webhook = { url = 'https://ledger.example', secrets = ['${NOT_SET_HERE}'], headers = { x-token = '${NOR_THIS}' } }\n",
    );
    for args in
        [&["status"][..], &["dead-letters", "list"], &["route", "pause", "ledger"], &["route", "resume", "ledger"]]
    {
        let ran = place.run(&[&["--config", "secret.toml"], args].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    }
    for command in ["relay", "check"] {
        let ran = place.run(&["--config", "secret.toml", command]);
        assert_eq!(ran.code, 2, "{command}");
        assert!(ran.err.contains("NOT_SET_HERE") && ran.err.contains("NOR_THIS"), "{}", ran.err);
    }
}

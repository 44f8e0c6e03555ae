//! Routes to an event bus: what is wrong with them, and what they are.

use std::time::Duration;

use outbox_aws::eventbridge::{ClaimCheckSettings, EventBridgeSettings};

use super::{super::SinkConfig, Config, Mistake, Path, check, mistake};

/// Mistakes in a route called `ledger`.
const BUS: &[Mistake] = &[
    mistake("eventbridge = 'a b' # <-", "route[ledger].eventbridge", "is not an event bus", "its ARN"),
    mistake("eventbridge = {} # <-", "route[ledger].eventbridge.bus", "is missing", "bus = \"carts\""),
    mistake("eventbridge = { bus = 'a/b' } # <-", "route[ledger].eventbridge.bus", "is not an event bus", "its ARN"),
    mistake(
        "eventbridge = { bus = 'a', regoin = 'eu-west-1' } # <-",
        "route[ledger].eventbridge.regoin",
        "unknown key",
        "did you mean `region`?",
    ),
    mistake(
        "eventbridge = { bus = 'a', region = 'Ireland' } # <-",
        "route[ledger].eventbridge.region",
        "`Ireland` is not a region",
        "eu-west-1",
    ),
    mistake(
        "eventbridge = { bus = 'a', endpoint = 'localhost:4566' } # <-",
        "route[ledger].eventbridge.endpoint",
        "is not an endpoint",
        "https://",
    ),
    mistake(
        "eventbridge = { bus = 'a', role = 'outbox' } # <-",
        "route[ledger].eventbridge.role",
        "is not a role's ARN",
        "arn:aws:iam::",
    ),
    mistake(
        "eventbridge = { bus = 'a', max_events = 11 } # <-",
        "route[ledger].eventbridge.max_events",
        "11 is out of range",
        "1 to 10",
    ),
    mistake(
        "eventbridge = { bus = 'a', max_entry_bytes = '1 MiB' } # <-",
        "route[ledger].eventbridge.max_entry_bytes",
        "is 1048576",
        "to 999999",
    ),
    mistake(
        "eventbridge = { bus = 'a', timeout = '10ms' } # <-",
        "route[ledger].eventbridge.timeout",
        "out of range",
        "the default is 10s",
    ),
    mistake(
        "eventbridge = { bus = 'a', claim_check = 's3://b' } # <-",
        "route[ledger].eventbridge.claim_check",
        "is not a bucket",
        "its name alone",
    ),
    mistake(
        "eventbridge = { bus = 'a', claim_check = { prefix = 'a' } } # <-",
        "route[ledger].eventbridge.claim_check.bucket",
        "is missing",
        "bucket = \"carts-events\"",
    ),
    mistake(
        "eventbridge = { bus = 'a', claim_check = { bucket = 'b-b', kms_key = 'alias/a' } } # <-",
        "route[ledger].eventbridge.claim_check",
        "is not a key's ARN",
        "arn:aws:kms:",
    ),
    mistake("eventbridge = 'a'\nstdout = true", "route[ledger]", "more than one sink", "a route for each"),
];

#[test]
fn every_mistake_in_a_route_to_a_bus_is_named_with_its_remedy() {
    for mistake in BUS {
        check(mistake, &format!("[store]\nsqlite = 'a.db'\n[[route]]\nname = 'ledger'\n{}\n", mistake.text));
    }
}

fn bus(sink: &str) -> EventBridgeSettings {
    let text = format!("[store]\nsqlite = 'a.db'\n[[route]]\nname = 'a'\neventbridge = {sink}\n");
    let config = Config::parse(Path::new("outbox.toml"), &text, &|_| None).unwrap();
    match &config.routes[0].sink {
        SinkConfig::EventBridge(settings) => settings.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bus_alone_is_enough() {
    assert_eq!(bus("'carts'"), EventBridgeSettings::new("carts"));
    assert_eq!(bus("{ bus = 'carts' }"), EventBridgeSettings::new("carts"));
    assert_eq!(bus("{ bus = 'a', claim_check = 'b-b' }").claim_check, Some(ClaimCheckSettings::new("b-b")));
}

#[test]
fn every_key_of_a_bus_arrives_where_it_belongs() {
    let arn = "arn:aws:events:eu-west-1:111122223333:event-bus/carts";
    let settings = bus(&format!(
        "{{ bus = '{arn}', region = 'eu-west-1', endpoint = 'http://127.0.0.1:4566', \
         role = 'arn:aws:iam::111122223333:role/outbox', timeout = '3s', concurrency = 4, max_events = 5, \
         max_entry_bytes = '256 KiB', claim_check = {{ bucket = 'b-b', prefix = 'e/', kms_key = 'arn:aws:kms:x:1:key/1' }} }}"
    ));
    let aws = outbox_aws::Settings {
        region: Some("eu-west-1".to_owned()),
        endpoint: Some("http://127.0.0.1:4566".to_owned()),
        role: Some("arn:aws:iam::111122223333:role/outbox".to_owned()),
    };
    let claim_check = ClaimCheckSettings {
        bucket: "b-b".to_owned(),
        prefix: "e/".to_owned(),
        kms_key: Some("arn:aws:kms:x:1:key/1".to_owned()),
    };
    let expected = EventBridgeSettings {
        bus: arn.to_owned(),
        aws,
        timeout: Duration::from_secs(3),
        max_calls: 4,
        max_entries: 5,
        max_entry_bytes: 256 << 10,
        claim_check: Some(claim_check),
    };
    assert_eq!(settings, expected);
}

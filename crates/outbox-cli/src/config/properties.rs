//! What has to hold of every configuration that somebody may write: once, as a function that panics where it does not
//! hold. The fuzz target in `fuzz/` calls it with what the fuzzer makes up, the tests beside it with what proptest does.

use std::path::Path;

use outbox::testing::properties::hides;
use toml::Value;

use super::{Config, Problems, SinkConfig, document, units, validate};

/// What every environment variable has, but those whose name begins with `UNSET`: a valid secret.
const ENVIRONMENT: &str = "whsec_hushFromTheEnvironmentHushHushHush00";
const FILE: &str = "no-such-folder/outbox.toml";

/// Reads `text` as a configuration: it is one that can be built, or every mistake is named with key, line and remedy,
/// and no secret is shown.
///
/// # Panics
/// If a property does not hold.
pub fn configuration(text: &str) {
    quantities(text);
    if text.contains("root_certificates") {
        // It names a file of this machine, which would be read.
        return;
    }
    let lookup = |name: &str| (!name.starts_with("UNSET")).then(|| ENVIRONMENT.to_owned());
    let read = Config::parse(Path::new(FILE), text, &lookup);
    let without = document::read(Path::new(FILE), text, &lookup, document::Secrets::LeftOut, |root| {
        validate::config(Path::new(FILE), root)
    });
    match &read {
        Ok(config) => {
            usable(config);
            hides_secrets(text, &format!("{config:?}"));
            let shown: Vec<_> = config.routes.iter().map(|route| route.sink.shown()).collect();
            hides_secrets(text, &shown.join(" "));
            assert!(without.is_ok(), "right with its secrets, wrong without: {without:?}");
        }
        Err(problems) => named(text, problems),
    }
    if let Err(problems) = &without {
        named(text, problems);
    }
}

/// A configuration that was taken can be built.
fn usable(config: &Config) {
    assert!(!config.routes.is_empty(), "no route");
    for (index, route) in config.routes.iter().enumerate() {
        let name = route.settings.name.as_str();
        assert!(config.routes[..index].iter().all(|other| other.settings.name.as_str() != name), "two `{name}`");
        assert!(config.route(name).is_some(), "`{name}` is not found");
        let (retry, window) = (&route.settings.retry, &route.settings.window);
        assert!(retry.attempts > 0 && retry.quick_attempts > 0 && retry.base_delay <= retry.max_delay, "{retry:?}");
        assert!(window.events > 0 && window.bytes > 0 && window.key_share <= window.events, "{window:?}");
        assert!(route.settings.rate_limit != Some(0), "nothing may be published");
        if let SinkConfig::Webhook(webhook) = &route.sink {
            let target = webhook.clone().validate();
            assert!(target.is_ok(), "{target:?}");
        }
    }
}

/// Every mistake has its key, its line and its remedy.
fn named(text: &str, problems: &Problems) {
    assert!(!problems.list.is_empty(), "refused without a reason");
    for problem in &problems.list {
        assert!(!problem.message.is_empty() && !problem.help.is_empty(), "{problem:?}");
        let lines = text.matches('\n').count() + 1;
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem:?} of {lines} lines");
        let syntax = problem.field.is_empty();
        assert!(!syntax || problems.list.len() == 1, "{problem:?} beside others");
        let missing = matches!(problem.field.as_str(), "store" | "route");
        assert!(problem.line.is_some() || missing, "{problem:?} on no line");
    }
    let lines: Vec<_> = problems.list.iter().map(|problem| problem.line.unwrap_or(usize::MAX)).collect();
    assert!(lines.is_sorted(), "{lines:?}");
    assert!(!problems.to_string().contains(ENVIRONMENT), "a value of the environment is shown: {problems}");
    hides_secrets(text, &problems.to_string());
    hides_secrets(text, &format!("{problems:?}"));
}

/// Nothing is shown of `secrets`, `headers`, nor of what is behind a URL's host.
fn hides_secrets(text: &str, said: &str) {
    let Ok(table) = text.parse::<toml::Table>() else { return };
    let routes = table.get("route").and_then(Value::as_array);
    for webhook in routes.into_iter().flatten().filter_map(|route| route.get("webhook")) {
        for secret in ["secrets", "headers", "url", "proxy"].iter().filter_map(|key| webhook.get(key)) {
            strings(secret, text, said);
        }
    }
}

fn strings(value: &Value, text: &str, said: &str) {
    match value {
        Value::String(secret) => hides(secret, text, said),
        Value::Array(items) => items.iter().for_each(|item| strings(item, text, said)),
        Value::Table(members) => members.iter().for_each(|(_, value)| strings(value, text, said)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// Durations, sizes, rates and times as people write them, in a configuration and on the command line.
fn quantities(text: &str) {
    if let Ok(duration) = units::duration(text) {
        assert_eq!(units::duration(&units::show_duration(duration)), Ok(duration));
    }
    assert!(units::rate(text).is_ok_and(|rate| rate > 0) || units::rate(text).is_err());
    let refused = [units::size(text).err(), units::time(text, jiff::Timestamp::UNIX_EPOCH).err()];
    assert!(refused.iter().flatten().all(|reason| reason.contains(": ")), "no remedy: {refused:?}");
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Lines, of which each is right where it belongs.
    const LINES: &[&str] = &[
        "[store]",
        "sqlite = \"orders.db\"",
        "producer = \"/orders\"",
        "retention = { age = \"7d\" }",
        "retention = \"off\"",
        "[relay]",
        "listen = \"127.0.0.1:9464\"",
        "failover = \"10s\"",
        "log = \"json\"",
        "[[route]]",
        "name = \"ledger\"",
        "stdout = true",
        "file = \"events.jsonl\"",
        "types = [\"order.*\"]",
        "start = \"2026-05-01T00:00:00Z\"",
        "rate_limit = \"500/s\"",
        "retry = { attempts = 3, base_delay = \"1s\" }",
        "window = { events = 10, key_share = 5 }",
        "[route.webhook]",
        "url = \"https://ledger.example.com/hush-hush\"",
        "secrets = [\"whsec_hushhushhushhushhushhushhushhush\"]",
        "headers = { authorization = \"hush-hush-hush\" }",
        "encoding = \"batch\"",
        "max_bytes = \"1 MiB\"",
    ];

    /// Values that are wrong nearly everywhere.
    const VALUES: &[&str] = &[
        "0",
        "-1",
        "1.5",
        "true",
        "\"\"",
        "\"hush-hush-hush\"",
        "\"${SECRET}\"",
        "\"${UNSET}\"",
        "\"${UNSET-hush-hush-hush}\"",
        "\"${UNSET:-hush-hush-hush}\"",
        "\"${hush-hush-hush\"",
        "[\"hush-hush-hush\", 1]",
        "[\"${SECRET}x\"]",
        "[\"${SECRET-hush-hush-hush}\"]",
        "{ a = 1 }",
        "{ authorization = \"${SECRET\" }",
        "{ authorization = \"hush-hush-hush\\n\" }",
        "{ \"hush hush\" = \"x\" }",
        "\"http://user:hush-hush@example.com\"",
        "2026-01-01",
        "'''\nhush-hush-hush\n'''",
        "99999999999999999999",
        "\"99999999999999999999s\"",
        "\"hush-hush-hush",
        "whsec_hushhushhushhushhushhushhushhush",
    ];

    fn line() -> impl Strategy<Value = String> {
        let key = select(LINES).prop_map(|line| line.split(" =").next().unwrap_or(line));
        prop_oneof![
            8 => select(LINES).prop_map(str::to_owned),
            3 => (key, select(VALUES)).prop_map(|(key, value)| format!("{key} = {value}")),
            1 => "[a-z_]{1,8} = [0-9\"'a-z{}\\[\\]]{0,6}",
            1 => any::<String>(),
        ]
    }

    /// Whole configurations with a few lines exchanged or added.
    fn document() -> impl Strategy<Value = String> {
        let whole = vec((any::<prop::sample::Index>(), line(), any::<bool>()), 0..3).prop_map(|changes| {
            let mut lines: Vec<String> =
                LINES[..2].iter().chain(&LINES[5..11]).chain(&LINES[13..]).map(|line| (*line).to_owned()).collect();
            for (at, line, exchanged) in changes {
                let at = at.index(lines.len());
                if exchanged {
                    lines[at] = line;
                } else {
                    lines.insert(at, line);
                }
            }
            lines.join("\n")
        });
        prop_oneof![4 => whole, 1 => vec(line(), 0..12).prop_map(|lines| lines.join("\n"))]
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration_or_each_mistake_is_named_without_a_secret(text in document()) {
            configuration(&text);
        }

        #[test]
        fn a_quantity_is_read_or_refused_with_a_remedy(text in "[0-9]{0,21} ?(s|ms|h|d|KiB|MB|/s|[a-z]{0,3})[0-9a-z ]{0,5}") {
            quantities(&text);
        }
    }
}

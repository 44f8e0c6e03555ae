//! From a document to a [`Config`]: every key that there is, its default and its limits.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use outbox::{
    Filter, RouteName, RouteSettings, Start,
    route::{AfterDeadLetter, RetryPolicy, WindowLimits},
};

use super::{Config, LogFormat, RelayConfig, RouteConfig, SinkConfig, StoreConfig, section::Section, units};

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "aws")]
mod dynamodb;
mod lambda;
#[cfg(feature = "sql")]
mod mapping;
mod sinks;
mod stores;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads the whole document.
pub(crate) fn config(file: &Path, root: &Section<'_>) -> Option<Config> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let store_section = root.section("store");
    if store_section.is_none() && !root.has("store") {
        root.problem(
            "store",
            "is missing",
            "add `[store]` and in it `sqlite = \"your-service.db\"` or `postgres = \"postgres://…\"`",
        );
    }
    let store = store_section.and_then(|section| stores::store(folder, &section));
    let relay_section = root.section("relay");
    let relay = relay(folder, relay_section.as_ref(), store.as_ref());
    let sections = root.sections("route");
    if sections.is_empty() && !root.has("route") {
        root.problem(
            "route",
            "there is no route",
            "add `[[route]]` with a `name` and a `webhook`, `eventbridge`, `file` or `stdout`",
        );
    }
    let (names, routes): (Vec<_>, Vec<_>) = sections.iter().map(|section| route(folder, section)).unzip();
    for (index, section) in sections.iter().enumerate() {
        repeated_name(&names, index, section);
        repeated_file(&routes, index, section);
    }
    let forwarders = lambda::forwarders(root, &names, store.as_ref());
    Some(Config {
        forwarders: forwarders?,
        file: file.to_owned(),
        store: store?,
        relay: relay?,
        routes: routes.into_iter().collect::<Option<_>>()?,
    })
}

/// A name is given once, whatever else is wrong with the routes that have it.
fn repeated_name(names: &[Option<RouteName>], index: usize, section: &Section<'_>) {
    if let Some(name) = &names[index]
        && names[..index].contains(&names[index])
    {
        section.problem("name", format!("two routes are called `{name}`"), "give each route a name of its own");
    }
}

/// A file is written by one route.
fn repeated_file(routes: &[Option<RouteConfig>], index: usize, section: &Section<'_>) {
    let Some(route) = &routes[index] else { return };
    for earlier in routes[..index].iter().flatten() {
        if let (SinkConfig::File(one), SinkConfig::File(other)) = (&earlier.sink, &route.sink)
            && one.path == other.path
        {
            section.problem("file", "another route writes to the same file", "give each route a file of its own");
        }
    }
}

/// A path, relative to the configuration file's folder.
fn path(folder: &Path, text: &str) -> PathBuf {
    folder.join(text)
}

/// What a relay is called unless it is said.
const NAME: &str = "relay";

fn relay(folder: &Path, section: Option<&Section<'_>>, store: Option<&StoreConfig>) -> Option<RelayConfig> {
    let Some(section) = section else {
        return Some(RelayConfig {
            name: NAME.to_owned(),
            bookkeeping: stores::bookkeeping(folder, NAME, None, store)?,
            failover: 10 * SECOND,
            drain: 30 * SECOND,
            listen: None,
            log: LogFormat::Text,
        });
    };
    let name = section.text("name").unwrap_or_else(|| NAME.to_owned());
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        section.problem("name", "cannot name a relay", "use 1 to 64 characters, as \"orders\"");
    }
    let bookkeeping = stores::bookkeeping(folder, &name, Some(section), store);
    let failover = section.duration("failover", 10 * SECOND, SECOND..=HOUR);
    let drain = section.duration("drain", 30 * SECOND, Duration::ZERO..=HOUR);
    let allow_remote = section.flag("allow_remote", false);
    let listen = section.parsed("listen", "127.0.0.1:9464", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| "is not an address: write an IP address and a port, as `127.0.0.1:9464`".to_owned())
    });
    if let Some(address) = listen
        && !address.ip().is_loopback()
        && !allow_remote
    {
        let help = "use `127.0.0.1`, or add `allow_remote = true` if something in front of it keeps strangers out";
        section.problem("listen", format!("{address} can be reached from other machines"), help);
    }
    let log = match section.text("log").as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(_) => {
            let written = section.written("log");
            section.problem("log", format!("`{written}` is not a log format"), "write \"text\" or \"json\"");
            LogFormat::Text
        }
    };
    section.finish();
    Some(RelayConfig { name, bookkeeping: bookkeeping?, failover, drain, listen, log })
}

/// The route, and its name even where the rest makes no sense.
fn route(folder: &Path, section: &Section<'_>) -> (Option<RouteName>, Option<RouteConfig>) {
    let name = section.required_text("name", "give the route a name, as `name = \"ledger\"`").and_then(|text| {
        RouteName::new(&text)
            .map_err(|error| {
                let text = error.to_string();
                let help = text.split_once(": ").map_or("use a plain name, as \"ledger\"", |(_, help)| help);
                section.problem("name", format!("`{}` cannot name a route", section.written("name")), help);
            })
            .ok()
    });
    let filter = filter(section);
    let start = start(section);
    let retry = retry(section);
    let window = window(section);
    let rate_limit = section.parsed("rate_limit", "500/s", units::rate);
    let sink = sinks::sink(folder, section);
    section.finish();
    let config = name.clone().zip(sink).map(|(name, sink)| RouteConfig {
        settings: RouteSettings { filter, start, retry, window, rate_limit, ..RouteSettings::new(name) },
        sink,
    });
    (name, config)
}

fn filter(section: &Section<'_>) -> Filter {
    let filter = Filter {
        types: section.texts("types"),
        keys: section.texts("keys"),
        attributes: section.named_texts("attributes"),
    };
    for (key, patterns) in [("types", &filter.types), ("keys", &filter.keys)] {
        if patterns.iter().any(String::is_empty) {
            section.problem(
                key,
                "an empty pattern matches nothing",
                "write a name or a glob, as \"order.*\"; leave the list out to take all",
            );
        }
    }
    for name in filter.attributes.keys().filter(|name| *name != "subject") {
        if let Err(error) = outbox::event::check_extension_name(name) {
            let help = "name `subject` or an extension attribute, in a-z and 0-9";
            section.problem("attributes", format!("`{name}` cannot be an attribute ({error})"), help);
        }
    }
    filter
}

fn start(section: &Section<'_>) -> Start {
    match section.text("start").as_deref() {
        None | Some("beginning") => Start::Beginning,
        Some("now") => Start::Now,
        Some(text) => text.parse().map_or_else(
            |_| {
                let help = "write \"beginning\", \"now\", or a time as \"2026-05-01T00:00:00Z\"";
                section.problem("start", format!("`{}` is not a start", section.written("start")), help);
                Start::Beginning
            },
            Start::Time,
        ),
    }
}

fn retry(section: &Section<'_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let after_dead_letter = match section.text("after_dead_letter").as_deref() {
        None | Some("park") => AfterDeadLetter::Park,
        Some("continue") => AfterDeadLetter::Continue,
        Some(_) => {
            let written = section.written("after_dead_letter");
            let help = "write \"park\" (later events of the key wait) or \"continue\" (they go on without it)";
            section.problem("after_dead_letter", format!("`{written}` is no such choice"), help);
            AfterDeadLetter::Park
        }
    };
    let Some(inner) = section.section("retry") else { return RetryPolicy { after_dead_letter, ..default } };
    let number = |key, value: u32, low| u32::try_from(inner.count(key, value.into(), low..=1_000_000)).unwrap_or(value);
    let policy = RetryPolicy {
        quick_attempts: number("quick_attempts", default.quick_attempts, 1),
        attempts: number("attempts", default.attempts, 1),
        base_delay: inner.duration("base_delay", default.base_delay, MILLISECOND..=HOUR),
        max_delay: inner.duration("max_delay", default.max_delay, MILLISECOND..=DAY),
        doubt: inner.duration("doubt", default.doubt, Duration::ZERO..=30 * DAY),
        after_dead_letter,
    };
    if policy.max_delay < policy.base_delay {
        inner.problem("max_delay", "is shorter than `base_delay`", "make it at least as long");
    }
    inner.finish();
    policy
}

fn window(section: &Section<'_>) -> WindowLimits {
    let default = WindowLimits::default();
    let Some(inner) = section.section("window") else { return default };
    let number = |key, value: usize| usize::try_from(inner.count(key, value as u64, 1..=10_000_000)).unwrap_or(value);
    let limits = WindowLimits {
        events: number("events", default.events),
        bytes: bytes(&inner, "bytes", default.bytes, "8 MiB"),
        key_share: number("key_share", default.key_share),
        troubled_keys: number("troubled_keys", default.troubled_keys),
    };
    if limits.key_share > limits.events {
        inner.problem(
            "key_share",
            "is more than the whole window",
            format!("use at most `events` ({})", limits.events),
        );
    }
    inner.finish();
    limits
}

fn bytes(section: &Section<'_>, key: &'static str, default: usize, example: &str) -> usize {
    usize::try_from(section.size(key, default as u64, example)).unwrap_or(usize::MAX)
}

//! Where a route's events go: exactly one sink.

use std::path::Path;

use outbox::{
    signature::Secret,
    sinks::{Encoding, WebhookSettings, webhook::SettingsError},
};

use super::{MILLISECOND, MINUTE, bytes, path};
use crate::config::{FileConfig, SinkConfig, section::Section};

mod eventbridge;

/// The route's one sink.
pub(super) fn sink(folder: &Path, section: &Section<'_>) -> Option<SinkConfig> {
    let webhook = section.section("webhook");
    let file = section.section_or_text("file");
    let stdout = section.has("stdout");
    let eventbridge = section.section_or_text("eventbridge");
    let given = [section.has("webhook"), section.has("eventbridge"), section.has("file"), stdout];
    match given.iter().filter(|given| **given).count() {
        0 => {
            let help = "say where its events go: `webhook = { url = \"https://…\" }`, `eventbridge = \"my-bus\"`, `file = \"events.jsonl\"` or `stdout = true`";
            section.problem_here("the route has no sink", help);
            None
        }
        1 if stdout => {
            if !section.flag("stdout", true) {
                section.problem(
                    "stdout",
                    "`false` leaves the route without a sink",
                    "write `stdout = true`, or name a webhook, bus or file",
                );
            }
            Some(SinkConfig::Stdout)
        }
        1 => match (webhook, file, eventbridge) {
            (Some(inner), _, _) => webhook_sink(folder, &inner).map(SinkConfig::Webhook),
            (None, Some(file), _) => file_sink(folder, section, file),
            (None, None, Some(bus)) => eventbridge::sink(section, bus),
            (None, None, None) => None,
        },
        _ => {
            section.problem_here(
                "the route has more than one sink",
                "give it one of `webhook`, `eventbridge`, `file` and `stdout`, and make a route for each",
            );
            None
        }
    }
}

fn file_sink(folder: &Path, section: &Section<'_>, file: Result<Section<'_>, String>) -> Option<SinkConfig> {
    let text = match file {
        Err(text) => text,
        Ok(inner) => {
            let text = inner.required_text("path", "name the file: `path = \"events.jsonl\"`");
            inner.finish();
            text?
        }
    };
    if text.trim().is_empty() {
        section.problem("file", "is empty", "name the file, as `file = \"events.jsonl\"`");
    }
    Some(SinkConfig::File(FileConfig { path: path(folder, &text) }))
}

fn webhook_sink(folder: &Path, section: &Section<'_>) -> Option<WebhookSettings> {
    let url = section.required_text("url", "name the endpoint, as `url = \"https://ledger.example.com/events\"`");
    let default = WebhookSettings::new(url.clone().unwrap_or_default());
    let count = |key, value: usize, high| usize::try_from(section.count(key, value as u64, 1..=high)).unwrap_or(value);
    let settings = WebhookSettings {
        encoding: encoding(section),
        headers: headers(section),
        secrets: secrets(section),
        connect_timeout: section.duration("connect_timeout", default.connect_timeout, MILLISECOND..=10 * MINUTE),
        timeout: section.duration("timeout", default.timeout, MILLISECOND..=10 * MINUTE),
        max_calls: count("concurrency", default.max_calls, 1024),
        max_events: count("max_events", default.max_events, 10_000),
        max_bytes: bytes(section, "max_bytes", default.max_bytes, "1 MiB"),
        max_event_bytes: 0,
        root_certificates: certificates(folder, section),
        proxy: section.text("proxy"),
        ..default
    };
    let largest = bytes(section, "max_event_bytes", settings.max_bytes, "1 MiB");
    let settings = WebhookSettings { max_event_bytes: largest, ..settings };
    if settings.encoding != Encoding::Batch && section.has("max_events") && settings.max_events > 1 {
        let help = "leave it out, or write `encoding = \"batch\"`";
        section.problem("max_events", "only a batch holds more than one event", help);
    }
    section.finish();
    url?;
    match settings.clone().validate() {
        Ok(_) => Some(settings),
        Err(SettingsError { field, problem }) => {
            let (message, help) = problem.split_once(": ").unwrap_or((&problem, "see docs/configuration.md"));
            let key = match field {
                "max_calls" => "concurrency",
                field => field,
            };
            section.problem(key, message, help);
            None
        }
    }
}

/// CloudEvents calls it the content mode; the word mode is that of an inbox.
fn encoding(section: &Section<'_>) -> Encoding {
    match section.text("encoding").as_deref() {
        None => Encoding::default(),
        Some("structured") => Encoding::Structured,
        Some("batch") => Encoding::Batch,
        Some("binary") => Encoding::Binary,
        Some(_) => {
            let written = section.written("encoding");
            let help = "write \"structured\", \"batch\" or \"binary\"";
            section.problem("encoding", format!("`{written}` is not an encoding"), help);
            Encoding::default()
        }
    }
}

/// The certificates themselves: the file is read once, and its mistakes are the configuration's.
fn certificates(folder: &Path, section: &Section<'_>) -> Option<Vec<u8>> {
    let file = path(folder, &section.text("root_certificates")?);
    std::fs::read(&file)
        .map_err(|error| {
            let message = format!("`{}` cannot be read ({error})", section.written("root_certificates"));
            section.problem("root_certificates", message, "name a PEM file that this user may read");
        })
        .ok()
}

/// Most headers that a target wants are its tokens.
fn headers(section: &Section<'_>) -> Vec<(String, String)> {
    if section.reads_secret("headers") { section.named_texts("headers").into_iter().collect() } else { Vec::new() }
}

/// The text of a secret is in no message.
fn secrets(section: &Section<'_>) -> Vec<Secret> {
    let mut secrets = Vec::new();
    if !section.reads_secret("secrets") {
        return secrets;
    }
    for (index, text) in section.texts("secrets").iter().enumerate() {
        match text.trim().parse::<Secret>() {
            Ok(secret) => secrets.push(secret),
            Err(error) => {
                let text = error.to_string();
                let (message, help) = text.split_once(": ").unwrap_or((&text, "copy it whole"));
                section.problem("secrets", format!("number {}: {message}", index + 1), help);
            }
        }
    }
    secrets
}

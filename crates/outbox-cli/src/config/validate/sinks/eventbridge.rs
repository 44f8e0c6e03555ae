//! An event bus of EventBridge.

use crate::config::{SinkConfig, section::Section};

/// The sink that `bus` describes: its name, or a table.
#[cfg(feature = "aws")]
pub(super) fn sink(route: &Section<'_>, bus: Result<Section<'_>, String>) -> Option<SinkConfig> {
    use outbox_aws::eventbridge::{EventBridgeSettings, SettingsError};

    let (section, settings) = match bus {
        Ok(section) => {
            let settings = settings(&section);
            section.finish();
            (Some(section), settings?)
        }
        Err(name) => (None, EventBridgeSettings::new(name)),
    };
    let Err(SettingsError { field, problem }) = settings.validate() else {
        return Some(SinkConfig::EventBridge(settings));
    };
    let (message, help) = problem.split_once(": ").unwrap_or((&problem, "see docs/eventbridge.md"));
    match section {
        None => route.problem("eventbridge", message, help),
        Some(section) => section.problem(key(field), message, help),
    }
    None
}

#[cfg(not(feature = "aws"))]
pub(super) fn sink(route: &Section<'_>, _: Result<Section<'_>, String>) -> Option<SinkConfig> {
    route.problem(
        "eventbridge",
        "this build knows nothing of AWS",
        "build it with the feature `aws`, which is on by default",
    );
    None
}

/// The key that a setting has in the file.
#[cfg(feature = "aws")]
fn key(field: &'static str) -> &'static str {
    match field {
        "max_calls" => "concurrency",
        "max_entries" => "max_events",
        "bucket" | "prefix" | "kms_key" => "claim_check",
        field => field,
    }
}

#[cfg(feature = "aws")]
fn settings(section: &Section<'_>) -> Option<outbox_aws::eventbridge::EventBridgeSettings> {
    use outbox_aws::eventbridge::EventBridgeSettings;

    use super::{
        super::{MINUTE, SECOND, aws},
        bytes,
    };

    let bus = section.required_text("bus", "name the event bus, as `bus = \"carts\"`");
    let default = EventBridgeSettings::new(bus.clone().unwrap_or_default());
    let count = |key, value: usize, high| usize::try_from(section.count(key, value as u64, 1..=high)).unwrap_or(value);
    let settings = EventBridgeSettings {
        aws: aws::settings(section),
        timeout: section.duration("timeout", default.timeout, SECOND..=10 * MINUTE),
        max_calls: count("concurrency", default.max_calls, 1024),
        max_entries: count("max_events", default.max_entries, 10),
        max_entry_bytes: bytes(section, "max_entry_bytes", default.max_entry_bytes, "256 KiB"),
        claim_check: section.section_or_text("claim_check").and_then(claim_check),
        ..default
    };
    bus.map(|_| settings)
}

/// A bucket's name, or a table.
#[cfg(feature = "aws")]
fn claim_check(given: Result<Section<'_>, String>) -> Option<outbox_aws::eventbridge::ClaimCheckSettings> {
    use outbox_aws::eventbridge::ClaimCheckSettings;

    let section = match given {
        Ok(section) => section,
        Err(bucket) => return Some(ClaimCheckSettings::new(bucket)),
    };
    let bucket = section.required_text("bucket", "name the bucket, as `bucket = \"carts-events\"`");
    let prefix = section.text("prefix").unwrap_or_default();
    let kms_key = section.text("kms_key");
    section.finish();
    Some(ClaimCheckSettings { bucket: bucket?, prefix, kms_key })
}

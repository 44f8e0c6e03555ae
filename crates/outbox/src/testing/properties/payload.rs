//! Which parts of an input are a payload's, so that an error can be searched for them.

use serde_json::Value;

/// What a part has to hold to be searched for: no message has it by itself, and the corpora and strategies put it where
/// nobody may see it.
const MARK: &str = "hush";

/// That `error`, said of `input`, shows nothing that stands in `input` only as the payload of an event in `events`, which
/// is a part of it and JSON.
///
/// # Panics
/// If it does.
pub fn hides_payload(events: &str, input: &str, error: &str) {
    if let Ok(value) = serde_json::from_str(events) {
        payloads(&value, input, error);
    }
}

/// That `error`, said of `input`, does not show `hidden`, unless that has no mark (`hush`) to tell it by, or stands in
/// `input` a second time: where it may be shown.
///
/// # Panics
/// If it does.
pub fn hides(hidden: &str, input: &str, error: &str) {
    let known_elsewhere = input.matches(hidden).take(2).count() > 1;
    assert!(
        !hidden.contains(MARK) || known_elsewhere || !error.contains(hidden),
        "the error shows `{hidden}`, which nobody may see: {error}"
    );
}

/// Looks for the payloads of one event, or of an array of them.
fn payloads(value: &Value, input: &str, error: &str) {
    match value {
        Value::Array(events) => events.iter().for_each(|event| payloads(event, input, error)),
        Value::Object(members) => {
            let payload = members.iter().filter(|(name, _)| matches!(name.as_str(), "data" | "data_base64"));
            payload.for_each(|(_, payload)| texts(payload, input, error));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn texts(payload: &Value, input: &str, error: &str) {
    match payload {
        Value::String(text) => hides(text, input, error),
        Value::Array(items) => items.iter().for_each(|item| texts(item, input, error)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            hides(name, input, error);
            texts(value, input, error);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

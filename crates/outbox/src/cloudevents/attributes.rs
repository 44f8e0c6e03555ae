//! Which attributes an event has on the wire, in every encoding.

use std::fmt::Write as _;

use super::Envelope;
use crate::event::{AttributeValue, Event, extension};

/// An attribute's value as an encoding writes it.
#[derive(Clone, Copy)]
pub(super) enum Wire<'a> {
    Boolean(bool),
    Integer(i32),
    Text(&'a str),
}

/// Visits every attribute of `event` but the payload's media type, which each encoding has a place of its own for. The
/// order is always the same.
pub(super) fn each(event: &Event, envelope: Envelope<'_>, mut visit: impl FnMut(&str, Wire<'_>)) {
    visit("specversion", Wire::Text("1.0"));
    visit("id", Wire::Text(&event.id));
    visit("source", Wire::Text(&event.source));
    visit("type", Wire::Text(&event.kind));
    if let Some(schema) = &event.schema {
        visit("dataschema", Wire::Text(schema));
    }
    if let Some(subject) = &event.subject {
        visit("subject", Wire::Text(subject));
    }
    let mut scratch = String::new();
    if let Some(time) = event.time {
        _ = write!(scratch, "{time}");
        visit("time", Wire::Text(&scratch));
    }
    if let Some(key) = &event.key {
        visit(extension::KEY, Wire::Text(key.as_str()));
    }
    if let Some(placing) = event.placing {
        visit(extension::SEQUENCE, Wire::Text(&placing.place.sequence_text()));
        visit(extension::PLACE, Wire::Text(&placing.wire()));
        scratch.clear();
        _ = write!(scratch, "{}", placing.after);
        visit(extension::AFTER, Wire::Text(&scratch));
    }
    if envelope.gapless {
        visit(extension::GAPLESS, Wire::Boolean(true));
    }
    if let Some(replay) = envelope.replay {
        visit(extension::REPLAY_ID, Wire::Text(replay));
    }
    for (name, value) in &event.extensions {
        if !is_written_already(event, envelope, name) {
            visit(name, wire(value));
        }
    }
}

fn wire(value: &AttributeValue) -> Wire<'_> {
    match value {
        AttributeValue::Boolean(value) => Wire::Boolean(*value),
        AttributeValue::Integer(value) => Wire::Integer(*value),
        AttributeValue::Text(text) => Wire::Text(text),
    }
}

/// What the event and its route say themselves wins over an extension of the same name: an event that was received and
/// is published again carries the new route's word.
fn is_written_already(event: &Event, envelope: Envelope<'_>, name: &str) -> bool {
    match name {
        extension::KEY => event.key.is_some(),
        extension::SEQUENCE | extension::PLACE | extension::AFTER => event.placing.is_some(),
        extension::GAPLESS => envelope.gapless,
        extension::REPLAY_ID => envelope.replay.is_some(),
        _ => false,
    }
}

//! JSON lines: one structured CloudEvent a line.

use crate::{
    cloudevents::json,
    event::Event,
    sink::{Batch, SinkLimits},
};

/// What a sink of lines takes in a call: a file, standard output. Calls come one after another, or lines would mix.
pub const LIMITS: SinkLimits = SinkLimits {
    ordered_calls: true,
    max_events: 500,
    max_bytes: 8 * 1024 * 1024,
    max_event_bytes: 8 * 1024 * 1024,
    max_calls: 1,
};

/// The event's line, its line break included.
pub(super) fn size(event: &Event) -> usize {
    json::encoded_size(event) + 1
}

/// The batch's lines.
///
/// A payload of JSON is embedded as it was written, perhaps over several lines. The only line breaks that JSON allows
/// unescaped stand between its tokens, so a space in their place leaves the value as it was.
pub(super) fn encode(batch: &Batch) -> Vec<u8> {
    let envelope = batch.envelope();
    let mut lines = Vec::with_capacity(batch.events.iter().map(|event| size(event)).sum());
    for event in &batch.events {
        let start = lines.len();
        json::encode_into(&mut lines, event, envelope);
        lines[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventRef, NewEvent, event::Identity, testing_event};

    fn batch(events: Vec<Event>) -> Batch {
        Batch { events: events.into_iter().map(EventRef::single).collect(), gapless: true, replay: None }
    }

    #[test]
    fn every_line_is_one_event() {
        let lines = encode(&batch((1..=3).map(|n| testing_event("t", Some("k"), n)).collect()));
        let ids: Vec<_> = lines
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| json::decode(line.trim_ascii_end()).unwrap().id().to_owned())
            .collect();
        assert_eq!(ids, ["k@1.1.0", "k@1.2.0", "k@1.3.0"]);
    }

    #[test]
    fn a_payload_of_several_lines_stays_one_line_with_the_same_value() {
        let new = NewEvent::builder("t").bytes("application/json", "{\n  \"a\": \"x\\ny\"\r\n}").build().unwrap();
        let identity = Identity { source: &"/tests".into(), placing: None, recorded: None, fallback_id: "1" };
        let lines = encode(&batch(vec![Event::from_new(new, identity).unwrap()]));
        assert_eq!(lines.split_inclusive(|byte| *byte == b'\n').count(), 1);
        let value: serde_json::Value = json::decode(lines.trim_ascii_end()).unwrap().json().unwrap();
        assert_eq!(value, serde_json::json!({ "a": "x\ny" }));
    }

    #[test]
    fn lines_are_never_longer_than_their_stated_size() {
        let event = testing_event("t", Some("k"), 1);
        let stated = size(&event);
        let replay = Some("r".repeat(64).into());
        let batch = Batch { events: vec![EventRef::single(event)], gapless: true, replay };
        assert!(encode(&batch).len() <= stated);
    }
}

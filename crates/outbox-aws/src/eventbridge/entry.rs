//! An event as an entry, and what it counts.

use aws_sdk_eventbridge::{primitives::DateTime, types::PutEventsRequestEntry};
use outbox::{Batch, Event, Outcome, cloudevents::json};

/// Rule: `DetailType` of `PutEventsRequestEntry` in the API reference.
const DETAIL_TYPE_CHARS: usize = 128;
/// What a time counts. Rule: "Calculating `PutEvents` event entry size" in EventBridge's user guide.
const TIME_BYTES: usize = 14;

/// An event that can be put.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) request: PutEventsRequestEntry,
    /// By the service's measure.
    pub(super) bytes: usize,
}

impl Entry {
    /// `event` as an entry for `bus`; a refusal if it cannot be one.
    pub(super) fn of(event: &Event, batch: &Batch, bus: &str) -> Result<Self, Outcome> {
        let characters = event.kind().chars().count();
        if characters > DETAIL_TYPE_CHARS {
            let reason = format!("its type has {characters} characters, and a detail type at most {DETAIL_TYPE_CHARS}");
            return Err(Outcome::Refused { permanent: true, reason });
        }
        let Ok(detail) = String::from_utf8(json::encode(event, batch.envelope())) else {
            let reason = "its payload says that it is JSON, and is not UTF-8".to_owned();
            return Err(Outcome::Refused { permanent: true, reason });
        };
        let bytes = attribute_bytes(event) + detail.len();
        let request = PutEventsRequestEntry::builder()
            .event_bus_name(bus)
            .source(event.source())
            .detail_type(event.kind())
            .detail(detail)
            .set_time(event.time().map(|time| DateTime::from_secs(time.as_second())))
            .set_resources(resource(event).map(|arn| vec![arn.to_owned()]))
            .build();
        Ok(Self { request, bytes })
    }
}

/// Never less than the event's bytes as an entry, whatever its route adds.
pub(super) fn size(event: &Event) -> usize {
    attribute_bytes(event) + json::encoded_size(event)
}

fn attribute_bytes(event: &Event) -> usize {
    let time = event.time().map_or(0, |_| TIME_BYTES);
    time + event.source().len() + event.kind().len() + resource(event).map_or(0, str::len)
}

/// What EventBridge calls a resource is an ARN.
fn resource(event: &Event) -> Option<&str> {
    event.subject().filter(|subject| subject.starts_with("arn:"))
}

/// Entries by calls, in their order, each within what a call takes.
pub(super) fn calls<P>(entries: Vec<(P, Entry)>, max_entries: usize, max_bytes: usize) -> Vec<Vec<(P, Entry)>> {
    let mut calls: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for (position, entry) in entries {
        match calls.last_mut() {
            Some(call) if call.len() < max_entries && bytes + entry.bytes <= max_bytes => {
                bytes += entry.bytes;
                call.push((position, entry));
            }
            _ => {
                bytes = entry.bytes;
                calls.push(vec![(position, entry)]);
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use outbox::{EventRef, NewEvent, event::Identity};

    use super::*;

    fn event_of(new: NewEvent) -> Event {
        let recorded = Some(jiff::Timestamp::UNIX_EPOCH);
        let identity = Identity { source: &"/tests".into(), placing: None, recorded, fallback_id: "id" };
        Event::from_new(new, identity).unwrap()
    }

    fn batch_of(event: &Event) -> Batch {
        Batch { events: vec![EventRef::single(event.clone())], gapless: true, replay: Some("replay-1".into()) }
    }

    #[test]
    fn an_entry_counts_what_the_service_counts_and_never_more_than_was_said() {
        let new = NewEvent::builder("käse").key("k").subject("arn:aws:s3:::b").json(&1).build().unwrap();
        let event = event_of(new);
        let entry = Entry::of(&event, &batch_of(&event), "b").unwrap();
        let (detail, time) = (entry.request.detail().unwrap(), entry.request.time().map_or(0, |_| 14));
        assert_eq!(entry.bytes, detail.len() + time + event.source().len() + "käse".len() + "arn:aws:s3:::b".len());
        assert!(entry.bytes <= size(&event));
        assert_eq!(entry.request.resources(), ["arn:aws:s3:::b"]);
    }

    #[test]
    fn a_detail_type_has_128_characters_however_many_bytes() {
        let of = |characters: usize| {
            let event = event_of(NewEvent::builder("ü".repeat(characters)).key("k").build().unwrap());
            Entry::of(&event, &batch_of(&event), "b")
        };
        assert!(of(128).is_ok());
        assert!(matches!(of(129), Err(Outcome::Refused { permanent: true, .. })));
    }

    #[test]
    fn calls_are_filled_in_order_and_never_above_what_one_takes() {
        let event = event_of(NewEvent::builder("t").build().unwrap());
        let entry = |bytes| Entry { bytes, ..Entry::of(&event, &batch_of(&event), "b").unwrap() };
        let entries = [3, 3, 4, 1, 10, 1, 1, 1, 1].into_iter().map(entry).enumerate().collect();
        let calls: Vec<Vec<_>> =
            calls(entries, 3, 10).into_iter().map(|call| call.into_iter().map(|(at, _)| at).collect()).collect();
        assert_eq!(calls, [vec![0, 1, 2], vec![3], vec![4], vec![5, 6, 7], vec![8]]);
    }
}

//! What a backend's reader made of something it found.

use super::{event, told};
use crate::{
    entry::{Content, Record},
    event::{AttributeValue, Event, check_extension_name},
    place::Place,
    writer::MAX_ENTRY_EVENTS,
};

/// That a record keeps its rules: the events of an entry are one key's, stand in a row and can be kept and published; what
/// is none says why, on one line.
///
/// # Panics
/// If it does not.
pub fn record(record: &Record) {
    match &record.content {
        Content::Events(events) => entry(events),
        Content::Undecodable(undecodable) => told(&undecodable.reason),
    }
}

fn entry(events: &[Event]) {
    let count = events.len();
    assert!((1..=MAX_ENTRY_EVENTS).contains(&count), "{count} events");
    let (key, mut before) = (events[0].key(), events[0].placing().map(|placing| placing.after));
    for (read, index) in events.iter().zip(0_u32..) {
        event(read);
        assert_eq!((read.key(), read.source()), (key, events[0].source()));
        assert!(read.time().is_some(), "an event without a time");
        assert_eq!(read.placing().is_some(), before.is_some());
        if let Some(placing) = read.placing() {
            let Place { incarnation, sequence, .. } = placing.place;
            assert_eq!((placing.place.index, placing.count as usize), (index, count));
            assert!(Some(placing.after) == before && placing.after < placing.place, "{placing:?} behind {before:?}");
            before = Some(Place::new(incarnation, sequence, index));
        }
        for (name, value) in read.extensions() {
            assert_eq!(check_extension_name(name), Ok(()));
            assert!(*value != AttributeValue::from(""), "{name} is empty");
        }
    }
}

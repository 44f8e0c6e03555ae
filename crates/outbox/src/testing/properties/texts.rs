//! The short texts that attributes, tables and checkpoints hold: places, lanes, positions, names, filters.

use std::sync::Arc;

use super::{encodings, told};
use crate::{
    System,
    bookkeeping::Lane,
    entry::Position,
    event::{Key, MAX_KEY_BYTES, check_extension_name, check_uri_reference},
    filter::Filter,
    memory::{MemoryStore, PARTITION},
    place::{Place, Placing},
    route::RouteName,
    source::{Limit, PartitionId, Source},
};

/// Reads `text` as each of them; as two, where it holds a space.
///
/// # Panics
/// If a property does not hold.
pub fn text(text: &str) {
    places(text);
    lane(text);
    names(text);
    position(text);
    filter(text);
}

fn places(text: &str) {
    match text.parse::<Place>() {
        Ok(place) => {
            assert_eq!(place.to_string().parse(), Ok(place));
            let next = Place { index: place.index.wrapping_add(1), ..place };
            assert_eq!(place.cmp(&next), place.sequence_text().cmp(&next.sequence_text()), "{place} and {next}");
            // What keeps places in signed columns keeps their order.
            assert!(i64::try_from(place.sequence).is_ok(), "{place} has no place in a table");
        }
        Err(error) => told(&error.to_string()),
    }
    let (place, after) = text.split_once(' ').unwrap_or((text, "0.0.0"));
    match Placing::from_wire(place, after) {
        Ok(placing) => {
            encodings::place(&placing);
            assert_eq!(Placing::from_wire(&placing.wire(), &placing.after.to_string()), Ok(placing));
        }
        Err(error) => told(&error.to_string()),
    }
}

fn lane(text: &str) {
    if let Some(lane) = Lane::from_text(text) {
        assert_eq!(lane.to_text(), text);
        assert_eq!(Lane::from_text(&lane.to_text()), Some(lane));
    }
}

fn names(text: &str) {
    match RouteName::new(text) {
        Ok(name) => assert_eq!((name.as_str(), (1..=64).contains(&text.len())), (text, true)),
        Err(error) => told(&error.to_string()),
    }
    match Key::new(text) {
        Ok(key) => {
            assert_eq!((key.as_str(), (1..=MAX_KEY_BYTES).contains(&text.len())), (text, true));
            let lane = Lane::Key(key);
            assert_eq!(Lane::from_text(&lane.to_text()), Some(lane));
        }
        Err(error) => told(&error.to_string()),
    }
    for checked in [check_extension_name(text), check_uri_reference("source", text)] {
        if let Err(error) = checked {
            told(&error.to_string());
        }
    }
}

/// A position is text for everybody but its store, which refuses what is none of its own.
fn position(text: &str) {
    let position = Position::new(text);
    assert_eq!(position.as_str(), text);
    let Ok(store) = MemoryStore::new("/orders", Arc::new(System), Arc::new(System)) else { return };
    let limit = Limit { events: 1, bytes: 1 };
    let partition = PartitionId::new(PARTITION);
    let read = futures_util::FutureExt::now_or_never(store.read(&partition, &position, limit));
    match read {
        Some(Ok(page)) => assert_eq!((page.next.as_str(), page.records.len()), (text, 0)),
        Some(Err(error)) => told(&error.to_string()),
        None => panic!("a store in memory waits"),
    }
}

fn filter(text: &str) {
    if let Ok(filter) = serde_json::from_str::<Filter>(text) {
        let again = serde_json::to_string(&filter).map(|text| serde_json::from_str::<Filter>(&text));
        assert!(matches!(again, Ok(Ok(again)) if again == filter), "a filter is another one once it was stored");
        filter.compile().matches(&crate::testing::sample::event("order/1", 1));
    }
}

use outbox::{Content, Position};

use super::*;

fn plan(events: Vec<NewEvent>) -> EntryPlan {
    EntryPlan { key: events[0].key().cloned(), events: events.into_iter().enumerate().collect() }
}

fn frame(identity: EntryIdentity) -> Frame {
    let recorded = Timestamp::from_millisecond(1_800_000_000_123).unwrap();
    Frame { identity, commit: CommitId([7; 16]), recorded, expires: Timestamp::from_second(1_802_592_000).unwrap() }
}

fn placed(sequence: u64, after: Place) -> EntryIdentity {
    EntryIdentity::Placed { key: Key::new("cart/42").unwrap(), first: Place::new(1, sequence, 0), after }
}

fn sample() -> Item {
    let event = |kind: &str| NewEvent::builder(kind).key("cart/42").json(&1).build().unwrap();
    let entropy = outbox::memory::SeededEntropy::new(1);
    encode(&plan(vec![event("a"), event("b")]), &frame(placed(7, Place::new(1, 6, 2))), &entropy).unwrap()
}

fn reader() -> EntryReader {
    EntryReader::new("/carts")
}

#[test]
fn an_entry_comes_back_as_it_was_written() {
    let events = reader().events(&sample()).unwrap();
    let places: Vec<_> = events.iter().map(|event| event.placing().unwrap().wire()).collect();
    assert_eq!(places, ["1.7.0/2", "1.7.1/2"]);
    assert_eq!(events[0].placing().unwrap().after, Place::new(1, 6, 2));
    assert_eq!(events[1].placing().unwrap().after, Place::new(1, 7, 0));
    assert_eq!((events[1].kind(), events[1].source(), events[1].id()), ("b", "/carts", "cart/42@1.7.1"));
}

#[test]
fn the_expiry_is_in_seconds() {
    let item = sample();
    assert_eq!(item["expires_at"], number(1_802_592_000));
    assert_eq!(item["recorded_at"], number(1_800_000_000_123_u64));
}

#[test]
fn an_event_without_a_key_stands_under_its_commit() {
    let keyless = |number| EntryIdentity::Keyless { commit: CommitId([7; 16]), number };
    let commit = CommitId([7; 16]).to_string();
    assert_eq!(keyless(0).primary_key(), item::item([("key", text(&commit)), ("sequence", number(0))]));
    let second = item::item([("key", text(format!("{commit}.1"))), ("sequence", number(0))]);
    assert_eq!(keyless(1).primary_key(), second);
}

#[test]
fn what_is_not_an_entry_names_the_attribute() {
    let rubbish: [(&str, Option<AttributeValue>); 9] = [
        ("events", None),
        ("events", Some(text("none"))),
        ("count", Some(number(3))),
        ("commit_id", Some(bytes([1, 2]))),
        ("recorded_at", Some(text("yesterday"))),
        ("after", Some(text("1.7.0"))),
        ("after", Some(text("before"))),
        ("incarnation", Some(number(0))),
        ("sequence", Some(number("1.5"))),
    ];
    for (name, value) in rubbish {
        let mut item = sample();
        match value {
            Some(value) => item.insert(name.to_owned(), value),
            None => item.remove(name),
        };
        let error = reader().events(&item).unwrap_err();
        assert!(error.to_string().contains(&format!("`{name}`")), "{name}: {error}");
    }
}

#[test]
fn an_entry_has_the_number_behind_that_of_the_one_before() {
    let read = |incarnation: u32, sequence: u64, after: &str| {
        let mut item = sample();
        let place = [("incarnation", number(incarnation)), ("sequence", number(sequence)), ("after", text(after))];
        item.extend(item::item(place));
        reader().events(&item).map(drop).map_err(|error| error.to_string())
    };
    for (incarnation, sequence, after) in [(1, 1, "0.0.0"), (1, 8, "1.7.3"), (2, 8, "1.7.0"), (3, 9, "1.5.0")] {
        assert_eq!(read(incarnation, sequence, after), Ok(()), "{incarnation}.{sequence} after {after}");
    }
    let milliseconds = 1_795_000_000_123;
    for (sequence, after) in [(milliseconds, "1.7.0"), (9, "1.7.0"), (2, "0.0.0"), (milliseconds, "0.0.0")] {
        let error = read(1, sequence, after).unwrap_err();
        assert!(error.contains("`sequence`") && error.contains(after) && error.contains("1, 2, 3"), "{error}");
    }
}

#[test]
fn an_undecodable_item_keeps_its_key_and_its_bytes() {
    let mut item = sample();
    item.remove("events");
    let record = reader().record(&item, Position::new("1"));
    let Content::Undecodable(row) = record.content else { panic!("{record:?}") };
    assert_eq!((&*row.id, row.key), ("entry/cart/42/7", Some(Key::new("cart/42").unwrap())));
    assert!(row.reason.contains("`events`") && row.raw.starts_with(b"{"), "{}", row.reason);
    assert_eq!(record.commit, CommitId([7; 16]));
}

#[test]
fn items_of_a_key_that_are_no_entries_have_ids_of_their_own() {
    let id = |sequence: &str| {
        let mut item = sample();
        item.insert("sequence".to_owned(), number(sequence));
        let record = reader().record(&item, reader().position(&item, "1"));
        let Content::Undecodable(row) = record.content else { panic!("{record:?}") };
        assert_eq!(row.key, None);
        (row.id, record.position.record().to_owned())
    };
    assert_eq!(id("-1").0.as_ref(), "entry/cart/42/-1");
    assert_ne!(id("-1").1, id("1.5").1, "what is kept is told by its record");
}

#[test]
fn a_payload_of_another_type_is_refused_with_the_remedy() {
    let mut item = sample();
    let event = AttributeValue::M(item::item([("type", text("a")), ("data", number(1))]));
    item.insert("events".to_owned(), AttributeValue::L(vec![event]));
    item.insert("count".to_owned(), number(1));
    let error = reader().events(&item).unwrap_err().to_string();
    assert!(error.contains("`data`") && error.contains("as text"), "{error}");
}

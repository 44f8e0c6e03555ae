use super::*;
use crate::dynamodb::{
    attribute::TypedValue,
    entry::{Change, EntryReader},
    mapping::Layout,
    schema::Tables,
};

fn item(json: &str) -> HashMap<String, TypedValue> {
    serde_json::from_str(json).unwrap()
}

fn record(mapping: &Mapping, json: &str) -> Record {
    let seen = Seen(Timestamp::from_second(1_795_000_000).unwrap());
    mapping.record(&"/carts".into(), &item(json), Position::new("@1"), seen)
}

fn event(mapping: &Mapping, json: &str) -> Event {
    let record = record(mapping, json);
    let Content::Events(events) = &record.content else { panic!("{record:?}") };
    events[0].clone()
}

fn seed() -> Mapping {
    Mapping::of(Layout::DynamoOutbox, "outbox")
}

const SEED: &str = r#"{"messageId": {"S": "m-1"}, "detailType": {"S": "CartCreated"},
    "detail": {"S": "{ \"cartId\": 7 }"}, "ttl": {"N": "1795000600"}}"#;

#[test]
fn an_item_of_the_layout_is_an_event_and_a_text_is_published_as_it_is() {
    let found = event(&seed(), SEED);
    assert_eq!((found.id(), found.kind(), found.key(), found.placing()), ("m-1", "CartCreated", None, None));
    assert_eq!(found.data().unwrap().as_ref(), b"{ \"cartId\": 7 }");
    let whole = record(&seed(), SEED);
    assert_eq!(whole.recorded.as_second(), 1_795_000_000, "when it was seen, for it does not say when it was written");
}

#[test]
fn a_document_becomes_json_and_other_things_what_the_mapping_says() {
    let document =
        SEED.replace(r#""detail": {"S": "{ \"cartId\": 7 }"}"#, r#""detail": {"M": {"cartId": {"N": "7"}}}"#);
    let found = event(&seed(), &document);
    assert_eq!(
        (found.data().unwrap().as_ref(), found.content_type()),
        (b"{\"cartId\":7}".as_slice(), Some("application/json"))
    );
    let text = event(&seed().payload("detailType").content_type("text/plain"), SEED);
    assert_eq!((text.data().unwrap().as_ref(), text.content_type()), (b"CartCreated".as_slice(), Some("text/plain")));
}

#[test]
fn a_key_is_an_attribute_or_stands_within_a_document_or_a_text() {
    let key = |path: &str, json: &str| event(&seed().key(path), json).key().map(|key| key.as_str().to_owned());
    assert_eq!(key("detailType", SEED).as_deref(), Some("CartCreated"));
    assert_eq!(key("detail.cartId", SEED).as_deref(), Some("7"));
    let document = SEED.replace(
        r#""detail": {"S": "{ \"cartId\": 7 }"}"#,
        r#""detail": {"M": {"cart": {"M": {"id": {"S": "c1"}}}, "none": {"NULL": true}}}"#,
    );
    assert_eq!(key("detail.cart.id", &document).as_deref(), Some("c1"));
    for without in ["missing", "detail.missing.id", "detail.none"] {
        assert_eq!(key(without, &document), None, "{without}");
    }
}

#[test]
fn a_time_is_read_in_seconds_in_milliseconds_and_as_text() {
    for (time, millisecond) in [
        (r#"{"N": "1795000000"}"#, 1_795_000_000_000),
        (r#"{"N": "1795000000123"}"#, 1_795_000_000_123),
        (r#"{"N": "1795000000.25"}"#, 1_795_000_000_250),
        (r#"{"S": "2026-11-18T11:06:40.5Z"}"#, 1_795_000_000_500),
    ] {
        let json = SEED.replace("\"ttl\"", &format!("\"at\": {time}, \"ttl\""));
        let found = record(&seed().time("at"), &json);
        assert_eq!(found.recorded.as_millisecond(), millisecond, "{time}");
        assert_eq!(event(&seed().time("at"), &json).time(), Some(found.recorded));
    }
}

#[test]
fn what_is_no_event_is_undecodable_with_its_key_and_the_attribute_named() {
    let bad = |mapping: Mapping, json: &str, word: &str, has_key: bool| {
        let record = record(&mapping, json);
        let Content::Undecodable(row) = record.content else { panic!("{record:?}") };
        assert!(row.reason.contains(word), "{}", row.reason);
        assert_eq!((&*row.id, row.key.is_some()), ("entry/m-1", has_key), "{word}");
        assert!(!row.reason.contains("cartId\": 7"), "no payload in a reason: {}", row.reason);
    };
    let keyed = || seed().key("detail.cartId");
    bad(
        keyed(),
        &SEED.replace("\"detailType\": {\"S\": \"CartCreated\"}", "\"detailType\": {\"N\": \"1\"}"),
        "`detailType`",
        true,
    );
    bad(seed(), &SEED.replace("detail\"", "other\""), "`detail`", false);
    bad(seed(), &SEED.replace("{ \\\"cartId\\\": 7 }", "no json"), "`detail` is no JSON", false);
    bad(keyed(), &SEED.replace(": 7", ": [7]"), "`detail.cartId`", false);
    bad(keyed().time("ttl2"), SEED, "`ttl2`", true);
    bad(seed().event_id("other"), SEED, "`other`", false);
}

#[test]
fn an_item_that_expired_is_no_event_and_one_that_changed_only_where_the_mapping_says_so() {
    let change = |kind: &str| {
        let image = if kind == "REMOVE" { String::new() } else { format!(r#", "NewImage": {SEED}"#) };
        let data = format!(r#"{{"SequenceNumber": "7", "Keys": {{"messageId": {{"S": "m-1"}}}}{image}}}"#);
        let by = r#""userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}"#;
        Change::from_json(&format!(r#"{{"eventName": "{kind}", {by}, "dynamodb": {data}}}"#)).unwrap()
    };
    let reads = |mapping: &Mapping, kind: &str| {
        let reader = EntryReader::of(&Tables::mapped("carts", mapping.clone()), "/carts");
        reader.change(&change(kind), "s7/1").map(|record| record.position.to_string())
    };
    let position = Some("0/1795000600/m-1@s7/1".to_owned());
    let changes = seed().takes_changes();
    for (mapping, expected) in [(seed(), [&position, &None, &None]), (changes, [&position, &position, &None])] {
        let found = ["INSERT", "MODIFY", "REMOVE"].map(|kind| reads(&mapping, kind));
        assert_eq!(found.each_ref(), expected);
    }
}

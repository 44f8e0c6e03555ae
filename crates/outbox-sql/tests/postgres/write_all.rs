//! `outbox.write_all`: many events in one call.

use crate::{
    fixture::{Fixture, place},
    reader::events_of,
};

const EVENTS: &str = r#"[
    {"key": "b", "type": "b.1", "data": {"b": 1.50,  "a": 1}, "expected": 0},
    {"type": "none.1"},
    {"key": "a", "type": "a.1", "attributes": {"n": 7}, "id": "mine"},
    {"key": "b", "type": "b.2", "data": null, "content_type": null},
    {"key": null, "type": "none.2", "id": "its own"},
    {"key": "b", "type": "b.3", "data_base64": "/wA=", "content_type": "image/png", "attributes": {"subject": "s"}}
]"#;

#[tokio::test]
async fn events_of_a_key_become_one_entry_and_keys_are_sorted() {
    let fixture = Fixture::new().await;
    for (round, kind) in ["text", "json", "jsonb"].into_iter().enumerate() {
        let events = EVENTS.replace("\"expected\": 0", &format!("\"expected\": {round}"));
        let rows = fixture.rows(&format!("SELECT * FROM outbox.write_all('{events}'::{kind})")).await;
        let number = round + 1;
        let expected = [
            format!(r#"{{"key":"a","sequence":{number},"count":1}}"#),
            format!(r#"{{"key":"b","sequence":{number},"count":3}}"#),
            r#"{"key":null,"sequence":null,"count":1}"#.to_owned(),
            r#"{"key":null,"sequence":null,"count":1}"#.to_owned(),
        ];
        assert_eq!(rows, expected, "{kind}");
    }
    let events = events_of(&fixture.client, "b").await;
    assert_eq!(events.len(), 9);
    assert_eq!(events[0].data().unwrap(), &b"{\"b\": 1.50,  \"a\": 1}"[..], "verbatim");
    assert_eq!(events[1].data().unwrap(), &b"null"[..], "a null that is there is a payload");
    assert_eq!((events[2].data().unwrap(), events[2].content_type()), (&b"\xff\0"[..].into(), Some("image/png")));
    assert_eq!(events[2].subject(), Some("s"));
    assert_eq!(events[3].placing().unwrap().after, outbox::Place { index: 2, ..place(1) });
    assert_eq!(events_of(&fixture.client, "a").await[0].id(), "mine");
    assert_eq!(fixture.number("SELECT count(DISTINCT commit_id) FROM outbox.entries").await, 3, "one a call");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries WHERE event_id IS NULL AND key IS NULL").await, 0);
}

#[tokio::test]
async fn further_events_are_kept_verbatim() {
    let fixture = Fixture::new().await;
    let events =
        r#"[{"key": "k", "type": "t"}, {"key": "k", "type": "t", "data": {"b": [ 1.50, "\u0041" ],  "a": {}}}]"#;
    fixture.sql(&format!("SELECT outbox.write_all('{events}')")).await;
    let read = events_of(&fixture.client, "k").await;
    assert_eq!(read[1].data().unwrap(), &br#"{"b": [ 1.50, "\u0041" ],  "a": {}}"#[..]);
}

#[tokio::test]
async fn what_no_event_may_be_is_refused_with_its_number_and_nothing_is_written() {
    let fixture = Fixture::new().await;
    fixture.sql("UPDATE outbox.meta SET max_event_bytes = 100").await;
    let cases = [
        ("{}", "22023 outbox: `events` must be a JSON array"),
        (r#"[{"type": "t"}, 7]"#, "22023 outbox: `events[1]` must be a JSON object"),
        (r#"[{"type": "t", "typo": 1}]"#, "22023 outbox: `events[0]` has the member `typo`"),
        (r#"[{"type": "t", "type": "t"}]"#, "22023 outbox: `events[0].type` must be given once"),
        (r#"[{"type": 7}]"#, "22023 outbox: `events[0].type` must be given once, as string"),
        (r#"[{"key": "k"}]"#, "22023 outbox: `events[0].type` is missing"),
        (r#"[{"type": "t", "key": ""}]"#, "22023 outbox: `key` must have 1 to 512 bytes"),
        (r#"[{"type": "t"}, {"type": "t\n"}]"#, "22023 outbox: `events[1].type` holds a control character"),
        (r#"[{"type": "t", "attributes": {"id": "x"}}]"#, "22023 outbox: `id` in `attributes` is set by Outbox"),
        (r#"[{"type": "t", "attributes": [1]}]"#, "22023 outbox: `events[0].attributes` must be given once, as object"),
        (r#"[{"type": "t", "expected": 1}]"#, "22023 outbox: `expected` must be the sequence of the key"),
        (
            r#"[{"type": "t", "key": "k", "expected": 1.5}]"#,
            "22023 outbox: `events[0].expected` must be a whole number",
        ),
        (r#"[{"type": "t", "data_base64": "x"}]"#, "22023 outbox: `events[0].data_base64` must be base64"),
        (r#"[{"type": "t", "data_base64": "", "data": 1}]"#, "22023 outbox: `events[0].data_base64` must be base64"),
        (
            r#"[{"key": "k", "type": "t", "expected": 0}, {"key": "k", "type": "t", "expected": 1}]"#,
            "22023 outbox: `expected` differs",
        ),
        (
            r#"[{"key": "j", "type": "t"}, {"key": "k", "type": "t", "expected": 4}]"#,
            "OX001 outbox: conflict: the key is at sequence 0, not 4",
        ),
        (
            r#"[{"type": "t", "data": "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"}]"#,
            "OX002 outbox: too large: `events[0].data`",
        ),
    ];
    for (events, begins) in cases {
        let refusal = fixture.refusal(&format!("SELECT outbox.write_all('{events}')")).await;
        assert!(refusal.starts_with(begins), "{events}: {refusal}");
    }
    let null = fixture.refusal("SELECT outbox.write_all(NULL::json)").await;
    assert!(null.starts_with("22023 outbox: `events` must be a JSON array"), "{null}");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, 0);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.heads").await, 0);
}

#[tokio::test]
async fn an_entry_takes_a_thousand_events() {
    let fixture = Fixture::new().await;
    let call = |count: u32| {
        format!(
            "SELECT sequence FROM outbox.write_all((SELECT json_agg(json_build_object('key', 'k', 'type', 't' || n)) \
            FROM generate_series(1, {count}) AS n))"
        )
    };
    assert!(fixture.refusal(&call(1001)).await.starts_with("54000 outbox: an entry takes 1000 events"));
    assert_eq!(fixture.number(&call(1000)).await, 1);
    assert_eq!(events_of(&fixture.client, "k").await[999].kind(), "t1000");
}

#[tokio::test]
async fn an_entry_takes_16_mib_whatever_its_first_payload_is_written_in() {
    let fixture = Fixture::new().await;
    let call = |first: &str| {
        format!(
            "SELECT sequence FROM outbox.write_all(json_build_array(json_build_object('key', 'k', 'type', 't', {first}), \
            json_build_object('key', 'k', 'type', 't', 'data', repeat('x', 6000000)), \
            json_build_object('key', 'k', 'type', 't', 'data', repeat('x', 6000000))))"
        )
    };
    for first in ["'data', repeat('x', 6000000)", "'data_base64', repeat('AAAA', 2000000)"] {
        let refused = fixture.refusal(&call(first)).await;
        assert!(
            refused.starts_with("54000 outbox: an entry takes 1000 events and 16777216 bytes"),
            "{first}: {refused}"
        );
    }
    assert_eq!(fixture.number(&call("'data_base64', repeat('AAAA', 1000000)")).await, 1);
}

#[tokio::test]
async fn no_events_are_no_entries() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.rows("SELECT * FROM outbox.write_all('[]')").await, Vec::<String>::new());
}

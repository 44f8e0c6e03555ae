//! Rows that a foreign writer filled with what is not an entry.

use outbox::{Content, Undecodable};
use serde_json::Value;

use crate::fixture::{Fixture, events, read};

/// The row between two good ones, spoilt by `set`; the other two are read all the same.
async fn spoilt(set: &str) -> Undecodable {
    let fixture = Fixture::new();
    for key in ["before", "spoilt", "after"] {
        fixture.write(key);
    }
    fixture.sql(&format!("UPDATE outbox_entries SET {set} WHERE id = 2"));
    let page = read(&fixture.store(), "0").await.unwrap();
    assert_eq!(events(&page).iter().map(outbox::Event::id).collect::<Vec<_>>(), ["before@1.1.0", "after@1.1.0"]);
    match &page.records[1].content {
        Content::Undecodable(row) => row.clone(),
        Content::Events(events) => panic!("{set} was read as {events:?}"),
    }
}

#[tokio::test]
async fn an_undecodable_row_is_set_aside_and_the_rest_go_on() {
    let kinds = [
        ("type = NULL", "`type` is NULL"),
        ("type = ''", "`type` is empty"),
        ("type = x'ff00'", "`type` is bytes"),
        ("type = 'a' || char(10) || 'b'", "U+000A"),
        ("type = CAST(x'61ff62' AS TEXT)", "`type` is not UTF-8 from byte 1"),
        ("incarnation = 0", "`incarnation` is not a number from 1"),
        ("incarnation = 5000000000", "`incarnation` is larger than any"),
        ("incarnation = NULL", "`incarnation`"),
        ("sequence = 0", "`sequence` is not a number from 1"),
        ("sequence = -3", "`sequence` is not a number from 1"),
        ("sequence = 'one'", "`sequence` is not a number from 1"),
        ("sequence = NULL", "`sequence` stands without a key"),
        ("sequence = 1.5", "`sequence` is not a number from 1"),
        ("count = 0", "`count` is not a number from 1"),
        ("count = 'x'", "`count` is not a number from 1"),
        ("count = 1001", "`count` is not a number from 1 to 1000"),
        ("count = 2", "`count` is 2, but `more` holds 0"),
        (r#"more = '[{"type":"u"}]'"#, "`count` is 1, but `more` holds 1"),
        ("after = NULL", "`after` is NULL"),
        ("after = 'nowhere'", "`after` `nowhere` is not a place"),
        ("after = '1.1.0'", "`after` is `1.1.0`, which is no place before 1.1.0"),
        ("after = '2.0.0'", "`after` is `2.0.0`"),
        ("after = x'00'", "`after` is bytes"),
        ("commit_id = NULL", "`commit_id` is not 16 bytes"),
        ("commit_id = x'00'", "`commit_id` is not 16 bytes"),
        ("commit_id = '0123456789abcdef'", "`commit_id` is not 16 bytes"),
        ("recorded_at = NULL", "`recorded_at` is not a time"),
        ("recorded_at = '2026-01-01'", "`recorded_at` is not a time"),
        ("recorded_at = 9223372036854775807", "`recorded_at` is not a time"),
        ("event_id = ''", "`id` is empty"),
        ("content_type = ''", "`datacontenttype` is empty"),
        ("data = 42", "`data` is an integer"),
        ("data = 4.5", "`data` is a floating-point number"),
        ("attributes = 'x'", "`attributes` is not a JSON object"),
        ("attributes = '[]'", "`attributes` is not a JSON object"),
        ("attributes = '7'", "`attributes` is not a JSON object"),
        (r#"attributes = '{"Tenant":"a"}'"#, "`Tenant` cannot name an extension"),
        (r#"attributes = '{"tenant":{}}'"#, "`tenant`"),
        (r#"attributes = '{"tenant":null}'"#, "`tenant`"),
        (r#"attributes = '{"tenant":3000000000}'"#, "32-bit"),
        (r#"attributes = '{"partitionkey":"a"}'"#, "`partitionkey` is set by Outbox"),
        (r#"attributes = '{"time":"yesterday"}'"#, "RFC 3339"),
        (r#"attributes = '{"subject":7}'"#, "`subject`"),
        (r#"attributes = '{"dataschema":"not a uri"}'"#, "`dataschema` is not a URI"),
        ("more = 'x'", "`more` is not a JSON array"),
        ("more = '{}'", "`more` is not a JSON array"),
        (r#"count = 2, more = '[{"id":"1"}]'"#, "missing field `type`"),
        (r#"count = 2, more = '[{"type":"u","payload":1}]'"#, "unknown field `payload`"),
        (r#"count = 2, more = '[{"type":"u","data_base64":"*"}]'"#, "`data_base64` is not base64"),
        (r#"count = 2, more = '[{"type":"u","data":1,"data_base64":""}]'"#, "stands beside `data_base64`"),
        (r#"count = 2, more = '[{"type":""}]'"#, "`more` event 1: `type` is empty"),
    ];
    for (set, reason) in kinds {
        let row = spoilt(set).await;
        assert!(row.reason.contains(reason), "{set}: {}", row.reason);
        assert!(row.reason.starts_with("row 2 of outbox_entries: "), "{set}: {}", row.reason);
        assert_eq!(&*row.id, "row/2", "{set}");
        assert_eq!(row.key.as_ref().map(outbox::Key::as_str), Some("spoilt"), "{set}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_read_parks_nothing() {
    for set in ["key = ''", "key = x'ff'", "key = CAST(x'ff' AS TEXT)", "key = 'a' || char(0)"] {
        let row = spoilt(set).await;
        assert_eq!(row.key, None, "{set}");
        assert!(row.reason.contains("`key`"), "{set}: {}", row.reason);
    }
}

#[tokio::test]
async fn a_number_without_a_key_is_rubbish() {
    assert!(spoilt("key = NULL").await.reason.contains("`sequence` stands without a key"));
}

#[tokio::test]
async fn an_undecodable_row_is_shown_as_it_was_found() {
    let row = spoilt("type = CAST(x'61ff62' AS TEXT), commit_id = x'0102', data = 42, content_type = NULL").await;
    let shown: Value = serde_json::from_slice(&row.raw).unwrap();
    assert_eq!(shown["id"], 2);
    assert_eq!(shown["key"], "spoilt");
    assert_eq!(shown["data"], 42);
    assert_eq!(shown["content_type"], Value::Null);
    assert_eq!(shown["type"]["text_base64"], "Yf9i");
    assert_eq!(shown["commit_id"]["blob_base64"], "AQI=");
    assert_eq!(shown.as_object().unwrap().len(), 14);
}

#[tokio::test]
async fn a_full_row_is_read_in_all_its_columns() {
    let fixture = Fixture::new();
    fixture.sql(
        r#"INSERT INTO outbox (key, type, data, content_type, event_id, attributes, more) VALUES
           ('order/1', 'order.placed', x'00ff', 'application/octet-stream', 'mine',
            '{"subject":"s","time":"2026-01-02T03:04:05.000000006Z","dataschema":"/schema","tenant":"a","trial":true,"rank":7}',
            '[{"type":"u","data": {"b" : 1, "a":[ ]}},
              {"type":"v","id":"v-id","content_type":"text/plain","data_base64":"aGk=","attributes":{"subject":"t"}},
              {"type":"w"}, {"type":"x","data":null}]')"#,
    );
    let page = read(&fixture.store(), "0").await.unwrap();
    let events = events(&page);
    let first = &events[0];
    assert_eq!((first.id(), first.content_type()), ("mine", Some("application/octet-stream")));
    assert_eq!(first.data().unwrap().as_ref(), [0, 255]);
    assert_eq!((first.subject(), first.schema()), (Some("s"), Some("/schema")));
    assert_eq!(first.time().unwrap().to_string(), "2026-01-02T03:04:05.000000006Z");
    let extensions: Vec<_> = first.extensions().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(extensions, ["rank=7", "tenant=a", "trial=true"]);
    assert_eq!(events[1].data().unwrap(), r#"{"b" : 1, "a":[ ]}"#, "JSON stays as it was written, to the byte");
    assert_eq!((events[1].id(), events[1].content_type()), ("order/1@1.1.1", None));
    assert_eq!((events[2].id(), events[2].content_type()), ("v-id", Some("text/plain")));
    assert_eq!((events[2].data().unwrap().as_ref(), events[2].subject()), (&b"hi"[..], Some("t")));
    assert_eq!((events[3].data(), events[4].data().unwrap().as_ref()), (None, &b"null"[..]));
}

#[tokio::test]
async fn payloads_that_are_empty_absent_or_no_utf_8_are_read_to_the_byte() {
    let fixture = Fixture::new();
    for data in ["NULL", "''", "x''", "x'ff'", "CAST(x'ff' AS TEXT)"] {
        fixture.sql(&format!(
            "INSERT INTO outbox_entries (key, incarnation, sequence, count, after, commit_id, recorded_at, type, data) \
             VALUES (NULL, 1, NULL, 1, NULL, randomblob(16), 0, 't', {data})"
        ));
    }
    let page = read(&fixture.store(), "0").await.unwrap();
    let payloads: Vec<_> = events(&page).iter().map(|event| event.data().map(|data| data.to_vec())).collect();
    assert_eq!(payloads, [None, Some(vec![]), Some(vec![]), Some(vec![255]), Some(vec![255])]);
}

#[tokio::test]
async fn an_event_without_key_and_id_is_named_by_its_commit() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO outbox (type, data) VALUES ('t', '1')");
    fixture.sql("INSERT INTO outbox (type, data, event_id) VALUES ('t', '1', 'given')");
    let page = read(&fixture.store(), "0").await.unwrap();
    let events = events(&page);
    assert_eq!(events[0].id(), page.records[0].commit.to_string());
    assert_eq!((events[1].id(), events[1].placing()), ("given", None));
}

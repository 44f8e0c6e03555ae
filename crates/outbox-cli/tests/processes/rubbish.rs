//! Rows that a foreign writer filled with whatever it liked, payloads of every size, and a port that is taken.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    rig::{Rig, eventually},
    target::Target,
};

const COLUMNS: &str = "key, incarnation, sequence, count, after, commit_id, recorded_at, type, data, attributes";

/// Rows that a foreign writer puts straight into the table, and a word of the reason for which each is set aside.
const RUBBISH: [(&str, &str); 12] = [
    ("CAST(X'6B65792FFF' AS TEXT), 1, 1, 1, '0.0.0', randomblob(16), 1, 'a', '1', NULL", "key"),
    ("X'6B6579', 1, 1, 1, '0.0.0', randomblob(16), 1, 'a', '1', NULL", "key"),
    ("'', 1, 1, 1, '0.0.0', randomblob(16), 1, 'a', '1', NULL", "key"),
    ("'r4', 'x', 1, 1, '0.0.0', randomblob(16), 1, 'a', '1', NULL", "incarnation"),
    ("'r5', 1, -7, 1, '0.0.0', randomblob(16), 1, 'a', '1', NULL", "sequence"),
    ("'r6', 1, 1, 0, '0.0.0', randomblob(16), 1, 'a', '1', NULL", "count"),
    ("'r7', 1, 1, 1, 'nonsense', randomblob(16), 1, 'a', '1', NULL", "after"),
    ("'r8', 1, 1, 1, '0.0.0', 'short', 1, 'a', '1', NULL", "commit_id"),
    ("'r9', 1, 1, 1, '0.0.0', randomblob(16), 'noon', 'a', '1', NULL", "recorded_at"),
    ("'r10', 1, 1, 1, '0.0.0', randomblob(16), 1, NULL, '1', NULL", "type"),
    ("'r11', 1, 1, 1, '0.0.0', randomblob(16), 1, 'a', 1.5, NULL", "data"),
    ("'r12', 1, 1, 1, '0.0.0', randomblob(16), 1, 'a', '1', '[1'", "attributes"),
];

/// The dead letter of a row.
fn letter_of(letters: &[Value], id: u32) -> &Value {
    let row = format!("row {id} of ");
    letters.iter().find(|letter| letter["reason"].as_str().unwrap().contains(&row)).unwrap()
}

#[test]
fn rows_of_rubbish_become_dead_letters_that_name_the_column_and_the_rest_goes_on() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    let database = rig.database();
    for (number, (row, _)) in (0..).zip(RUBBISH) {
        rig.write([number], 1_000, 1);
        database.execute_batch(&format!("INSERT INTO outbox_entries ({COLUMNS}) VALUES ({row})")).unwrap();
    }
    rig.write(100..200, 10, 10);
    let relay = rig.relay();
    let status = rig.wait_status("the rest is published", |status| {
        status["routes"][0]["backlog"] == 0 && target.count() == RUBBISH.len() + 100
    });
    assert_eq!(status["routes"][0]["dead"], RUBBISH.len());
    let list = rig.json(&["dead-letters", "list"]);
    let letters = list["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), RUBBISH.len());
    // Between two of them is one that is none.
    for (id, (row, column)) in (2..).step_by(2).zip(RUBBISH) {
        let reason = &letter_of(letters, id)["reason"];
        assert!(reason.as_str().unwrap().contains(column), "{row}: {reason}");
    }
    let first = letter_of(letters, 2)["id"].to_string();
    let shown = rig.json(&["dead-letters", "show", "--payload", &first]);
    assert!(shown["dead_letters"][0]["payload"].as_str().unwrap().contains("text_base64"), "{shown}");
    assert_eq!(relay.stop().code, 0);
}

#[test]
fn payloads_of_every_size_arrive_byte_for_byte_and_one_too_large_is_set_aside_by_name() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    let relay = rig.relay();
    rig.write([1], 1, 1);
    rig.wait_published();
    let database = rig.database();
    let limit: i64 = database.query_row("SELECT max_event_bytes FROM outbox_meta", [], |row| row.get(0)).unwrap();
    let limit = usize::try_from(limit).unwrap();
    let insert = |key: &str, data: rusqlite::types::Value| {
        let sql = "INSERT INTO outbox (key, type, data, content_type) VALUES (?1, 'a', ?2, 'text/plain')";
        database.execute(sql, (key, data))
    };
    let largest_text = "x".repeat(limit);
    // Base64 makes bytes a third larger on the wire.
    let large_bytes = vec![0xff_u8; limit];
    insert("null", rusqlite::types::Value::Null).unwrap();
    insert("no-text", String::new().into()).unwrap();
    insert("no-bytes", Vec::<u8>::new().into()).unwrap();
    insert("large-bytes", large_bytes.clone().into()).unwrap();
    let refused = insert("larger", format!("{largest_text}x").into()).unwrap_err().to_string();
    assert!(refused.contains("too large") && refused.contains("max_event_bytes"), "{refused}");
    // Past the check at the write, as no writer should: larger than what the sink takes.
    let row = "('huge', 1, 1, 1, '0.0.0', randomblob(16), 1, 'a', ?1, NULL)";
    database
        .execute(&format!("INSERT INTO outbox_entries ({COLUMNS}) VALUES {row}"), [largest_text.repeat(2)])
        .unwrap();
    rig.write([2], 1, 1);
    let list = eventually("what is too large is set aside", || {
        Some(rig.json(&["dead-letters", "list"])).filter(|list| list["dead_letters"].as_array().unwrap().len() == 1)
    });
    let letter = &list["dead_letters"][0];
    assert_eq!(letter["event"]["key"], "huge");
    assert!(letter["reason"].as_str().unwrap().contains("bytes"), "{letter}");
    rig.wait_status("the rest is published", |status| status["routes"][0]["backlog"] == 0);
    assert_eq!(relay.stop().code, 0);
    let arrived: BTreeMap<_, _> =
        target.arrivals().into_iter().map(|arrival| (arrival.key.unwrap(), arrival.data)).collect();
    assert_eq!(arrived["null"], None);
    assert_eq!(arrived["no-text"].as_deref(), Some(&b""[..]));
    assert_eq!(arrived["no-bytes"].as_deref(), Some(&b""[..]));
    assert!(arrived["large-bytes"].as_deref() == Some(&large_bytes[..]));
    assert!(arrived.contains_key("key/0") && !arrived.contains_key("huge"));
}

#[test]
fn a_second_relay_on_the_same_port_is_refused_before_it_does_anything() {
    let target = Target::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = Rig::new(&format!("[relay]\nfailover = '1s'\nlisten = '{free}'\n{}", target.route("")));
    let first = rig.relay();
    rig.wait_status("the first runs", |status| status["relay"]["epoch"] == 1);
    let second = rig.outbox(&["relay"]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains(&free.to_string()) && second.err.contains("relay.listen"), "{second:?}");
    rig.write(0..10, 10, 10);
    rig.wait_published();
    assert_eq!(rig.books().unwrap().epoch, 1);
    assert_eq!(first.stop().code, 0);
}

//! What a write through the view leaves in the tables, and that the writer leaves the same.

use std::collections::BTreeMap;

use outbox::{
    CommitId, Expected, NewEvent,
    memory::SeededEntropy,
    writer::{counted_bytes, plan},
};
use outbox_sql::sqlite::{
    statement::{self, Parameter, Statement},
    write,
};
use rusqlite::{Connection, params_from_iter, types::Value};

use crate::fixture::{Fixture, event, rows, writer};

fn execute(connection: &Connection, statement: Statement) -> rusqlite::Result<usize> {
    let values = statement.parameters.into_iter().map(|parameter| match parameter {
        Parameter::Null => Value::Null,
        Parameter::Integer(number) => Value::Integer(number),
        Parameter::Text(text) => Value::Text(text),
        Parameter::Blob(bytes) => Value::Blob(bytes),
    });
    connection.execute(statement.sql, params_from_iter(values))
}

#[test]
fn three_columns_suffice() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO outbox (key, type, data) VALUES ('a', 't', '1'); INSERT INTO outbox (key, type, data) VALUES ('a', 't', '2')");
    let numbers =
        fixture.rows("SELECT id, key, incarnation, sequence, count, after, previous_id, data FROM outbox_entries");
    let row = |id, after: &str, previous, data: &str| {
        let text = |text: &str| Value::Text(text.to_owned());
        let number = Value::Integer;
        vec![number(id), text("a"), number(1), number(id), number(1), text(after), previous, text(data)]
    };
    assert_eq!(numbers, [row(1, "0.0.0", Value::Null, "1"), row(2, "1.1.0", Value::Integer(1), "2")]);
    assert_eq!(fixture.number("SELECT count(DISTINCT commit_id) FROM outbox_entries WHERE length(commit_id) = 16"), 2);
    let age = "SELECT strftime('%s', 'now') * 1000 - recorded_at FROM outbox_entries";
    assert!(fixture.number(age).abs() < 60_000);
}

#[test]
fn the_writer_and_the_view_leave_the_same_rows() {
    let (direct, view) = (Fixture::new(), Fixture::new());
    let entropy = SeededEntropy::new(3);
    for events in samples() {
        direct.sql("BEGIN IMMEDIATE");
        let receipts = writer().write_all(&direct.connection, events.clone()).unwrap();
        direct.sql("COMMIT");
        let now = "2026-11-21T09:30:00.250Z".parse().unwrap();
        for entry in plan(events).unwrap() {
            let commit = receipts[0].commit;
            execute(&view.connection, statement::entry(&entry, Expected::Any, commit, now, &entropy).unwrap()).unwrap();
        }
    }
    for table in ["outbox_entries", "outbox_heads"] {
        let everything = format!("SELECT * FROM {table} ORDER BY 1");
        assert_eq!(direct.rows(&everything), view.rows(&everything), "{table}");
    }
    let types =
        "SELECT typeof(data), typeof(attributes), typeof(more), typeof(commit_id) FROM outbox_entries ORDER BY id";
    assert_eq!(direct.rows(types), view.rows(types));
    assert_eq!(direct.number("SELECT count(*) FROM outbox_entries"), 8);
}

fn samples() -> Vec<Vec<NewEvent>> {
    let build = |builder: outbox::event::NewEventBuilder| builder.build().unwrap();
    let full = NewEvent::builder("order.placed")
        .key("order/1 ü")
        .id("mine")
        .subject("s")
        .time("2026-01-02T03:04:05.000000006Z".parse().unwrap())
        .schema("/schema")
        .extension("tenant", "\"quoted\" \\ ü")
        .extension("n", -7)
        .extension("b", false);
    vec![
        vec![event("a")],
        vec![event("a"), event("b"), event("a")],
        vec![build(full.clone().bytes("text/plain", "plain")), build(full.clone().bytes("a/b", vec![0, 255]))],
        vec![build(full.clone().json(&serde_json::json!({ "x": [1.5, null] }))), build(full)],
        vec![build(NewEvent::builder("t").id("given").bytes("application/json", "not json\0"))],
        vec![build(NewEvent::builder("t").key("a")), build(NewEvent::builder("t").key("a").bytes("text/plain", ""))],
        vec![event("a"), build(NewEvent::builder("t").key("a").bytes("application/json", " 1 "))],
    ]
}

#[test]
fn the_statement_is_the_same_text_for_every_entry() {
    let texts: std::collections::BTreeSet<_> = samples()
        .into_iter()
        .flat_map(|events| plan(events).unwrap())
        .map(|entry| {
            let now = "2026-11-21T09:30:00Z".parse().unwrap();
            statement::entry(&entry, Expected::Sequence(1), CommitId([1; 16]), now, &SeededEntropy::new(1)).unwrap().sql
        })
        .collect();
    assert_eq!(texts.len(), 1);
}

#[test]
fn parameters_show_no_payload_in_debug_output() {
    let secret = NewEvent::builder("t").key("k").bytes("text/plain", "secret").build().unwrap();
    let now = "2026-11-21T09:30:00Z".parse().unwrap();
    for entry in plan([secret]).unwrap() {
        let statement =
            statement::entry(&entry, Expected::Any, CommitId([1; 16]), now, &SeededEntropy::new(1)).unwrap();
        assert!(!format!("{statement:?}").contains("secret"));
    }
}

#[test]
fn events_without_a_key_that_share_a_commit_id_get_ids_of_their_own() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO outbox (type, commit_id) VALUES ('t', zeroblob(16)), ('t', zeroblob(16))");
    assert_eq!(fixture.number("SELECT count(DISTINCT event_id) FROM outbox_entries"), 2);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_heads"), 0);
}

#[test]
fn an_id_is_not_given_again_after_everything_was_purged() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    write(&transaction, [event("a"), event("b")]).unwrap();
    transaction.commit().unwrap();
    fixture.sql("DELETE FROM outbox_entries; VACUUM");
    fixture.sql("INSERT INTO outbox (key, type) VALUES ('a', 't')");
    let left = fixture.rows("SELECT id, sequence, after, previous_id FROM outbox_entries");
    let expected = [Value::Integer(3), Value::Integer(2), Value::Text("1.1.0".to_owned()), Value::Integer(1)];
    assert_eq!(left, [expected]);
}

#[test]
fn entries_written_after_a_raised_incarnation_name_their_predecessor_in_the_old_one() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO outbox (key, type) VALUES ('a', 't'); UPDATE outbox_meta SET incarnation = 2");
    fixture.sql("INSERT INTO outbox (key, type) VALUES ('a', 't')");
    fixture.sql("BEGIN");
    writer().write(&fixture.connection, event("a")).unwrap();
    fixture.sql("COMMIT");
    let places =
        rows(&fixture.connection, "SELECT incarnation || '.' || sequence || ' after ' || after FROM outbox_entries");
    let places: Vec<_> = places.into_iter().map(|row| row[0].clone()).collect();
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(places, [text("1.1 after 0.0.0"), text("2.2 after 1.1.0"), text("2.3 after 2.2.0")]);
}

#[test]
fn numbers_run_on_per_key_whoever_writes() {
    let fixture = Fixture::new();
    let mut latest = BTreeMap::new();
    for round in 0..40_u64 {
        let key = format!("k{}", round % 3);
        if round % 2 == 0 {
            fixture.connection.execute("INSERT INTO outbox (key, type) VALUES (?1, 't')", [&key]).unwrap();
        } else {
            fixture.sql("BEGIN");
            writer().write(&fixture.connection, event(&key)).unwrap();
            fixture.sql("COMMIT");
        }
        *latest.entry(key).or_insert(0_i64) += 1;
    }
    for (key, latest) in latest {
        let count = |sql: &str| -> i64 { fixture.connection.query_row(sql, [&key], |row| row.get(0)).unwrap() };
        assert_eq!(count("SELECT sequence FROM outbox_heads WHERE key = ?1"), latest);
        assert_eq!(count("SELECT count(DISTINCT sequence) FROM outbox_entries WHERE key = ?1"), latest);
        assert_eq!(count("SELECT max(sequence) FROM outbox_entries WHERE key = ?1"), latest);
    }
}

#[test]
fn the_view_counts_what_routes_take_as_the_writer_does() {
    let build = |builder: outbox::event::NewEventBuilder| builder.key("k").build().unwrap();
    let full = || NewEvent::builder("t").id("mine").subject("s \"quoted\" \\ ü").schema("/schema").extension("n", -7);
    let events = [
        build(full().time("2026-01-02T03:04:05.000000006Z".parse().unwrap()).extension("b", false).json(&"é\"\u{7}")),
        build(full().extension("tenant", "\\").bytes("a/b", vec![0, 159, 255, 1])),
        build(NewEvent::builder("t").bytes("text/plain", "éé")),
    ];
    let small = || build(NewEvent::builder("t"));
    for event in events {
        let counted = counted_bytes(&event);
        for entry in [vec![event.clone()], vec![small(), event.clone()], vec![small(), small(), event]] {
            for (limit, taken) in [(counted, true), (counted - 1, false)] {
                let mut fixture = Fixture::new();
                fixture.sql(&format!("UPDATE outbox_meta SET max_event_bytes = {limit}"));
                let now = "2026-11-21T09:30:00.250Z".parse().unwrap();
                let entropy = SeededEntropy::new(3);
                let planned = plan(entry.clone()).unwrap();
                let commit = CommitId([7; 16]);
                let statement = statement::entry(&planned[0], Expected::Any, commit, now, &entropy).unwrap();
                let viewed = execute(&fixture.connection, statement);
                assert_eq!(viewed.is_ok(), taken, "{counted}: {viewed:?}");
                if let Err(error) = viewed {
                    assert!(error.to_string().starts_with("outbox: too large"), "{error}");
                }
                let transaction = fixture.connection.transaction().unwrap();
                assert_eq!(write(&transaction, entry.clone()).is_ok(), taken, "{counted}");
            }
        }
    }
}

#[test]
fn white_space_in_a_further_event_counts_for_it_is_published_too() {
    let fixture = Fixture::new();
    fixture.sql("UPDATE outbox_meta SET max_event_bytes = 100");
    let wide = format!("[{}]", " ".repeat(98));
    let insert = |data: &str| {
        let more = format!(r#"[{{"type":"t","data":{data}}}]"#);
        fixture.connection.execute("INSERT INTO outbox (key, type, more) VALUES ('k', 't', ?1)", [more])
    };
    insert(&wide).unwrap();
    let error = insert(&format!(" {wide}")).unwrap_err().to_string();
    assert!(error.starts_with("outbox: too large"), "{error}");
}

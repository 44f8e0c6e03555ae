//! The writer for `rusqlite`: what it writes, what it gives back, and what it refuses.

use outbox::{NewEvent, WriteError, event::MAX_KEY_BYTES};
use outbox_sql::sqlite::{MAX_ATTRIBUTES_BYTES, Writer, write};
use rusqlite::TransactionBehavior;

use crate::fixture::{Fixture, event, key, keyless, place, writer};

#[test]
fn receipts_name_key_place_and_count_keys_first() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    let receipts = write(&transaction, [event("b"), keyless(), event("a"), event("b"), keyless()]).unwrap();
    transaction.commit().unwrap();
    let shape: Vec<_> = receipts.iter().map(|receipt| (receipt.key.clone(), receipt.first, receipt.count)).collect();
    let expected =
        [(Some(key("a")), Some(place(1)), 1), (Some(key("b")), Some(place(1)), 2), (None, None, 1), (None, None, 1)];
    assert_eq!(shape, expected);
    assert!(receipts.iter().all(|receipt| receipt.commit == receipts[0].commit));
}

#[test]
fn several_writes_of_a_key_in_one_transaction_are_numbered_on() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    for sequence in 1..=3 {
        let receipts = write(&transaction, [event("a"), event("a")]).unwrap();
        assert_eq!(receipts[0].first, Some(place(sequence)));
    }
    transaction.commit().unwrap();
    let after = fixture.rows("SELECT group_concat(after, ' ') FROM outbox_entries");
    assert_eq!(after, [[rusqlite::types::Value::Text("0.0.0 1.1.1 1.2.1".to_owned())]]);
}

#[test]
fn nothing_to_write_is_no_error() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    assert_eq!(write(&transaction, []).unwrap(), []);
}

#[test]
fn what_is_rolled_back_leaves_no_head() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    write(&transaction, [event("a")]).unwrap();
    transaction.rollback().unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_heads"), 0);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 0);
}

#[test]
fn a_savepoint_takes_its_events_back_and_leaves_the_others() {
    let mut fixture = Fixture::new();
    let mut transaction = fixture.connection.transaction().unwrap();
    writer().write(&transaction, event("a")).unwrap();
    let mut savepoint = transaction.savepoint().unwrap();
    assert_eq!(writer().write(&savepoint, event("a")).unwrap().first, Some(place(2)));
    savepoint.rollback().unwrap();
    drop(savepoint);
    assert_eq!(writer().write(&transaction, event("a")).unwrap().first, Some(place(2)));
    transaction.commit().unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 2);
}

#[test]
fn a_connection_in_no_transaction_is_refused() {
    let fixture = Fixture::new();
    let error = Writer::new().write(&fixture.connection, event("a")).unwrap_err();
    assert!(error.to_string().contains("no transaction: begin one"), "{error}");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 0);
}

#[test]
fn a_stale_version_is_a_conflict_and_the_current_one_goes_through() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    write(&transaction, [event("a")]).unwrap();
    let error = writer().expecting(key("a"), 0).write(&transaction, event("a")).unwrap_err();
    assert!(
        matches!(&error, WriteError::Conflict { key: named, expected: 0, actual: 1 } if *named == key("a")),
        "{error}"
    );
    let receipt = writer().expecting(key("a"), 1).write(&transaction, event("a")).unwrap();
    assert_eq!(receipt.first, Some(place(2)));
    transaction.commit().unwrap();
}

#[test]
fn an_expected_version_holds_for_a_key_that_is_not_written() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    let error = writer().expecting(key("read"), 3).write(&transaction, event("written")).unwrap_err();
    assert!(matches!(error, WriteError::Conflict { expected: 3, actual: 0, .. }), "{error}");
    writer().expecting(key("read"), 0).write(&transaction, event("written")).unwrap();
}

#[test]
fn a_refusal_of_one_event_leaves_none_of_its_call_and_all_of_the_calls_before() {
    let mut fixture = Fixture::new();
    fixture.sql("UPDATE outbox_meta SET max_event_bytes = 100");
    let large = NewEvent::builder("t").key("z").bytes("text/plain", "x".repeat(101)).build().unwrap();
    let transaction = fixture.connection.transaction().unwrap();
    write(&transaction, [event("a")]).unwrap();
    let error = write(&transaction, [event("a"), event("b"), keyless(), large]).unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { index: 3, bytes: 101, limit: 100 }), "{error}");
    let stale = writer().expecting(key("b"), 9).write_all(&transaction, [event("a"), event("b")]);
    assert!(matches!(stale, Err(WriteError::Conflict { .. })));
    transaction.commit().unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 1);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_heads"), 1);
}

#[test]
fn the_largest_payload_is_taken_and_one_byte_more_is_not() {
    let mut fixture = Fixture::new();
    fixture.sql("UPDATE outbox_meta SET max_event_bytes = 1000");
    let sized = |bytes| NewEvent::builder("t").key("k").bytes("a/b", vec![0; bytes]).build().unwrap();
    let transaction = fixture.connection.transaction().unwrap();
    write(&transaction, [sized(1000), sized(1000)]).unwrap();
    let error = write(&transaction, [sized(0), sized(1001)]).unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { index: 1, bytes: 1001, limit: 1000 }), "{error}");
}

#[test]
fn more_attributes_than_a_row_takes_are_refused() {
    let mut fixture = Fixture::new();
    let many = (0..100).fold(NewEvent::builder("t").key("k"), |builder, number| {
        builder.extension(format!("name{number}"), "v".repeat(1000))
    });
    let transaction = fixture.connection.transaction().unwrap();
    let error = write(&transaction, [event("k"), many.build().unwrap()]).unwrap_err();
    let WriteError::Attribute { index: 1, error } = error else { panic!("{error}") };
    assert!(error.to_string().contains("`attributes`"), "{error}");
    assert!(error.to_string().contains(&MAX_ATTRIBUTES_BYTES.to_string()), "{error}");
}

#[test]
fn the_longest_key_is_written_and_named_in_its_derived_id() {
    let mut fixture = Fixture::new();
    let longest = "k".repeat(MAX_KEY_BYTES);
    let transaction = fixture.connection.transaction().unwrap();
    let receipts = write(&transaction, [event(&longest)]).unwrap();
    assert_eq!(receipts[0].key.as_ref().unwrap().as_str(), longest);
}

#[test]
fn an_event_without_key_and_id_gets_a_time_ordered_id() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    writer().write_all(&transaction, [keyless(), keyless()]).unwrap();
    transaction.commit().unwrap();
    let distinct = "SELECT count(DISTINCT event_id) FROM outbox_entries WHERE event_id GLOB '????????-????-7???-????-????????????'";
    assert_eq!(fixture.number(distinct), 2);
}

#[test]
fn the_same_clock_and_entropy_write_the_same_rows() {
    let written = || {
        let mut fixture = Fixture::new();
        let transaction = fixture.connection.transaction().unwrap();
        writer().write_all(&transaction, [event("a"), keyless()]).unwrap();
        transaction.commit().unwrap();
        fixture.rows("SELECT * FROM outbox_entries")
    };
    assert_eq!(written(), written());
}

#[test]
fn missing_tables_are_named_with_the_remedy() {
    let mut connection = rusqlite::Connection::open_in_memory().unwrap();
    let transaction = connection.transaction().unwrap();
    let error = write(&transaction, [event("a")]).unwrap_err();
    assert!(matches!(&error, WriteError::Incompatible(text) if text.contains("outbox init")), "{error}");
}

#[test]
fn a_database_without_identity_is_named_with_the_remedy() {
    let mut fixture = Fixture::new();
    fixture.sql("DELETE FROM outbox_meta");
    let transaction = fixture.connection.transaction().unwrap();
    let error = write(&transaction, [event("a")]).unwrap_err();
    assert!(matches!(&error, WriteError::Incompatible(text) if text.contains("outbox init")), "{error}");
}

#[test]
fn a_full_database_is_an_error_and_leaves_no_event() {
    let mut fixture = Fixture::new();
    let pages = fixture.number("PRAGMA page_count");
    fixture.connection.pragma_update(None, "max_page_count", pages).unwrap();
    let transaction = fixture.connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let large = NewEvent::builder("t").key("k").bytes("a/b", vec![0; 100_000]).build().unwrap();
    let error = write(&transaction, [event("a"), large]).unwrap_err();
    assert!(matches!(&error, WriteError::Store { message, .. } if message.contains("full")), "{error}");
    drop(transaction);
    assert!(fixture.connection.is_autocommit());
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_entries"), 0);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox_heads"), 0);
}

#[test]
fn a_read_only_database_is_an_error_with_the_remedy() {
    let fixture = Fixture::new();
    let mut read_only =
        rusqlite::Connection::open_with_flags(fixture.path(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let transaction = read_only.transaction().unwrap();
    let error = write(&transaction, [event("a")]).unwrap_err();
    assert!(matches!(&error, WriteError::Store { message, .. } if message.contains("right to write")), "{error}");
}

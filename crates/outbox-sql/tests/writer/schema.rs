//! Making the tables, and telling whether they are there.

use outbox::{ErrorKind, memory::SeededEntropy};
use outbox_sql::sqlite::{
    InitOptions, check, init,
    schema::{DEFAULT_MAX_EVENT_BYTES, sql},
};
use rusqlite::Connection;

use crate::fixture::Fixture;

fn empty() -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let connection = Connection::open(directory.path().join("orders.db")).unwrap();
    (directory, connection)
}

#[test]
fn initialising_twice_changes_nothing() {
    let (_directory, connection) = empty();
    let first = init(&connection, &InitOptions::new("/orders")).unwrap();
    let second = init(&connection, &InitOptions::new("/orders")).unwrap();
    assert_eq!(first, second);
    assert_eq!(check(&connection).unwrap(), first);
    assert_eq!((first.layout, first.incarnation, first.producer.as_str()), (1, 1, "/orders"));
    assert_eq!(first.max_event_bytes, DEFAULT_MAX_EVENT_BYTES.unsigned_abs());
}

#[test]
fn the_stores_id_comes_from_the_entropy_that_was_given() {
    let id = |seed| {
        let (_directory, connection) = empty();
        let options = InitOptions::new("/orders").entropy(std::sync::Arc::new(SeededEntropy::new(seed)));
        init(&connection, &options).unwrap().store_id
    };
    assert_eq!(id(1), id(1));
    assert_ne!(id(1), id(2));
}

#[test]
fn tables_made_by_a_teams_own_migration_get_their_identity_from_init() {
    let (_directory, connection) = empty();
    connection.execute_batch(sql()).unwrap();
    connection.execute_batch(sql()).unwrap();
    assert_eq!(check(&connection).unwrap_err().kind(), ErrorKind::Incompatible);
    let error = connection.execute("INSERT INTO outbox (key, type) VALUES ('a', 't')", []).unwrap_err();
    assert!(error.to_string().contains("run `outbox init`"), "{error}");
    init(&connection, &InitOptions::new("/orders")).unwrap();
    check(&connection).unwrap();
    connection.execute("INSERT INTO outbox (key, type) VALUES ('a', 't')", []).unwrap();
}

#[test]
fn missing_tables_are_incompatible_and_the_remedy_is_named() {
    let (_directory, connection) = empty();
    let error = check(&connection).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("run `outbox init`"), "{error}");
}

#[test]
fn a_database_from_a_newer_version_is_refused_and_left_alone() {
    let fixture = Fixture::new();
    fixture.sql("UPDATE outbox_meta SET layout = 2; DROP VIEW outbox");
    for refused in [check(&fixture.connection), init(&fixture.connection, &InitOptions::new("/orders"))] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("layout 2") && error.to_string().contains("upgrade"), "{error}");
    }
    assert_eq!(fixture.number("SELECT count(*) FROM sqlite_master WHERE name = 'outbox'"), 0);
}

#[test]
fn a_layout_that_never_existed_is_refused() {
    let fixture = Fixture::new();
    fixture.sql("UPDATE outbox_meta SET layout = 0");
    assert_eq!(check(&fixture.connection).unwrap_err().kind(), ErrorKind::Incompatible);
}

#[test]
fn another_journal_mode_than_wal_is_refused_and_init_sets_it() {
    let fixture = Fixture::new();
    fixture.sql("PRAGMA journal_mode = DELETE");
    let error = check(&fixture.connection).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("`delete`") && error.to_string().contains("journal_mode = WAL"), "{error}");
    init(&fixture.connection, &InitOptions::new("/orders")).unwrap();
    check(&fixture.connection).unwrap();
}

#[test]
fn a_database_that_cannot_have_a_wal_is_refused() {
    let connection = Connection::open_in_memory().unwrap();
    let error = init(&connection, &InitOptions::new("/orders")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[test]
fn a_database_in_utf_16_is_refused() {
    let (_directory, connection) = empty();
    connection.pragma_update(None, "encoding", "UTF-16").unwrap();
    let error = init(&connection, &InitOptions::new("/orders")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("UTF-16"), "{error}");
}

#[test]
fn a_producer_that_is_no_uri_reference_is_refused() {
    let (_directory, connection) = empty();
    for producer in ["", "two words", "a\nb"] {
        let error = init(&connection, &InitOptions::new(producer)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{producer}");
        assert!(error.to_string().contains("producer"), "{error}");
    }
}

#[test]
fn another_producers_database_is_refused() {
    let fixture = Fixture::new();
    let error = init(&fixture.connection, &InitOptions::new("/billing")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("/orders") && error.to_string().contains("/billing"), "{error}");
}

#[test]
fn init_within_a_transaction_is_refused() {
    let (_directory, mut connection) = empty();
    let transaction = connection.transaction().unwrap();
    let error = init(&transaction, &InitOptions::new("/orders")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_read_only_database_can_be_checked_and_not_initialised() {
    let fixture = Fixture::new();
    let read_only = Connection::open_with_flags(fixture.path(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    check(&read_only).unwrap();
    let error = init(&read_only, &InitOptions::new("/orders")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
}

#[test]
fn a_file_that_is_no_database_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = init(&Connection::open(path).unwrap(), &InitOptions::new("/orders")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
}

#[test]
fn a_locked_database_can_be_tried_again() {
    let fixture = Fixture::new();
    let other = fixture.connect(std::time::Duration::ZERO);
    fixture.sql("BEGIN IMMEDIATE");
    let error = init(&other, &InitOptions::new("/orders")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.kind().retry());
}

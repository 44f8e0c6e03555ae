//! An older copy, another database, or none, in the place of the one that was read.

use outbox::{BusinessStore, ErrorKind, store::Witness};
use outbox_sql::sqlite::{SqliteStore, StoreOptions};
use rusqlite::Connection;

use crate::fixture::{Fixture, positions, read, write};

#[tokio::test]
async fn an_older_copy_swapped_in_while_running_is_noticed() {
    let mut fixture = Fixture::new();
    let store = fixture.store();
    fixture.write_many(2, 5);
    let copy = fixture.back_up();
    fixture.write_many(2, 3);
    assert_eq!(read(&store, "0").await.unwrap().next.as_str(), "8");
    fixture.put_in_place(&copy);
    let error = read(&store, "8").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryChanged, "{error}");
    assert!(error.to_string().contains("outbox adopt"), "{error}");
    assert!(error.to_string().contains("last entry is 5"), "{error}");
}

#[tokio::test]
async fn an_older_copy_that_was_written_to_since_is_noticed_by_its_commits() {
    let mut fixture = Fixture::new();
    let store = fixture.store();
    fixture.write_many(2, 5);
    let copy = fixture.back_up();
    fixture.write_many(2, 3);
    read(&store, "0").await.unwrap();
    fixture.put_in_place(&copy);
    fixture.write_many(2, 20);
    for after in ["8", "3", "0"] {
        let error = read(&store, after).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HistoryChanged, "{after}: {error}");
        assert!(error.to_string().contains("another entry 8"), "{after}: {error}");
    }
}

#[tokio::test]
async fn an_older_copy_restored_into_the_open_file_is_noticed() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fixture.write_many(2, 5);
    let copy = fixture.back_up();
    fixture.write_many(2, 3);
    read(&store, "0").await.unwrap();
    // What `.restore` of the sqlite3 shell does: the same file, other contents, in one transaction.
    fixture.writer.execute("ATTACH ?1 AS copy", [copy.to_str().unwrap()]).unwrap();
    fixture.sql(
        "BEGIN; DELETE FROM outbox_entries; INSERT INTO outbox_entries SELECT * FROM copy.outbox_entries; \
         UPDATE sqlite_sequence SET seq = 5; COMMIT",
    );
    assert_eq!(read(&store, "8").await.unwrap_err().kind(), ErrorKind::HistoryChanged);
}

#[tokio::test]
async fn an_older_copy_put_in_place_while_stopped_is_noticed_by_the_witnesses() {
    let mut fixture = Fixture::new();
    fixture.write_many(2, 5);
    let copy = fixture.back_up();
    fixture.write_many(2, 3);
    let last = read(&fixture.store(), "7").await.unwrap().records[0].clone();
    fixture.put_in_place(&copy);
    fixture.write_many(2, 10);
    let store = fixture.store();
    let witness = Witness { position: last.position.clone(), commit: last.commit };
    let agreement = store.agreement(&[witness]).await.unwrap();
    assert!(matches!(agreement, outbox::store::Agreement::Lost { agreed: None, .. }), "{agreement:?}");
}

#[tokio::test]
async fn witnesses_that_agree_guard_the_reads_that_follow() {
    let mut fixture = Fixture::new();
    fixture.write_many(2, 5);
    let copy = fixture.back_up();
    fixture.write_many(2, 3);
    let last = read(&fixture.store(), "7").await.unwrap().records[0].clone();
    let store = fixture.store();
    store.agreement(&[Witness { position: last.position.clone(), commit: last.commit }]).await.unwrap();
    fixture.put_in_place(&copy);
    fixture.write_many(2, 10);
    assert_eq!(read(&store, "2").await.unwrap_err().kind(), ErrorKind::HistoryChanged);
}

#[tokio::test]
async fn the_same_history_in_another_file_is_read_on() {
    let mut fixture = Fixture::new();
    let store = fixture.store();
    fixture.write_many(2, 5);
    read(&store, "0").await.unwrap();
    let copy = fixture.back_up();
    fixture.put_in_place(&copy);
    fixture.write("a");
    assert_eq!(positions(&read(&store, "5").await.unwrap()), ["6"]);
}

#[tokio::test]
async fn a_missing_file_is_an_error_that_says_so() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fixture.write("a");
    read(&store, "0").await.unwrap();
    std::fs::rename(&fixture.path, fixture.directory.path().join("away.db")).unwrap();
    let error = read(&store, "1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryChanged);
    assert!(error.to_string().contains("is gone: put it back"), "{error}");
    assert!(!fixture.path.exists(), "nothing is created in its place");
}

#[tokio::test]
async fn another_store_in_its_place_is_noticed() {
    let mut fixture = Fixture::new();
    let store = fixture.store();
    let other = fixture.directory.path().join("other.db");
    write(&Fixture::make(&other), "a");
    fixture.put_in_place(&other);
    let error = read(&store, "0").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryChanged);
    assert!(error.to_string().contains("holds another store now"), "{error}");
}

#[tokio::test]
async fn a_file_without_tables_in_its_place_is_noticed() {
    let mut fixture = Fixture::new();
    let store = fixture.store();
    let other = fixture.directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    fixture.put_in_place(&other);
    let error = read(&store, "0").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryChanged, "{error}");
}

#[tokio::test]
async fn a_position_that_was_never_given_is_of_another_history() {
    let fixture = Fixture::new();
    fixture.write("a");
    let error = read(&fixture.store(), "450").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryChanged);
    assert!(error.to_string().contains("does not hold entry 450"), "{error}");
    let empty = Fixture::new();
    let error = read(&empty.store(), "1").await.unwrap_err();
    assert!(error.to_string().contains("never had an entry"), "{error}");
}

#[tokio::test]
async fn an_entry_deleted_by_hand_under_a_route_is_noticed() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fixture.write_many(1, 5);
    read(&store, "0").await.unwrap();
    fixture.sql("DELETE FROM outbox_entries WHERE id = 3");
    let error = read(&store, "3").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryChanged);
    assert!(error.to_string().contains("deleted by hand"), "{error}");
}

#[test]
fn opening_says_what_is_wrong_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let kind_and_text = |path: &std::path::Path| {
        let error = SqliteStore::open(path, StoreOptions::default()).err().unwrap();
        (error.kind(), error.to_string())
    };
    let missing = directory.path().join("missing.db");
    let (kind, text) = kind_and_text(&missing);
    assert!(kind == ErrorKind::HistoryChanged && text.contains("missing.db` is gone"), "{text}");
    assert!(!missing.exists());

    let garbage = directory.path().join("garbage.db");
    std::fs::write(&garbage, "this is no database, but a text that is longer than a header".repeat(20)).unwrap();
    let (kind, text) = kind_and_text(&garbage);
    assert!(kind == ErrorKind::Incompatible && text.contains("not a database"), "{text}");

    let bare = directory.path().join("bare.db");
    Connection::open(&bare).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let (kind, text) = kind_and_text(&bare);
    assert!(kind == ErrorKind::Incompatible && text.contains("outbox init"), "{text}");

    let newer = directory.path().join("newer.db");
    Fixture::make(&newer).execute_batch("UPDATE outbox_meta SET layout = 99").unwrap();
    let (kind, text) = kind_and_text(&newer);
    assert!(kind == ErrorKind::Incompatible && text.contains("layout 99") && text.contains("upgrade"), "{text}");
}

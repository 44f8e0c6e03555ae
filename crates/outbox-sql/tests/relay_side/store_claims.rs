//! Which bookkeeping reads a database.

use std::time::Duration;

use outbox::{BusinessStore, ErrorKind, store::Claim};
use outbox_sql::sqlite::{SqliteStore, StoreOptions};

use crate::fixture::{Fixture, read};

fn claim(bookkeeping: &str, epoch: u64, nonce: &str) -> Claim {
    Claim { bookkeeping: bookkeeping.to_owned(), epoch, nonce: nonce.to_owned() }
}

#[tokio::test]
async fn a_database_that_nobody_reads_can_be_claimed() {
    let (_fixture, store) = Fixture::new_store();
    assert_eq!(store.identity().await.unwrap().claim, None);
    assert!(store.claim(&claim("books", 1, "n1"), None).await.unwrap());
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.bookkeeping(), Some("books"));
    assert_eq!((identity.incarnation, identity.producer.as_str()), (1, "/orders"));
}

#[tokio::test]
async fn reads_for_an_older_claim_fail_once_another_has_taken_over() {
    let (fixture, store) = Fixture::new_store();
    fixture.write("a");
    assert!(store.claim(&claim("books", 1, "n1"), None).await.unwrap());
    read(&store, "0").await.unwrap();
    let standby = fixture.store();
    assert!(standby.claim(&claim("books", 2, "n2"), Some(&claim("books", 1, "n1"))).await.unwrap());
    let error = read(&store, "0").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("another relay took over"), "{error}");
    read(&standby, "0").await.unwrap();
}

#[tokio::test]
async fn a_disowned_database_can_be_claimed_by_another_bookkeeping() {
    let (fixture, store) = Fixture::new_store();
    assert!(store.claim(&claim("books", 7, "n1"), None).await.unwrap());
    let operator = fixture.store();
    operator.disown().await.unwrap();
    assert_eq!(read(&store, "0").await.unwrap_err().kind(), ErrorKind::Ownership);
    assert!(operator.claim(&claim("others", 1, "n2"), None).await.unwrap());
}

#[tokio::test]
async fn an_older_copy_with_an_older_claim_is_known_as_such() {
    let (mut fixture, store) = Fixture::new_store();
    assert!(store.claim(&claim("books", 1, "n1"), None).await.unwrap());
    let copy = fixture.back_up();
    assert!(store.claim(&claim("books", 2, "n2"), Some(&claim("books", 1, "n1"))).await.unwrap());
    fixture.put_in_place(&copy);
    let error = read(&store, "0").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryChanged, "{error}");
}

#[tokio::test]
async fn a_locked_database_is_unavailable_for_now() {
    let fixture = Fixture::new();
    let impatient = StoreOptions { busy: Duration::from_millis(10), ..StoreOptions::default() };
    let store = SqliteStore::open(&fixture.path, impatient).unwrap();
    fixture.sql("BEGIN IMMEDIATE");
    let error = store.claim(&claim("books", 1, "n1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.kind().retry() && error.to_string().contains("claiming the database"), "{error}");
    read(&store, "0").await.expect("reading waits for no writer");
    fixture.sql("COMMIT");
    assert!(store.claim(&claim("books", 1, "n1"), None).await.unwrap());
}

//! What became of a commit whose answer was lost.

use outbox::{ErrorKind, Receipt, writer::Settled};
use outbox_sql::sqlite::{Writer, settle, write};

use crate::fixture::{Fixture, event, keyless};

fn committed(fixture: &mut Fixture, key: &str) -> Receipt {
    let transaction = fixture.connection.transaction().unwrap();
    let receipt = Writer::new().write(&transaction, event(key)).unwrap();
    transaction.commit().unwrap();
    receipt
}

fn rolled_back(fixture: &mut Fixture, key: &str) -> Receipt {
    let transaction = fixture.connection.transaction().unwrap();
    Writer::new().write(&transaction, event(key)).unwrap()
}

#[test]
fn a_commit_is_found_however_many_came_after_it() {
    let mut fixture = Fixture::new();
    let receipt = committed(&mut fixture, "a");
    assert_eq!(settle(&fixture.connection, &receipt).unwrap(), Settled::Committed);
    for _ in 0..300 {
        committed(&mut fixture, "a");
        committed(&mut fixture, "b");
    }
    assert_eq!(settle(&fixture.connection, &receipt).unwrap(), Settled::Committed);
}

#[test]
fn what_was_rolled_back_is_not_committed_whether_or_not_its_number_was_given_again() {
    let mut fixture = Fixture::new();
    let first = rolled_back(&mut fixture, "a");
    assert_eq!(settle(&fixture.connection, &first).unwrap(), Settled::NotCommitted);
    committed(&mut fixture, "a");
    assert_eq!(settle(&fixture.connection, &first).unwrap(), Settled::NotCommitted);
    let second = rolled_back(&mut fixture, "a");
    assert_eq!(settle(&fixture.connection, &second).unwrap(), Settled::NotCommitted);
    committed(&mut fixture, "a");
    committed(&mut fixture, "a");
    assert_eq!(settle(&fixture.connection, &second).unwrap(), Settled::NotCommitted);
}

#[test]
fn what_was_purged_cannot_be_told() {
    let mut fixture = Fixture::new();
    let receipt = committed(&mut fixture, "a");
    committed(&mut fixture, "a");
    fixture.sql("DELETE FROM outbox_entries WHERE id = 1");
    assert_eq!(settle(&fixture.connection, &receipt).unwrap(), Settled::Unknown);
    let later = rolled_back(&mut fixture, "a");
    assert_eq!(settle(&fixture.connection, &later).unwrap(), Settled::NotCommitted);
}

#[test]
fn an_event_without_a_key_is_found_among_the_newest_entries() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    let receipts = write(&transaction, [keyless()]).unwrap();
    transaction.commit().unwrap();
    committed(&mut fixture, "a");
    assert_eq!(settle(&fixture.connection, &receipts[0]).unwrap(), Settled::Committed);
    let transaction = fixture.connection.transaction().unwrap();
    let lost = write(&transaction, [keyless()]).unwrap();
    drop(transaction);
    assert_eq!(settle(&fixture.connection, &lost[0]).unwrap(), Settled::Unknown);
}

#[test]
fn settling_within_the_transaction_that_wrote_is_refused() {
    let mut fixture = Fixture::new();
    let transaction = fixture.connection.transaction().unwrap();
    let receipts = write(&transaction, [event("a")]).unwrap();
    assert_eq!(settle(&transaction, &receipts[0]).unwrap_err().kind(), ErrorKind::Invalid);
}

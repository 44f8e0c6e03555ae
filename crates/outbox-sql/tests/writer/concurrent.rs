//! Several connections at once.

use std::time::Duration;

use outbox::{NewEvent, WriteError};
use outbox_sql::sqlite::{Writer, write};
use rusqlite::{Connection, TransactionBehavior};

use crate::fixture::{Fixture, event, key, place};

#[test]
fn of_two_writers_who_read_the_same_version_one_is_told() {
    let fixture = Fixture::new();
    let [mut one, mut other] = [(); 2].map(|()| fixture.connect(Duration::from_secs(10)));
    // Both have read that the key has no entry; then they write.
    let transaction = one.transaction().unwrap();
    Writer::new().expecting(key("a"), 0).write(&transaction, event("a")).unwrap();
    transaction.commit().unwrap();
    let transaction = other.transaction().unwrap();
    let error = Writer::new().expecting(key("a"), 0).write(&transaction, event("a")).unwrap_err();
    assert!(matches!(error, WriteError::Conflict { expected: 0, actual: 1, .. }), "{error}");
    drop(transaction);
    let transaction = other.transaction().unwrap();
    Writer::new().expecting(key("a"), 1).write(&transaction, event("a")).unwrap();
    transaction.commit().unwrap();
    assert_eq!(fixture.number("SELECT sequence FROM outbox_heads"), 2);
}

#[test]
fn a_transaction_that_read_before_another_committed_is_to_be_run_again() {
    let fixture = Fixture::new();
    let [mut reader, mut other] = [(); 2].map(|()| fixture.connect(Duration::from_secs(10)));
    let stale = reader.transaction().unwrap();
    stale.query_row("SELECT count(*) FROM outbox_heads", [], |_| Ok(())).unwrap();
    let transaction = other.transaction().unwrap();
    write(&transaction, [event("a")]).unwrap();
    transaction.commit().unwrap();
    let error = write(&stale, [event("a")]).unwrap_err();
    assert!(matches!(error, WriteError::RetryTransaction { .. }), "{error}");
    stale.rollback().unwrap();
    let again = reader.transaction().unwrap();
    assert_eq!(write(&again, [event("a")]).unwrap()[0].first, Some(place(2)));
    again.commit().unwrap();
}

#[test]
fn a_lock_held_for_longer_than_the_busy_timeout_is_to_be_run_again() {
    let fixture = Fixture::new();
    let mut impatient = fixture.connect(Duration::ZERO);
    fixture.sql("BEGIN IMMEDIATE");
    let transaction = impatient.transaction().unwrap();
    let error = write(&transaction, [event("a")]).unwrap_err();
    assert!(matches!(error, WriteError::RetryTransaction { .. }), "{error}");
}

#[test]
fn a_deferred_transaction_that_begins_with_a_write_waits_for_its_turn() {
    let fixture = Fixture::new();
    let mut waiting = fixture.connect(Duration::from_secs(30));
    let mut holding = fixture.connect(Duration::from_secs(30));
    let held = holding.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    write(&held, [event("a")]).unwrap();
    std::thread::scope(|scope| {
        let written = scope.spawn(|| {
            let transaction = waiting.transaction().unwrap();
            let receipts = write(&transaction, [event("a")]).unwrap();
            transaction.commit().unwrap();
            receipts[0].first
        });
        // The other thread waits for the lock from now on, or comes later: it has to get number 2 either way.
        std::thread::yield_now();
        held.commit().unwrap();
        assert_eq!(written.join().unwrap(), Some(place(2)));
    });
}

#[test]
fn concurrent_writers_that_roll_back_now_and_then_leave_no_gap() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 60;
    let fixture = Fixture::new();
    let connections: Vec<_> = (0..WRITERS).map(|_| fixture.connect(Duration::from_secs(60))).collect();
    let committed: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(number, mut connection)| {
                scope.spawn(move || (0..ROUNDS).filter(|round| transact(&mut connection, number, *round)).count())
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert!(committed > WRITERS && committed < WRITERS * ROUNDS);
    let committed = i64::try_from(committed).unwrap();
    assert_eq!(fixture.number("SELECT sequence FROM outbox_heads WHERE key = 'shared'"), committed);
    assert_eq!(fixture.number("SELECT count(DISTINCT sequence) FROM outbox_entries WHERE key = 'shared'"), committed);
    let broken = "SELECT count(*) FROM outbox_entries AS entry JOIN outbox_entries AS before ON before.id = entry.previous_id \
         WHERE before.key IS NOT entry.key OR before.sequence <> entry.sequence - 1 \
         OR entry.after <> before.incarnation || '.' || before.sequence || '.' || (before.count - 1)";
    assert_eq!(fixture.number(broken), 0);
    let unlinked = "SELECT count(*) FROM outbox_entries WHERE (previous_id IS NULL) <> (sequence = 1)";
    assert_eq!(fixture.number(unlinked), 0);
}

/// Writes to a shared key and one of its own; every third transaction is rolled back. Whether it was committed.
fn transact(connection: &mut Connection, number: usize, round: usize) -> bool {
    let behavior = if round.is_multiple_of(2) { TransactionBehavior::Deferred } else { TransactionBehavior::Immediate };
    let transaction = connection.transaction_with_behavior(behavior).unwrap();
    let events = vec![event("shared"); 1 + round % 3];
    let own = NewEvent::builder("t").key(format!("own/{number}")).json(&round).build().unwrap();
    write(&transaction, events.into_iter().chain([own])).unwrap();
    let commits = !(round + number).is_multiple_of(3);
    if commits {
        transaction.commit().unwrap();
    } else {
        transaction.rollback().unwrap();
    }
    commits
}

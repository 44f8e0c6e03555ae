//! Who waits for whom: a relay's writes, a challenger, an operator. Another session holds a write open, as a relay does for a
//! moment.

use std::time::Duration;

use outbox::{
    Bookkeeping, ErrorKind, Key, Lane, Operator, Position, RouteName,
    bookkeeping::{Front, FrontState, Keep, KeepOutcome, KeptContent, Lease, SettleOutcome, Settlement},
    entry::Undecodable,
};
use outbox_sql::postgres::PostgresBookkeeping;
use tokio_postgres::Client;

use crate::fixture::{Fresh, PATIENCE, checkpoint, entries, ledger, options, position, take, until_waiting};

/// A bookkeeping whose lease is taken, and a session in which a write of its owner is under way: `sql`, not committed.
async fn while_writing(fresh: &Fresh, sql: &str) -> (PostgresBookkeeping, Lease, Client) {
    let books = fresh.open().await;
    let lease = take(&books).await;
    let kept = books.keep(&lease, &ledger(), &entries(), &keep("a", Some(FrontState::Dead), 1)).await.unwrap();
    assert!(matches!(kept, KeepOutcome::Stored { .. }));
    let session = fresh.session().await;
    session.batch_execute("BEGIN").await.unwrap();
    session.query(&fresh.named(sql), &[]).await.unwrap();
    (books, lease, session)
}

const CHECKPOINT: &str = "SELECT outbox_relay.checkpoint('relay', 1, (SELECT connection FROM outbox_relay.leases), 'ledger', \
     'entries', '7', false, NULL, NULL)";

/// Parks row 2 of key `a`.
const PARK: &str = "SELECT outbox_relay.keep('relay', 1, (SELECT connection FROM outbox_relay.leases), 'ledger', 'k:a', \
     'entries', NULL, NULL, NULL, NULL, NULL, NULL, '{row/2}', '{2}', '{0}', '{a}', '{NULL}', '{raw}', '{r}')";

fn lane(key: &str) -> Lane {
    Lane::Key(Key::new(key).unwrap())
}

fn keep(key: &str, front: Option<FrontState>, number: u64) -> Keep {
    let front = front.map(|state| Front {
        state,
        attempts: 1,
        failed_since: jiff::Timestamp::UNIX_EPOCH,
        reason: "said no".to_owned(),
    });
    let (id, of) = (format!("row/{number}").into(), Some(Key::new(key).unwrap()));
    let row = Undecodable { id, key: of, reason: "r".to_owned(), raw: b"raw"[..].into() };
    Keep { lane: lane(key), front, events: vec![(KeptContent::Undecodable(row), Position::new(number.to_string()))] }
}

/// The settlement of what is kept first of key `a`.
async fn settlement(books: &PostgresBookkeeping) -> Settlement {
    let generation = books.trouble(&ledger(), &lane("a")).await.unwrap().unwrap().generation;
    let first = books.kept(&ledger(), &lane("a"), 1).await.unwrap().remove(0).id;
    Settlement { lane: lane("a"), generation, remove: vec![first], apart: None, discarded: false, front: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenger_waits_for_a_write_that_is_under_way_and_finds_it() {
    let fresh = Fresh::new().await;
    let (books, lease, session) = while_writing(&fresh, CHECKPOINT).await;
    let challenger = tokio::spawn({
        let challenger = fresh.open().await;
        async move { (take(&challenger).await, challenger) }
    });
    until_waiting(&fresh.session().await, &fresh.named("outbox_relay\".take")).await;
    assert_eq!(books.lease("relay").await.unwrap().epoch, 1);
    session.batch_execute("COMMIT").await.unwrap();
    let (taken, challenger) = challenger.await.unwrap();
    assert_eq!((taken.epoch, position(&challenger).await), (2, Some(7)));
    let late = books.checkpoint(&lease, &ledger(), &checkpoint(8), None).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Fenced);
    assert!(late.to_string().contains("host:1 under epoch 2"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_and_writes_of_other_routes_wait_for_no_write() {
    let fresh = Fresh::new().await;
    let (books, lease, session) = while_writing(&fresh, CHECKPOINT).await;
    let others = async {
        books.renew(&lease).await.unwrap();
        let other = RouteName::new("other").unwrap();
        books.keep(&lease, &other, &entries(), &keep("b", Some(FrontState::Dead), 1)).await.unwrap();
        books.release(&lease).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, others).await.expect("they wait for no write");
    session.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_waits_for_a_park_that_is_under_way_and_leaves_it() {
    let fresh = Fresh::new().await;
    let (books, lease, session) = while_writing(&fresh, PARK).await;
    let known = settlement(&books).await;
    let settling = tokio::spawn({
        let (books, lease) = (books.clone(), lease.clone());
        async move { books.settle(&lease, &ledger(), &known).await }
    });
    until_waiting(&fresh.session().await, &fresh.named("outbox_relay\".settle")).await;
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(settling.await.unwrap().unwrap(), SettleOutcome::Left(1));
    let kept = books.kept(&ledger(), &lane("a"), 10).await.unwrap();
    assert_eq!(kept[0].content.id(), "row/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_park_waits_for_a_release_that_is_under_way_and_finds_the_key_free() {
    let fresh = Fresh::new().await;
    let (books, lease, session) = while_writing(&fresh, "SELECT").await;
    let known = settlement(&books).await;
    let sql = format!(
        "SELECT outbox_relay.settle('relay', 1, (SELECT connection FROM outbox_relay.leases), 'ledger', 'k:a', {}, \
         '{{{}}}', false, NULL, NULL, NULL, NULL, NULL, NULL)",
        known.generation, known.remove[0].0
    );
    let left: i64 = session.query_one(&fresh.named(&sql), &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "the lane is released");
    let parking = tokio::spawn({
        let (books, lease) = (books.clone(), lease.clone());
        async move { books.keep(&lease, &ledger(), &entries(), &keep("a", None, 2)).await }
    });
    until_waiting(&fresh.session().await, &fresh.named("outbox_relay\".keep")).await;
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(parking.await.unwrap().unwrap(), KeepOutcome::KeyFree);
    assert!(books.kept(&ledger(), &lane("a"), 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_never_there_is_taken_after_a_great_change_not_during_it() {
    let fresh = Fresh::new().await;
    let (_, _, session) = while_writing(&fresh, "SELECT outbox_relay.forget_route('ledger')").await;
    let taking = tokio::spawn({
        let books = fresh.open().await;
        async move {
            let seen = books.lease("another").await.unwrap();
            books.take("another", &seen, "host:2", Duration::from_secs(10)).await
        }
    });
    until_waiting(&fresh.session().await, &fresh.named("outbox_relay\".take")).await;
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(taking.await.unwrap().unwrap().map(|lease| lease.epoch), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_takes_along_what_is_written_at_that_moment() {
    let fresh = Fresh::new().await;
    let (books, _, session) = while_writing(&fresh, CHECKPOINT).await;
    let to = RouteName::new("books").unwrap();
    let renaming = tokio::spawn({
        let (books, to) = (books.clone(), to.clone());
        async move { books.rename_route(&ledger(), &to).await }
    });
    until_waiting(&fresh.session().await, &fresh.named("outbox_relay\".rename_route")).await;
    session.batch_execute("COMMIT").await.unwrap();
    renaming.await.unwrap().unwrap();
    assert_eq!(books.checkpoints(&to).await.unwrap(), [checkpoint(7)]);
    assert!(books.checkpoints(&ledger()).await.unwrap().is_empty());
    assert_eq!(books.kept_counts(&to).await.unwrap().dead, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_takes_along_what_is_kept_at_that_moment() {
    let fresh = Fresh::new().await;
    let (books, _, session) = while_writing(&fresh, PARK).await;
    let erasing = tokio::spawn({
        let books = books.clone();
        async move { books.erase(&Key::new("a").unwrap()).await }
    });
    until_waiting(&fresh.session().await, &fresh.named("outbox_relay\".erase")).await;
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(erasing.await.unwrap().unwrap(), 2);
    assert!(books.kept(&ledger(), &lane("a"), 10).await.unwrap().is_empty());
    assert_eq!(books.tombstones(&ledger()).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_waits_for_a_settlement_and_leaves_alone_what_is_no_dead_letter_any_more() {
    let fresh = Fresh::new().await;
    let (books, _, session) = while_writing(&fresh, PARK).await;
    let known = settlement(&books).await;
    let sql = format!(
        "SELECT outbox_relay.settle('relay', 1, (SELECT connection FROM outbox_relay.leases), 'ledger', 'k:a', {}, '{{{}}}', \
         false, 'retrying', '2026-11-21T09:30:00Z', NULL, 0, '2026-11-21T09:30:00Z', 'r')",
        known.generation, known.remove[0].0
    );
    session.query(&fresh.named(&sql), &[]).await.unwrap();
    let redriving = tokio::spawn({
        let books = books.clone();
        async move { books.redrive(&ledger(), &outbox::bookkeeping::Selector::default(), jiff::Timestamp::UNIX_EPOCH).await }
    });
    until_waiting(&fresh.session().await, &fresh.named("outbox_relay\".change_dead")).await;
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(redriving.await.unwrap().unwrap(), 0);
    let trouble = books.trouble(&ledger(), &lane("a")).await.unwrap().unwrap();
    assert_eq!((trouble.generation, trouble.kept), (known.generation, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_too_long_is_uncertain_and_the_next_one_goes_behind_it() {
    let fresh = Fresh::new().await;
    let (_, lease, session) = while_writing(&fresh, "SELECT FROM outbox_relay.troubles FOR UPDATE").await;
    let impatient = fresh.open_with(options(&fresh.database).statement_timeout(Duration::from_millis(200))).await;
    let known = settlement(&impatient).await;
    let error = impatient.settle(&lease, &ledger(), &known).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Unavailable, true), "{error}");
    assert!(error.to_string().contains("pg_stat_activity"), "{error}");
    let parking = tokio::spawn({
        let (patient, lease) = (fresh.open().await, lease.clone());
        async move { patient.keep(&lease, &ledger(), &entries(), &keep("a", None, 2)).await }
    });
    // Its first write, which makes its connection the owner's, waits for what is under way over the other.
    until_waiting(&fresh.session().await, &fresh.named("outbox_relay\".attach")).await;
    session.batch_execute("COMMIT").await.unwrap();
    // What was given up either was done before this, or never is.
    let parked = parking.await.unwrap().unwrap();
    let left = impatient.kept(&ledger(), &lane("a"), 10).await.unwrap();
    let ids: Vec<_> = left.iter().map(|kept| kept.content.id()).collect();
    match parked {
        KeepOutcome::KeyFree => assert!(ids.is_empty(), "{ids:?}"),
        KeepOutcome::Stored { .. } => assert_eq!(ids, ["row/1", "row/2"]),
    }
}

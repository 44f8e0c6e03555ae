//! Two relays over connections of their own, both after the same lease.

use std::sync::Arc;

use outbox::{Bookkeeping, ErrorKind, bookkeeping::Lease};
use outbox_sql::postgres::PostgresBookkeeping;
use tokio::sync::watch;

use crate::fixture::{Fresh, checkpoint, ledger, take, witness};

/// How often the lease changes hands.
const REIGNS: u64 = 30;
/// Positions that one owner can get to: those of the next one begin behind it.
const REIGN: u64 = 100_000;

/// Writes under its lease as fast as it can until it is told that it has lost it. Gives the last position that was stored.
async fn reign(books: PostgresBookkeeping, lease: Lease, last: Arc<watch::Sender<u64>>) -> u64 {
    let mut stored = lease.epoch * REIGN;
    for number in stored + 1..stored + REIGN {
        match books.checkpoint(&lease, &ledger(), &checkpoint(number), Some(&witness(number))).await {
            Ok(()) => {
                stored = number;
                last.send_replace(number);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                return stored;
            }
        }
    }
    panic!("nobody took the lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_one_writes_at_a_time_and_nothing_that_was_answered_is_missing() {
    let fresh = Fresh::new().await;
    let relays = [fresh.open().await, fresh.open().await];
    let last = Arc::new(watch::Sender::new(0));
    let mut seen = last.subscribe();
    let mut reigning = None;
    let mut stored = Vec::new();
    for number in 0..REIGNS {
        let relay = &relays[usize::try_from(number % 2).unwrap()];
        let lease = take(relay).await;
        let begun = lease.epoch * REIGN;
        let next = tokio::spawn(reign(relay.clone(), lease, last.clone()));
        if let Some(former) = reigning.replace(next) {
            stored.push(former.await.unwrap());
        }
        seen.wait_for(|last| *last > begun).await.unwrap();
    }
    take(&relays[0]).await;
    stored.push(reigning.unwrap().await.unwrap());

    // Witnesses are numbered in the order of their commits, for they share the route's row.
    let rows = fresh.session().await.query(&fresh.named(
        "SELECT position::bigint, lag(position::bigint) OVER (ORDER BY number) FROM outbox_relay.witnesses ORDER BY number",
    ), &[]).await.unwrap();
    let rising = rows.iter().all(|row| row.get::<_, Option<i64>>(1) < Some(row.get(0)));
    assert!(rising, "an owner wrote behind the next one: {rows:?}");
    let newest = crate::fixture::position(&relays[0]).await;
    assert_eq!(newest, stored.last().copied());
    assert!(stored.is_sorted(), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_of_one_owner_write_at_the_same_time() {
    let fresh = Fresh::new().await;
    let (one, other) = (fresh.open().await, fresh.open().await);
    let lease = take(&one).await;
    let write = |books: PostgresBookkeeping, lease: Lease, route: &'static str| async move {
        let route = outbox::RouteName::new(route).unwrap();
        for number in 1..=200 {
            books.checkpoint(&lease, &route, &checkpoint(number), None).await.unwrap();
        }
    };
    tokio::join!(write(one.clone(), lease.clone(), "a"), write(other, lease, "b"));
    for route in ["a", "b"] {
        let route = outbox::RouteName::new(route).unwrap();
        assert_eq!(one.checkpoints(&route).await.unwrap(), [checkpoint(200)]);
    }
}

//! Leases, and writes of those who lost theirs.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use outbox::{
    Bookkeeping, CommitId, ErrorKind, Lane, PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Checkpoint, Front, FrontState, HealthState, Keep, KeptContent, RouteHealth, Settlement},
    entry::Undecodable,
    store::Witness,
};

use crate::bookkeeping_opening::{Books, take};

fn route() -> RouteName {
    RouteName::new("ledger").unwrap()
}

fn partition() -> PartitionId {
    PartitionId::new("entries")
}

fn checkpoint(position: u64) -> Checkpoint {
    Checkpoint { partition: partition(), position: Position::new(position.to_string()), finished: false }
}

fn witness(position: u64) -> Witness {
    Witness { position: Position::new(position.to_string()), commit: CommitId(u128::from(position).to_be_bytes()) }
}

fn row_kept() -> Keep {
    let row = Undecodable { id: "row/1".into(), key: None, reason: "r".to_owned(), raw: b"raw"[..].into() };
    Keep {
        lane: Lane::of_undecodable(&row),
        front: Some(Front {
            state: FrontState::Dead,
            attempts: 0,
            failed_since: Timestamp::UNIX_EPOCH,
            reason: "r".to_owned(),
        }),
        events: vec![(KeptContent::Undecodable(row), Position::new("1"))],
    }
}

#[tokio::test]
async fn every_write_of_a_relay_that_lost_its_lease_is_refused() {
    let books = Books::new();
    let zombie = books.lease().await;
    let standby = books.reopen();
    let owner = take(&standby).await;
    assert_eq!(owner.epoch, zombie.epoch + 1);
    let (books, route, keep) = (&books.books, route(), row_kept());
    let settlement = Settlement {
        lane: keep.lane.clone(),
        generation: 1,
        remove: vec![],
        apart: None,
        discarded: false,
        front: None,
    };
    let health = RouteHealth { state: HealthState::Flowing, since: Timestamp::UNIX_EPOCH };
    let refused: [(&str, Result<(), StoreError>); 7] = [
        ("renew", books.renew(&zombie).await),
        ("checkpoint", books.checkpoint(&zombie, &route, &checkpoint(9), Some(&witness(9))).await),
        ("keep", books.keep(&zombie, &route, &partition(), &keep).await.map(drop)),
        ("settle", books.settle(&zombie, &route, &settlement).await.map(drop)),
        (
            "forget_tombstones",
            books.forget_tombstones(&zombie, &route, &[("x".into(), partition(), Position::new("1"))]).await,
        ),
        ("note_replayed", books.note_replayed(&zombie, "x").await),
        ("note_health", books.note_health(&zombie, &route, &health).await),
    ];
    for (name, result) in refused {
        let error = result.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Fenced, "{name}: {error}");
        assert!(!error.is_uncertain(), "{name}");
    }
    books.release(&zombie).await.expect("giving up what is lost is no error");
    assert!(!standby.lease("relay").await.unwrap().released, "and takes nothing from the owner");
    assert!(standby.checkpoints(&route).await.unwrap().is_empty());
    assert!(standby.witnesses(&partition()).await.unwrap().is_empty());
    assert_eq!(standby.kept_counts(&route).await.unwrap().lanes, 0);
}

#[tokio::test]
async fn of_two_challengers_one_gets_the_lease() {
    let books = Books::new();
    books.lease().await;
    let (left, right) = (books.reopen(), books.reopen());
    let seen = left.lease("relay").await.unwrap();
    let duration = Duration::from_secs(10);
    let (left, right) =
        tokio::join!(left.take("relay", &seen, "left", duration), right.take("relay", &seen, "right", duration));
    let taken = [left.unwrap(), right.unwrap()];
    assert_eq!(taken.iter().flatten().count(), 1, "{taken:?}");
}

#[tokio::test]
async fn a_lease_that_was_renewed_since_cannot_be_taken() {
    let books = Books::new();
    let lease = books.lease().await;
    let seen = books.books.lease("relay").await.unwrap();
    books.books.renew(&lease).await.unwrap();
    let taken = books.books.take("relay", &seen, "other", Duration::from_secs(10)).await.unwrap();
    assert_eq!(taken, None);
    assert!(books.books.lease("relay").await.unwrap().beat > seen.beat);
}

#[tokio::test]
async fn a_lease_that_was_given_up_can_be_taken_at_once_and_no_longer_be_used() {
    let books = Books::new();
    let lease = books.lease().await;
    books.books.release(&lease).await.unwrap();
    assert!(books.books.lease("relay").await.unwrap().released);
    assert_eq!(books.books.renew(&lease).await.unwrap_err().kind(), ErrorKind::Fenced);
    books.lease().await;
}

#[tokio::test]
async fn a_checkpoint_comes_back_with_the_witnesses_of_all_routes_newest_first() {
    let books = Books::new();
    let lease = books.lease().await;
    let (books, fast, slow) = (&books.books, route(), RouteName::new("slow").unwrap());
    books.checkpoint(&lease, &slow, &checkpoint(3), Some(&witness(3))).await.unwrap();
    books.checkpoint(&lease, &fast, &checkpoint(8), Some(&witness(8))).await.unwrap();
    books.checkpoint(&lease, &slow, &checkpoint(5), Some(&witness(5))).await.unwrap();
    books.checkpoint(&lease, &slow, &checkpoint(6), None).await.unwrap();
    assert_eq!(books.checkpoints(&slow).await.unwrap(), [checkpoint(6)]);
    assert_eq!(books.checkpoints(&fast).await.unwrap(), [checkpoint(8)]);
    assert_eq!(books.witnesses(&partition()).await.unwrap(), [witness(5), witness(8), witness(3)]);
}

#[tokio::test]
async fn witnesses_thin_out_with_age_but_never_end() {
    let books = Books::new();
    let lease = books.lease().await;
    let (route, last) = (route(), 3_000);
    let all: Vec<_> = (1..=last)
        .map(|number| {
            let (books, lease, route) = (books.books.clone(), lease.clone(), route.clone());
            async move { books.checkpoint(&lease, &route, &checkpoint(number), Some(&witness(number))).await }
        })
        .collect();
    for checkpoint in all {
        checkpoint.await.unwrap();
    }
    let witnesses = books.books.witnesses(&partition()).await.unwrap();
    let numbers: Vec<u64> = witnesses.iter().map(|witness| witness.position.as_str().parse().unwrap()).collect();
    assert_eq!(numbers[..64], (last - 63..=last).rev().collect::<Vec<_>>());
    assert!(numbers.len() < 64 + 32 * 7, "{}", numbers.len());
    assert!(*numbers.last().unwrap() <= 1_024, "{numbers:?}");
    let gap = |pair: &[u64]| (pair[0] - pair[1], last - pair[0]);
    assert!(numbers.windows(2).map(gap).all(|(gap, age)| gap <= 2.max(age / 16)), "{numbers:?}");
}

#[tokio::test]
async fn writes_of_many_tasks_share_commits_and_each_gets_its_own_answer() {
    let books = Books::new();
    let lease = books.lease().await;
    let lost = outbox::bookkeeping::Lease { epoch: 99, ..lease.clone() };
    let writes: Vec<_> = (0..500_u64)
        .map(|number| {
            let (books, number) = (books.books.clone(), number + 1);
            let lease = if number.is_multiple_of(10) { lost.clone() } else { lease.clone() };
            let route = RouteName::new(format!("route-{number}")).unwrap();
            tokio::spawn(async move { (number, books.checkpoint(&lease, &route, &checkpoint(number), None).await) })
        })
        .collect();
    for write in writes {
        let (number, result) = write.await.unwrap();
        assert_eq!(result.is_err(), number.is_multiple_of(10), "{number}: {result:?}");
        let stored = books.books.checkpoints(&RouteName::new(format!("route-{number}")).unwrap()).await.unwrap();
        assert_eq!(stored.len(), usize::from(!number.is_multiple_of(10)), "{number}");
    }
    drop(Arc::new(books));
}

//! Checkpoints and witnesses.

use std::sync::Arc;

use crate::{
    bookkeeping::{Bookkeeping, Checkpoint, Lease},
    route::RouteName,
    source::PartitionId,
    testing::sample::{partition, position, route, take, witness},
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Bookkeeping>) {
    a_checkpoint_is_read_back(&*fresh().await).await;
    checkpoints_of_routes_and_partitions_are_apart(&*fresh().await).await;
    witnesses_come_newest_first(&*fresh().await).await;
    a_repeated_checkpoint_adds_no_witness(&*fresh().await).await;
    thinning_keeps_the_newest_and_a_sample(&*fresh().await).await;
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint { partition: partition(), position: position(number), finished: false }
}

async fn store(bookkeeping: &dyn Bookkeeping, lease: &Lease, route: &RouteName, number: u64) {
    let stored = bookkeeping.checkpoint(lease, route, &checkpoint(number), Some(&witness(number))).await;
    stored.expect("a checkpoint is stored");
}

async fn witnessed(bookkeeping: &dyn Bookkeeping) -> Vec<u64> {
    let witnesses = bookkeeping.witnesses(&partition()).await.expect("witnesses can be read");
    let numbers = witnesses.iter().map(|found| {
        let number = found.position.as_str().parse().expect("the sample's positions are numbers");
        assert_eq!(*found, witness(number), "a witness comes back as it was stored");
        number
    });
    numbers.collect()
}

/// The latest position and whether the partition is finished come back as they were.
pub async fn a_checkpoint_is_read_back(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "a checkpoint is read back";
    let (lease, route) = (take(bookkeeping, "relay").await, route("a"));
    assert_eq!(bookkeeping.checkpoints(&route).await.expect("checkpoints can be read"), [], "{RULE}: none yet");
    let finished = Checkpoint { finished: true, ..checkpoint(9) };
    for stored in [checkpoint(1), checkpoint(9), finished] {
        let answer = bookkeeping.checkpoint(&lease, &route, &stored, None).await;
        answer.expect("a checkpoint is stored without a witness too");
        let read = bookkeeping.checkpoints(&route).await.expect("checkpoints can be read");
        assert_eq!(read, [stored], "{RULE}: the latest");
    }
}

/// A checkpoint belongs to one route and one partition.
pub async fn checkpoints_of_routes_and_partitions_are_apart(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "checkpoints of routes and partitions are apart";
    let lease = take(bookkeeping, "relay").await;
    let other = Checkpoint { partition: PartitionId::new("other"), ..checkpoint(2) };
    for (name, stored) in [("a", checkpoint(1)), ("a", other.clone()), ("b", checkpoint(3))] {
        bookkeeping.checkpoint(&lease, &route(name), &stored, None).await.expect("a checkpoint is stored");
    }
    let mut of_a = bookkeeping.checkpoints(&route("a")).await.expect("checkpoints can be read");
    of_a.sort_by(|left, right| left.partition.cmp(&right.partition));
    assert_eq!(of_a, [checkpoint(1), other], "{RULE}");
    let of_b = bookkeeping.checkpoints(&route("b")).await.expect("checkpoints can be read");
    assert_eq!(of_b, [checkpoint(3)], "{RULE}");
}

/// The latest witness is the first.
pub async fn witnesses_come_newest_first(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "witnesses come newest first";
    let lease = take(bookkeeping, "relay").await;
    assert_eq!(witnessed(bookkeeping).await, Vec::<u64>::new(), "{RULE}: none yet");
    for number in 1..=4 {
        store(bookkeeping, &lease, &route("a"), number).await;
        let found = witnessed(bookkeeping).await;
        assert_eq!(found.first(), Some(&number), "{RULE}");
        assert!(found.is_sorted_by(|left, right| left > right), "{RULE}: {found:?}");
    }
    let elsewhere = bookkeeping.witnesses(&PartitionId::new("other")).await.expect("witnesses can be read");
    assert_eq!(elsewhere, [], "{RULE}: of this partition only");
}

/// A checkpoint that is stored again, as after a lost answer, is the same checkpoint.
pub async fn a_repeated_checkpoint_adds_no_witness(bookkeeping: &dyn Bookkeeping) {
    let lease = take(bookkeeping, "relay").await;
    for number in [1, 2, 2, 2] {
        store(bookkeeping, &lease, &route("a"), number).await;
    }
    assert_eq!(witnessed(bookkeeping).await, [2, 1], "a repeated checkpoint adds no witness");
}

/// After many checkpoints few witnesses are left: the latest, and some of each age.
pub async fn thinning_keeps_the_newest_and_a_sample(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "thinning keeps the newest and a sample";
    const MANY: u64 = 600;
    let lease = take(bookkeeping, "relay").await;
    for number in 1..=MANY {
        store(bookkeeping, &lease, &route("a"), number).await;
    }
    let found = witnessed(bookkeeping).await;
    assert_eq!(found.first(), Some(&MANY), "{RULE}: the newest");
    assert!(found.is_sorted_by(|left, right| left > right), "{RULE}: newest first: {found:?}");
    assert!(found.len() <= 200, "{RULE}: {} of {MANY} are no sample", found.len());
    assert!(found.iter().any(|number| *number < MANY / 2), "{RULE}: of what is older too: {found:?}");
    assert!(found.iter().any(|number| (MANY - 40..MANY).contains(number)), "{RULE}: of what is younger too: {found:?}");
}

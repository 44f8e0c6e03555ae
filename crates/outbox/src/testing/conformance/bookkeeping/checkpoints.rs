//! Checkpoints and witnesses.

use std::sync::Arc;

use crate::{
    bookkeeping::{Bookkeeping, Checkpoint, Lease, Settlement},
    route::RouteName,
    source::PartitionId,
    testing::sample::{dead, keep, kept_ids, lane, partition, position, route, settlement, take, witness},
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Bookkeeping>) {
    checks! {
        "`Bookkeeping::checkpoint` stores a checkpoint of a route and a partition, and the witness of the last entry before it." => {
            a_checkpoint_is_read_back(&*fresh().await);
            checkpoints_of_routes_and_partitions_are_apart(&*fresh().await);
            a_repeated_checkpoint_adds_no_witness(&*fresh().await);
        }
        "`Bookkeeping::forget_checkpoints` forgets the route's checkpoints in these partitions, with the witnesses and tombstones that it has of them." => {
            a_forgotten_checkpoint_takes_along_what_is_of_its_partition(fresh().await);
        }
        "`Bookkeeping::witnesses`: newest first; the latest, and a thinning sample of what came before." => {
            witnesses_come_newest_first(&*fresh().await);
            thinning_keeps_the_newest_and_a_sample(&*fresh().await);
        }
    }
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

/// Checkpoint, witnesses and tombstones of the named partitions go, for that route; what is kept stays, and so does
/// everything of other partitions and routes.
pub async fn a_forgotten_checkpoint_takes_along_what_is_of_its_partition(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a forgotten checkpoint takes along what is of its partition";
    let (lease, route) = (take(&*bookkeeping, "relay").await, route("a"));
    let other = PartitionId::new("other");
    let elsewhere = Checkpoint { partition: other.clone(), ..checkpoint(2) };
    for (name, stored) in [("a", checkpoint(1)), ("a", elsewhere.clone()), ("b", checkpoint(3))] {
        let name = crate::testing::sample::route(name);
        bookkeeping.checkpoint(&lease, &name, &stored, Some(&witness(1))).await.expect("a checkpoint is stored");
    }
    for (at, key) in [(partition(), "k"), (other.clone(), "l")] {
        let kept = keep(key, Some(dead(1)), [1, 2]);
        bookkeeping.keep(&lease, &route, &at, &kept).await.expect("events are kept");
        let discarded = settlement(&bookkeeping, &route, &lane(key), 1, None).await;
        let discarded = Settlement { discarded: true, ..discarded };
        bookkeeping.settle(&lease, &route, &discarded).await.expect("a front is discarded");
    }
    let kept = kept_ids(&*bookkeeping, &route, &lane("k")).await;
    let gone = [partition(), PartitionId::new("never read")];
    for _ in 0..2 {
        bookkeeping.forget_checkpoints(&lease, &route, &gone).await.expect("checkpoints are forgotten");
    }
    let left = bookkeeping.checkpoints(&route).await.expect("checkpoints can be read");
    assert_eq!(left, [elsewhere], "{RULE}: of the partition alone");
    let tombstones = bookkeeping.tombstones(&route).await.expect("tombstones can be read");
    assert_eq!(tombstones.iter().map(|(_, of, _)| of).collect::<Vec<_>>(), [&other], "{RULE}: tombstones");
    assert_eq!(kept_ids(&*bookkeeping, &route, &lane("k")).await, kept, "{RULE}: what is kept stays");
    let of_b = bookkeeping.checkpoints(&crate::testing::sample::route("b")).await.expect("checkpoints can be read");
    assert_eq!(of_b, [checkpoint(3)], "{RULE}: of the route alone");
    assert_eq!(witnessed(&*bookkeeping).await, [1], "{RULE}: what another route read of it stays");
    bookkeeping.forget_checkpoints(&lease, &crate::testing::sample::route("b"), &gone).await.expect("it is forgotten");
    assert_eq!(witnessed(&*bookkeeping).await, Vec::<u64>::new(), "{RULE}: with its witnesses");
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

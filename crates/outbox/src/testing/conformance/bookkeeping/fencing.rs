//! Fencing: whoever lost the lease writes nothing any more.

use std::sync::Arc;

use crate::{
    bookkeeping::{
        Bookkeeping, Checkpoint, HealthState, Keep, KeepOutcome, KeptCounts, Lease, RouteHealth, Settlement,
    },
    error::{ErrorKind, StoreError},
    testing::sample::{at, dead, keep, lane, partition, position, retrying, route, settlement, take, witness},
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Bookkeeping>) {
    checks! {
        "Every write that takes a `Lease` is refused with `ErrorKind::Fenced` unless that lease's epoch is current, in the same transaction." => {
            no_write_of_a_former_owner_takes_effect(fresh().await);
            no_write_under_a_lease_that_never_was_takes_effect(fresh().await);
            a_present_owner_is_not_fenced(fresh().await);
        }
    }
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint { partition: partition(), position: position(number), finished: false }
}

fn health(reason: &str) -> RouteHealth {
    RouteHealth { state: HealthState::Stopped { reason: reason.to_owned() }, since: at(1) }
}

/// A bookkeeping in which every kind of write has something to change.
pub(super) struct Scene {
    bookkeeping: Arc<dyn Bookkeeping>,
    pub(super) owner: Lease,
    former: Lease,
    settlement: Settlement,
}

impl Scene {
    pub(super) async fn set(bookkeeping: Arc<dyn Bookkeeping>) -> Self {
        let former = take(&*bookkeeping, "relay").await;
        let owner = take(&*bookkeeping, "relay").await;
        let at_route = route("a");
        let stored = bookkeeping.checkpoint(&owner, &at_route, &checkpoint(1), Some(&witness(1))).await;
        stored.expect("the owner stores a checkpoint");
        let kept = keep("discarded", Some(dead(1)), [1, 2]);
        bookkeeping.keep(&owner, &at_route, &partition(), &kept).await.expect("the owner keeps events");
        let discarded = settlement(&bookkeeping, &at_route, &lane("discarded"), 1, Some(retrying(0))).await;
        let discarded = Settlement { discarded: true, ..discarded };
        bookkeeping.settle(&owner, &at_route, &discarded).await.expect("the owner settles");
        let kept = keep("kept", Some(retrying(1)), [1, 2]);
        bookkeeping.keep(&owner, &at_route, &partition(), &kept).await.expect("the owner keeps events");
        let settlement = settlement(&bookkeeping, &at_route, &lane("kept"), 1, Some(dead(9))).await;
        Self { bookkeeping, owner, former, settlement }
    }

    /// Tries every write that takes a lease.
    async fn write_all(&self, lease: &Lease) -> Vec<(&'static str, Result<(), StoreError>)> {
        let (bookkeeping, route) = (&self.bookkeeping, route("a"));
        let park: Keep = keep("kept", None, [3]);
        let open = keep("new", Some(retrying(1)), [1]);
        let tombstone = [("discarded@1.1.0".into(), partition(), position(1))];
        vec![
            ("renew", bookkeeping.renew(lease).await),
            ("note_claims", bookkeeping.note_claims(lease, &[]).await),
            ("checkpoint", bookkeeping.checkpoint(lease, &route, &checkpoint(2), Some(&witness(2))).await),
            ("keep, to park", bookkeeping.keep(lease, &route, &partition(), &park).await.map(|_| ())),
            ("keep, to open", bookkeeping.keep(lease, &route, &partition(), &open).await.map(|_| ())),
            ("settle", bookkeeping.settle(lease, &route, &self.settlement).await.map(|_| ())),
            ("forget_checkpoints", bookkeeping.forget_checkpoints(lease, &route, &[partition()]).await),
            ("forget_tombstones", bookkeeping.forget_tombstones(lease, &route, &tombstone).await),
            ("note_replayed", bookkeeping.note_replayed(lease, "r1").await),
            ("note_health", bookkeeping.note_health(lease, &route, &health("fenced")).await),
        ]
    }

    /// Everything that those writes would change.
    async fn state(&self) -> String {
        let (bookkeeping, route) = (&self.bookkeeping, route("a"));
        let lease = bookkeeping.lease("relay").await.expect("a lease can be looked at");
        let checkpoints = bookkeeping.checkpoints(&route).await.expect("checkpoints can be read");
        let witnesses = bookkeeping.witnesses(&partition()).await.expect("witnesses can be read");
        let troubles = bookkeeping.troubles(&route, None, 100).await.expect("troubles can be read");
        let counts: KeptCounts = bookkeeping.kept_counts(&route).await.expect("kept events can be counted");
        let tombstones = bookkeeping.tombstones(&route).await.expect("tombstones can be read");
        format!("{lease:?} {checkpoints:?} {witnesses:?} {troubles:?} {counts:?} {tombstones:?}")
    }

    pub(super) async fn expect_fenced(&self, rule: &str, lease: &Lease) {
        let before = self.state().await;
        for (name, answer) in self.write_all(lease).await {
            let kind = answer.map_err(|error| error.kind()).err();
            assert_eq!(kind, Some(ErrorKind::Fenced), "{rule}: {name}");
        }
        assert_eq!(self.state().await, before, "{rule}: and nothing changed");
    }
}

/// Each write under an epoch that is no longer current is refused, in the same transaction.
pub async fn no_write_of_a_former_owner_takes_effect(bookkeeping: Arc<dyn Bookkeeping>) {
    let scene = Scene::set(bookkeeping).await;
    scene.expect_fenced("no write of a former owner takes effect", &scene.former).await;
}

/// An epoch that is yet to come, and a lease that nobody took, are no right to write.
pub async fn no_write_under_a_lease_that_never_was_takes_effect(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "no write under a lease that never was takes effect";
    let scene = Scene::set(bookkeeping).await;
    let future = Lease { epoch: scene.owner.epoch + 1, ..scene.owner.clone() };
    let foreign = Lease { name: "another".to_owned(), ..scene.owner.clone() };
    for lease in [future, foreign] {
        scene.expect_fenced(RULE, &lease).await;
    }
}

/// Every one of these writes succeeds for the owner, so that the other checks of this room mean something.
pub async fn a_present_owner_is_not_fenced(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a present owner is not fenced";
    let scene = Scene::set(bookkeeping).await;
    let before = scene.state().await;
    for (name, answer) in scene.write_all(&scene.owner).await {
        assert!(answer.is_ok(), "{RULE}: {name}: {answer:?}");
    }
    assert_ne!(scene.state().await, before, "{RULE}: and its writes take effect");
    let late = keep("nobody", None, [1]);
    let answer = scene.bookkeeping.keep(&scene.owner, &route("a"), &partition(), &late).await;
    assert_eq!(answer.expect("the owner may ask"), KeepOutcome::KeyFree, "{RULE}: to park behind nothing is no error");
}

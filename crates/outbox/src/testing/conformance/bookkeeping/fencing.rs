//! Fencing: whoever lost the lease writes nothing any more.

use std::sync::Arc;

use super::state;
use crate::{
    bookkeeping::{
        Bookkeeping, Checkpoint, HealthState, Keep, KeepOutcome, Lease, Operator, Replay, RouteHealth, Settlement,
    },
    error::{ErrorKind, StoreError},
    filter::Filter,
    store::Claim,
    testing::sample::{at, dead, keep, lane, partition, position, retrying, route, settlement, take, witness},
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Operator>) {
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

fn claim(lease: &Lease, nonce: &str) -> Claim {
    Claim { bookkeeping: "books".to_owned(), epoch: lease.epoch, nonce: nonce.to_owned() }
}

/// One that is asked for, and that a relay may note as finished.
pub(super) fn replay() -> Replay {
    Replay {
        id: "one".to_owned(),
        route: route("a"),
        filter: Filter { types: vec!["order.*".to_owned()], ..Filter::default() },
        event: None,
        since: Some(at(1)),
        until: None,
        ends: vec![(partition(), position(9))],
        finished: false,
    }
}

/// The writes that take a lease.
const WRITES: [&str; 10] = [
    "renew",
    "note_claims",
    "checkpoint",
    "keep, to park",
    "keep, to open",
    "settle",
    "forget_tombstones",
    // Takes the tombstones along, so it comes after them.
    "forget_checkpoints",
    "note_replayed",
    "note_health",
];

/// A bookkeeping in which every kind of write has something to change.
pub(super) struct Scene {
    bookkeeping: Arc<dyn Operator>,
    pub(super) owner: Lease,
    former: Lease,
    settlement: Settlement,
}

impl Scene {
    pub(super) async fn set(bookkeeping: Arc<dyn Operator>) -> Self {
        let former = take(&*bookkeeping, "relay").await;
        let owner = take(&*bookkeeping, "relay").await;
        let at_route = route("a");
        bookkeeping.note_claims(&owner, &[claim(&owner, "noted")]).await.expect("an owner notes claims");
        bookkeeping.put_replay(&replay()).await.expect("a replay can be asked for");
        bookkeeping.note_health(&owner, &at_route, &health("no target")).await.expect("health can be noted");
        let stored = bookkeeping.checkpoint(&owner, &at_route, &checkpoint(1), Some(&witness(1))).await;
        stored.expect("the owner stores a checkpoint");
        let plain: Arc<dyn Bookkeeping> = bookkeeping.clone();
        let kept = keep("discarded", Some(dead(1)), [1, 2]);
        bookkeeping.keep(&owner, &at_route, &partition(), &kept).await.expect("the owner keeps events");
        let discarded = settlement(&plain, &at_route, &lane("discarded"), 1, Some(retrying(0))).await;
        let discarded = Settlement { discarded: true, ..discarded };
        bookkeeping.settle(&owner, &at_route, &discarded).await.expect("the owner settles");
        let kept = keep("kept", Some(retrying(1)), [1, 2]);
        bookkeeping.keep(&owner, &at_route, &partition(), &kept).await.expect("the owner keeps events");
        let settlement = settlement(&plain, &at_route, &lane("kept"), 1, Some(dead(9))).await;
        Self { bookkeeping, owner, former, settlement }
    }

    /// Tries one of [`WRITES`].
    async fn write(&self, name: &str, lease: &Lease) -> Result<(), StoreError> {
        let (bookkeeping, route) = (&self.bookkeeping, route("a"));
        let kept = async |keep: Keep| bookkeeping.keep(lease, &route, &partition(), &keep).await.map(|_| ());
        match name {
            "renew" => bookkeeping.renew(lease).await,
            "note_claims" => bookkeeping.note_claims(lease, &[claim(lease, "fenced")]).await,
            "checkpoint" => bookkeeping.checkpoint(lease, &route, &checkpoint(2), Some(&witness(2))).await,
            "keep, to park" => kept(keep("kept", None, [3])).await,
            "keep, to open" => kept(keep("new", Some(retrying(1)), [1])).await,
            "settle" => bookkeeping.settle(lease, &route, &self.settlement).await.map(|_| ()),
            "forget_tombstones" => {
                let tombstone = [("discarded@1.1.0".into(), partition(), position(1))];
                bookkeeping.forget_tombstones(lease, &route, &tombstone).await
            }
            "forget_checkpoints" => bookkeeping.forget_checkpoints(lease, &route, &[partition()]).await,
            "note_replayed" => bookkeeping.note_replayed(lease, "one").await,
            "note_health" => bookkeeping.note_health(lease, &route, &health("fenced")).await,
            unknown => panic!("there is no write `{unknown}`"),
        }
    }

    /// Every write under `lease` is refused, and whatever any of them would change is as it was.
    pub(super) async fn expect_fenced(&self, rule: &str, lease: &Lease) {
        let before = state(&*self.bookkeeping).await;
        for name in WRITES {
            let kind = self.write(name, lease).await.map_err(|error| error.kind()).err();
            assert_eq!(kind, Some(ErrorKind::Fenced), "{rule}: {name}");
            assert_eq!(
                state(&*self.bookkeeping).await,
                before,
                "{rule}: {name} was refused, and yet it changed something"
            );
        }
    }
}

/// Each write under an epoch that is no longer current is refused, in the same transaction.
pub async fn no_write_of_a_former_owner_takes_effect(bookkeeping: Arc<dyn Operator>) {
    let scene = Scene::set(bookkeeping).await;
    scene.expect_fenced("no write of a former owner takes effect", &scene.former).await;
}

/// An epoch that is yet to come, and a lease that nobody took, are no right to write.
pub async fn no_write_under_a_lease_that_never_was_takes_effect(bookkeeping: Arc<dyn Operator>) {
    const RULE: &str = "no write under a lease that never was takes effect";
    let scene = Scene::set(bookkeeping).await;
    let future = Lease { epoch: scene.owner.epoch + 1, ..scene.owner.clone() };
    let foreign = Lease { name: "another".to_owned(), ..scene.owner.clone() };
    for lease in [future, foreign] {
        scene.expect_fenced(RULE, &lease).await;
    }
}

/// Every one of these writes succeeds for the owner, so that the other checks of this room mean something.
pub async fn a_present_owner_is_not_fenced(bookkeeping: Arc<dyn Operator>) {
    const RULE: &str = "a present owner is not fenced";
    let scene = Scene::set(bookkeeping).await;
    for name in WRITES {
        let before = state(&*scene.bookkeeping).await;
        let answer = scene.write(name, &scene.owner).await;
        assert!(answer.is_ok(), "{RULE}: {name}: {answer:?}");
        assert_ne!(state(&*scene.bookkeeping).await, before, "{RULE}: {name} takes effect");
    }
    let late = keep("nobody", None, [1]);
    let answer = scene.bookkeeping.keep(&scene.owner, &route("a"), &partition(), &late).await;
    assert_eq!(answer.expect("the owner may ask"), KeepOutcome::KeyFree, "{RULE}: to park behind nothing is no error");
}

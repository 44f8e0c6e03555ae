//! Several handles to one bookkeeping, restarts, and calls whose caller is gone.

use std::sync::Arc;

use super::{
    fencing::{Scene, replay},
    state,
};
use crate::{
    bookkeeping::{
        Bookkeeping, Checkpoint, HealthState, KeepOutcome, Lease, Operator, RouteHealth, SettleOutcome, Settlement,
    },
    error::ErrorKind,
    store::Claim,
    testing::{
        BookkeepingUnderTest,
        conformance::{CUTS, RACES, cut, in_time},
        sample::{at, dead, keep, kept_ids, lane, partition, position, retrying, route, settlement, take, witness},
    },
};

/// Runs every check of this room.
pub async fn all<S: BookkeepingUnderTest>(fresh: &impl AsyncFn() -> S) {
    checks! {
        "Each method is atomic, and durable when it returns." => {
            what_was_written_is_there_after_a_restart(&fresh().await);
            what_one_handle_writes_another_reads(&fresh().await);
        }
        "Every write that takes a `Lease` is refused with `ErrorKind::Fenced` unless that lease's epoch is current, in the same transaction." => {
            a_lease_taken_by_one_handle_fences_another(&fresh().await);
            nothing_is_written_behind_the_back_of_a_new_owner(&fresh().await);
        }
        "Cancellation: a dropped call may have taken effect; all may be repeated." => {
            a_dropped_write_is_whole_or_not_there(&fresh().await);
            a_dropped_write_does_not_come_after_a_later_one(&fresh().await);
        }
    }
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint { partition: partition(), position: position(number), finished: false }
}

async fn position_of(bookkeeping: &dyn Operator) -> Vec<Checkpoint> {
    bookkeeping.checkpoints(&route("a")).await.expect("checkpoints can be read")
}

/// Writes something of everything.
async fn furnish(books: &Arc<dyn Operator>) -> Lease {
    let lease = take(&**books, "relay").await;
    let id = books.id().await.expect("a bookkeeping has an id");
    let claim = Claim { bookkeeping: id, epoch: lease.epoch, nonce: "n".to_owned() };
    books.note_claims(&lease, &[claim]).await.expect("an owner notes claims");
    for number in 1..=3 {
        let stored = books.checkpoint(&lease, &route("a"), &checkpoint(number), Some(&witness(number))).await;
        stored.expect("the owner stores a checkpoint");
    }
    for name in ["gone", "k"] {
        let kept = keep(name, Some(dead(2)), [1, 2]);
        books.keep(&lease, &route("a"), &partition(), &kept).await.expect("the owner keeps events");
    }
    let plain: Arc<dyn Bookkeeping> = books.clone();
    let discarded = settlement(&plain, &route("a"), &lane("gone"), 1, Some(retrying(0))).await;
    let discarded = Settlement { discarded: true, ..discarded };
    books.settle(&lease, &route("a"), &discarded).await.expect("the owner settles");
    let health = RouteHealth { state: HealthState::Stopped { reason: "no target".to_owned() }, since: at(3) };
    books.note_health(&lease, &route("a"), &health).await.expect("health can be noted");
    books.pause(&route("b"), true).await.expect("a route can be paused");
    books.put_replay(&replay()).await.expect("a replay can be asked for");
    lease
}

/// Whoever opens it after its process has gone finds all that was answered, and the owner goes on under its lease.
pub async fn what_was_written_is_there_after_a_restart(subject: &impl BookkeepingUnderTest) {
    const RULE: &str = "what was written is there after a restart";
    let books = subject.open().await;
    let lease = furnish(&books).await;
    let before = state(&*books).await;
    drop(books);
    let books = subject.open().await;
    assert_eq!(state(&*books).await, before, "{RULE}");
    books.renew(&lease).await.unwrap_or_else(|error| panic!("{RULE}: the lease is held on: {error}"));
}

/// An operator's process and the relay's see the same, at once.
pub async fn what_one_handle_writes_another_reads(subject: &impl BookkeepingUnderTest) {
    const RULE: &str = "what one handle writes another reads";
    let (one, other) = (subject.open().await, subject.open().await);
    let before = state(&*one).await;
    assert_eq!(state(&*other).await, before, "{RULE}: nothing yet");
    let lease = furnish(&one).await;
    assert_eq!(state(&*other).await, state(&*one).await, "{RULE}");
    for number in 4..=9 {
        let (writer, reader) = if number % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let stored = writer.checkpoint(&lease, &route("a"), &checkpoint(number), Some(&witness(number))).await;
        stored.expect("the owner stores a checkpoint");
        assert_eq!(position_of(&**reader).await, [checkpoint(number)], "{RULE}: by turns");
    }
}

/// The next owner is another process: the former one's writes are refused by the store, not by what its handle remembers.
pub async fn a_lease_taken_by_one_handle_fences_another(subject: &impl BookkeepingUnderTest) {
    const RULE: &str = "a lease taken by one handle fences another";
    let (former, present) = (subject.open().await, subject.open().await);
    let scene = Scene::set(former).await;
    let lost = scene.owner.clone();
    let owner = take(&*present, "relay").await;
    scene.expect_fenced(RULE, &lost).await;
    present.renew(&owner).await.unwrap_or_else(|error| panic!("{RULE}: the present owner goes on: {error}"));
}

/// While the former owner writes as fast as it can the lease is taken: what the new owner then finds stays as it is.
pub async fn nothing_is_written_behind_the_back_of_a_new_owner(subject: &impl BookkeepingUnderTest) {
    const RULE: &str = "nothing is written behind the back of a new owner";
    const MANY: u64 = 100_000;
    let (one, other) = (subject.open().await, subject.open().await);
    for round in 0..RACES as u64 / 5 {
        let former = take(&*one, "relay").await;
        let first = round * MANY;
        let stored = one.checkpoint(&former, &route("a"), &checkpoint(first), None).await;
        stored.expect("the owner stores a checkpoint");
        let writing = tokio::spawn({
            let one = one.clone();
            async move {
                for number in first + 1..first + MANY {
                    match one.checkpoint(&former, &route("a"), &checkpoint(number), None).await {
                        Ok(()) => tokio::task::yield_now().await,
                        Err(error) if error.kind().retry() => {}
                        Err(error) => return Some(error.kind()),
                    }
                }
                None
            }
        });
        let under_way = async {
            while position_of(&*other).await == [checkpoint(first)] {
                tokio::task::yield_now().await;
            }
        };
        in_time(RULE, under_way).await;
        let owner = take(&*other, "relay").await;
        let found = position_of(&*other).await;
        let refused = in_time(RULE, writing).await.expect("a writer does not panic");
        assert_eq!(refused, Some(ErrorKind::Fenced), "{RULE}: the former owner is told");
        assert_eq!(position_of(&*other).await, found, "{RULE}");
        other.renew(&owner).await.unwrap_or_else(|error| panic!("{RULE}: the new owner goes on: {error}"));
    }
}

/// A write whose caller is gone is there as a whole or not at all, and its repetition makes it whole.
pub async fn a_dropped_write_is_whole_or_not_there(subject: &impl BookkeepingUnderTest) {
    const RULE: &str = "a dropped write is whole or not there";
    let books = subject.open().await;
    let plain: Arc<dyn Bookkeeping> = books.clone();
    let lease = take(&*books, "relay").await;
    for (number, polls) in (1..).zip(0..=CUTS) {
        let name = format!("k{number}");
        let all: Vec<_> = (1..=4).map(|sequence| format!("{name}@1.{sequence}.0")).collect();
        let kept = keep(&name, Some(dead(1)), 1..=4);
        cut(books.keep(&lease, &route("a"), &partition(), &kept), polls).await;
        let found = kept_ids(&*books, &route("a"), &lane(&name)).await;
        assert!(found.is_empty() || found == all, "{RULE}: of four events {found:?} are kept");
        let again = in_time(RULE, books.keep(&lease, &route("a"), &partition(), &kept)).await;
        let again = again.unwrap_or_else(|error| panic!("{RULE}: keeping can be repeated: {error}"));
        assert!(matches!(again, KeepOutcome::Stored { .. }), "{RULE}: {again:?}");
        assert_eq!(kept_ids(&*books, &route("a"), &lane(&name)).await, all, "{RULE}: and once");

        let done = settlement(&plain, &route("a"), &lane(&name), 2, Some(retrying(7))).await;
        cut(books.settle(&lease, &route("a"), &done), polls).await;
        let found = kept_ids(&*books, &route("a"), &lane(&name)).await;
        assert!(found == all || found == all[2..], "{RULE}: two are settled, and {found:?} are left");
        let again = in_time(RULE, books.settle(&lease, &route("a"), &done)).await;
        let again = again.unwrap_or_else(|error| panic!("{RULE}: settling can be repeated: {error}"));
        assert_eq!(again, SettleOutcome::Left(2), "{RULE}: and removes nothing more");

        let (passing, proof) = (checkpoint(number), witness(number));
        cut(books.checkpoint(&lease, &route("a"), &passing, Some(&proof)), polls).await;
        let passed = position_of(&*books).await == [passing.clone()];
        let witnesses = books.witnesses(&partition()).await.expect("witnesses can be read");
        // Read after the checkpoint: what comes late may have come between the two.
        assert!(!passed || witnesses.first() == Some(&proof), "{RULE}: a checkpoint without its witness");
        let again = in_time(RULE, books.checkpoint(&lease, &route("a"), &passing, Some(&proof))).await;
        again.unwrap_or_else(|error| panic!("{RULE}: a checkpoint can be repeated: {error}"));
        assert_eq!(position_of(&*books).await, [passing], "{RULE}");
    }
}

/// What a caller that is gone asked for does not take back what was answered since.
pub async fn a_dropped_write_does_not_come_after_a_later_one(subject: &impl BookkeepingUnderTest) {
    const RULE: &str = "a dropped write does not come after a later one";
    let books = subject.open().await;
    let lease = take(&*books, "relay").await;
    for (round, polls) in (1..).zip((0..=CUTS).chain(0..=CUTS)) {
        let (dropped, later) = (checkpoint(2 * round), checkpoint(2 * round + 1));
        cut(books.checkpoint(&lease, &route("a"), &dropped, None), polls).await;
        let stored = in_time(RULE, books.checkpoint(&lease, &route("a"), &later, None)).await;
        stored.unwrap_or_else(|error| panic!("{RULE}: the next write is taken: {error}"));
        for _ in 0..CUTS {
            assert_eq!(position_of(&*books).await, std::slice::from_ref(&later), "{RULE}");
            tokio::task::yield_now().await;
        }
    }
}

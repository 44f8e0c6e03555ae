//! Leases: one owner at a time, and every change of owner can be seen.

use std::{sync::Arc, time::Duration};

use crate::{
    bookkeeping::{Bookkeeping, Lease, LeaseView},
    error::ErrorKind,
    store::Claim,
    testing::{
        conformance::{RACES, in_time},
        sample::take,
    },
};

const DURATION: Duration = Duration::from_secs(10);

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Bookkeeping>) {
    checks! {
        "`Bookkeeping::id`: given when it was made, and the same since." => {
            the_id_stays(&*fresh().await);
        }
        "`Bookkeeping::take` takes the lease if it still is as seen, under a higher epoch; `None` if it is not." => {
            a_lease_that_nobody_had_can_be_taken(&*fresh().await);
            a_lease_is_taken_only_as_it_was_seen(&*fresh().await);
            a_lease_that_stood_still_can_be_taken_away(&*fresh().await);
            of_challengers_one_wins(fresh().await);
            leases_of_different_names_are_apart(&*fresh().await);
        }
        "`LeaseView`: a lease as anybody sees it." => {
            a_lease_shows_who_holds_it(&*fresh().await);
        }
        "`Bookkeeping::renew` raises the beat; `ErrorKind::Fenced` if the lease was taken." => {
            a_renewal_can_be_seen(&*fresh().await);
            a_lost_lease_cannot_be_renewed(&*fresh().await);
        }
        "`Bookkeeping::release` gives the lease up, so that it can be taken at once; nothing happens if it was taken already." => {
            a_released_lease_can_be_taken_at_once(&*fresh().await);
            releasing_a_lost_lease_does_nothing(&*fresh().await);
        }
        "`Bookkeeping::note_claims` notes claims in place of those noted under the lease's name before; `Bookkeeping::claims` gives them by epoch." => {
            noted_claims_come_back_in_the_order_of_their_epochs(&*fresh().await);
            claims_are_noted_only_by_the_leases_owner(&*fresh().await);
        }
    }
}

async fn look(bookkeeping: &dyn Bookkeeping, name: &str) -> LeaseView {
    bookkeeping.lease(name).await.expect("a lease can be looked at")
}

async fn try_take(bookkeeping: &dyn Bookkeeping, seen: &LeaseView) -> Option<Lease> {
    bookkeeping.take("relay", seen, "challenger", DURATION).await.expect("a lease can be asked for")
}

/// A bookkeeping has one id for its life.
pub async fn the_id_stays(bookkeeping: &dyn Bookkeeping) {
    let id = bookkeeping.id().await.expect("a bookkeeping has an id");
    assert!(!id.is_empty(), "a bookkeeping has an id");
    assert_eq!(bookkeeping.id().await.expect("a bookkeeping has an id"), id, "the id stays");
}

/// A lease that nobody ever had is at epoch 0 and free.
pub async fn a_lease_that_nobody_had_can_be_taken(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "a lease that nobody had can be taken";
    let seen = look(bookkeeping, "relay").await;
    assert_eq!(seen.epoch, 0, "{RULE}: it is at epoch 0");
    let lease = try_take(bookkeeping, &seen).await.unwrap_or_else(|| panic!("{RULE}"));
    assert_eq!((lease.name.as_str(), lease.epoch > 0), ("relay", true), "{RULE}: {lease:?}");
}

/// Holder and failover time are there for others to see.
pub async fn a_lease_shows_who_holds_it(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "a lease shows who holds it";
    let seen = look(bookkeeping, "relay").await;
    let duration = Duration::from_millis(1_500);
    let lease = bookkeeping.take("relay", &seen, "host:7", duration).await.expect("a lease can be asked for");
    let view = look(bookkeeping, "relay").await;
    assert_eq!((view.holder.as_str(), view.duration, view.released), ("host:7", duration, false), "{RULE}");
    assert_eq!(Some(view.epoch), lease.map(|lease| lease.epoch), "{RULE}: and under which epoch");
}

/// Whoever looked before it was taken or renewed does not get it.
pub async fn a_lease_is_taken_only_as_it_was_seen(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "a lease is taken only as it was seen";
    let unowned = look(bookkeeping, "relay").await;
    let lease = try_take(bookkeeping, &unowned).await.expect("a free lease can be taken");
    assert_eq!(try_take(bookkeeping, &unowned).await, None, "{RULE}: it was taken meanwhile");
    let taken = look(bookkeeping, "relay").await;
    bookkeeping.renew(&lease).await.expect("a lease that is held can be renewed");
    assert_eq!(try_take(bookkeeping, &taken).await, None, "{RULE}: it was renewed meanwhile");
    let renewed = look(bookkeeping, "relay").await;
    bookkeeping.release(&lease).await.expect("a lease that is held can be released");
    assert_eq!(try_take(bookkeeping, &renewed).await, None, "{RULE}: it was released meanwhile");
    bookkeeping.lease("relay").await.expect("a lease can be looked at");
    assert_eq!(look(bookkeeping, "relay").await.epoch, lease.epoch, "{RULE}: nothing of this changed the epoch");
}

/// Time is for challengers to judge, by their own clocks: a lease that is as it was seen can be taken, and each owner
/// has a higher epoch.
pub async fn a_lease_that_stood_still_can_be_taken_away(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "a lease that stood still can be taken away";
    let mut epoch = 0;
    for _ in 0..4 {
        let seen = look(bookkeeping, "relay").await;
        assert_eq!(look(bookkeeping, "relay").await, seen, "{RULE}: looking changes nothing");
        let lease = try_take(bookkeeping, &seen).await.unwrap_or_else(|| panic!("{RULE}"));
        assert!(lease.epoch > epoch, "{RULE}: each owner has a higher epoch");
        epoch = lease.epoch;
    }
}

/// A renewal raises the beat and leaves the epoch, so that a challenger sees life.
pub async fn a_renewal_can_be_seen(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "a renewal can be seen";
    let lease = take(bookkeeping, "relay").await;
    let mut before = look(bookkeeping, "relay").await;
    for _ in 0..3 {
        bookkeeping.renew(&lease).await.expect("a lease that is held can be renewed");
        let after = look(bookkeeping, "relay").await;
        assert!(after.beat > before.beat && after.epoch == before.epoch, "{RULE}: {before:?}, then {after:?}");
        before = after;
    }
}

/// Whoever lost the lease learns it from its renewal, and the new owner's lease is as it was.
pub async fn a_lost_lease_cannot_be_renewed(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "a lost lease cannot be renewed";
    let old = take(bookkeeping, "relay").await;
    take(bookkeeping, "relay").await;
    let before = look(bookkeeping, "relay").await;
    let error = bookkeeping.renew(&old).await.err().unwrap_or_else(|| panic!("{RULE}"));
    assert_eq!(error.kind(), ErrorKind::Fenced, "{RULE}");
    assert_eq!(look(bookkeeping, "relay").await, before, "{RULE}: nothing changed");
}

/// A released lease says so, and its next owner has a higher epoch all the same.
pub async fn a_released_lease_can_be_taken_at_once(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "a released lease can be taken at once";
    let old = take(bookkeeping, "relay").await;
    assert!(!look(bookkeeping, "relay").await.released, "{RULE}: it is not released yet");
    bookkeeping.release(&old).await.expect("a lease that is held can be released");
    bookkeeping.release(&old).await.expect("a release can be repeated");
    let seen = look(bookkeeping, "relay").await;
    assert!(seen.released, "{RULE}: it says so");
    let new = try_take(bookkeeping, &seen).await.unwrap_or_else(|| panic!("{RULE}"));
    assert!(new.epoch > old.epoch, "{RULE}: under a higher epoch");
    assert!(!look(bookkeeping, "relay").await.released, "{RULE}: then it is held again");
    assert!(bookkeeping.renew(&old).await.is_err(), "{RULE}: its old owner is out");
}

/// An owner that was replaced gives nothing up that is another's.
pub async fn releasing_a_lost_lease_does_nothing(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "releasing a lost lease does nothing";
    let old = take(bookkeeping, "relay").await;
    let new = take(bookkeeping, "relay").await;
    let before = look(bookkeeping, "relay").await;
    bookkeeping.release(&old).await.expect("releasing a lost lease is no error");
    assert_eq!(look(bookkeeping, "relay").await, before, "{RULE}");
    bookkeeping.renew(&new).await.expect("the new owner still holds it");
}

/// What happens to one lease does not touch another.
pub async fn leases_of_different_names_are_apart(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "leases of different names are apart";
    let one = take(bookkeeping, "one").await;
    let other = take(bookkeeping, "other").await;
    take(bookkeeping, "other").await;
    bookkeeping.renew(&one).await.expect("the lease of another name was taken");
    assert!(bookkeeping.renew(&other).await.is_err(), "{RULE}");
    let mixed = Lease { name: "nobody's".to_owned(), epoch: one.epoch };
    assert!(bookkeeping.renew(&mixed).await.is_err(), "{RULE}: an epoch counts for its own name");
}

/// Of challengers that saw the same, one gets the lease.
pub async fn of_challengers_one_wins(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "of challengers one wins";
    for _ in 0..RACES / 5 {
        let seen = look(&*bookkeeping, "relay").await;
        let challengers = (0..5).map(|_| {
            let (bookkeeping, seen) = (bookkeeping.clone(), seen.clone());
            tokio::spawn(async move { try_take(&*bookkeeping, &seen).await })
        });
        let mut winners = 0;
        for challenger in challengers.collect::<Vec<_>>() {
            winners += u32::from(in_time(RULE, challenger).await.expect("a challenger does not panic").is_some());
        }
        assert_eq!(winners, 1, "{RULE}");
    }
}

async fn claims(bookkeeping: &dyn Bookkeeping, epochs: impl IntoIterator<Item = u64>) -> Vec<Claim> {
    let id = bookkeeping.id().await.expect("a bookkeeping has an id");
    let claim = |epoch| Claim { bookkeeping: id.clone(), epoch, nonce: format!("nonce {epoch}") };
    epochs.into_iter().map(claim).collect()
}

/// What is noted takes the place of what was noted before under the same lease, and under no other.
pub async fn noted_claims_come_back_in_the_order_of_their_epochs(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "noted claims come back in the order of their epochs";
    let (lease, other) = (take(bookkeeping, "relay").await, take(bookkeeping, "other").await);
    let noted = async |name: &str| bookkeeping.claims(name).await.expect("noted claims can be read");
    assert_eq!(noted("relay").await, [], "{RULE}: none at first");
    for claims in [claims(bookkeeping, [1, 2, 10]).await, claims(bookkeeping, [10, 11]).await] {
        bookkeeping.note_claims(&lease, &claims).await.expect("an owner notes claims");
        assert_eq!(noted("relay").await, claims, "{RULE}");
    }
    bookkeeping.note_claims(&other, &claims(bookkeeping, [5]).await).await.expect("an owner notes claims");
    assert_eq!(noted("relay").await, claims(bookkeeping, [10, 11]).await, "{RULE}: each lease has its own");
}

/// One whose lease was taken away notes nothing.
pub async fn claims_are_noted_only_by_the_leases_owner(bookkeeping: &dyn Bookkeeping) {
    const RULE: &str = "claims are noted only by the lease's owner";
    let lost = take(bookkeeping, "relay").await;
    let lease = take(bookkeeping, "relay").await;
    let own = claims(bookkeeping, [lease.epoch]).await;
    bookkeeping.note_claims(&lease, &own).await.expect("an owner notes claims");
    let refused = bookkeeping.note_claims(&lost, &claims(bookkeeping, [lost.epoch]).await).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Fenced), "{RULE}");
    assert_eq!(bookkeeping.claims("relay").await.expect("noted claims can be read"), own, "{RULE}");
}

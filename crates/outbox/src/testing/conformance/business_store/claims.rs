//! Claims: one bookkeeping reads a store, under one epoch.

use super::{events_of, kind_of};
use crate::{
    error::{ErrorKind, StoreError},
    route::Start,
    source::{Limit, PartitionId},
    store::Claim,
    testing::{
        Opened, StoreUnderTest,
        conformance::{CUTS, RACES, cut, in_time, writer::write},
        sample::{new_event, registration},
    },
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    checks! {
        "`StoreIdentity`: given when the tables were made." => {
            the_identity_is_the_same_for_everybody(&fresh().await);
        }
        "`BusinessStore::claim` makes a claim the store's, if the store's is as seen still, or this one already, as after a lost answer; says whether it is." => {
            a_claim_is_made_only_over_the_one_that_was_seen(&fresh().await);
            a_claim_can_be_repeated(&fresh().await);
            of_claimants_one_wins(&fresh().await);
        }
        "Reads done for an older claim fail from then on." => {
            a_newer_claim_ends_the_older_ones_reads(&fresh().await);
        }
        "`BusinessStore::disown` gives the store to whichever bookkeeping claims it next." => {
            a_disowned_store_can_be_claimed(&fresh().await);
        }
        "A dropped call may have taken effect, as a whole, and can be repeated." => {
            a_dropped_claim_is_made_or_not(&fresh().await);
        }
    }
}

fn claim(bookkeeping: &str, epoch: u64, nonce: &str) -> Claim {
    Claim { bookkeeping: bookkeeping.to_owned(), epoch, nonce: nonce.to_owned() }
}

async fn claims(opened: &Opened, claim: &Claim, seen: Option<&Claim>) -> bool {
    opened.store.claim(claim, seen).await.expect("a store answers whether it is claimed")
}

async fn read_beginning(opened: &Opened) -> Result<(), StoreError> {
    let partition: PartitionId = opened.source.partitions().await?.remove(0).id;
    let position = opened.source.start(&partition, &registration("any", Start::Beginning)).await?;
    opened.source.read(&partition, &position, Limit { events: 10, bytes: 1 << 20 }).await.map(|_| ())
}

/// Id, producer and incarnation are the store's, whoever opens it.
pub async fn the_identity_is_the_same_for_everybody(subject: &impl StoreUnderTest) {
    const RULE: &str = "the identity is the same for everybody";
    let (one, other) = (subject.open().await, subject.open().await);
    let identity = one.store.identity().await.expect("a store knows who it is");
    assert_eq!(identity, other.store.identity().await.expect("a store knows who it is"), "{RULE}");
    assert!(!identity.id.is_empty() && identity.incarnation >= 1 && identity.claim.is_none(), "{RULE}");
    write(subject, [new_event("a")]).await;
    let producer = events_of(&one).await[0].source().to_owned();
    assert_eq!(producer, identity.producer, "{RULE}: the producer is the events' source");
}

/// A claim takes the place of the one that was seen, and of no other.
pub async fn a_claim_is_made_only_over_the_one_that_was_seen(subject: &impl StoreUnderTest) {
    const RULE: &str = "a claim is made only over the one that was seen";
    let opened = subject.open().await;
    let (first, second) = (claim("one", 3, "x"), claim("one", 4, "y"));
    assert!(claims(&opened, &first, None).await, "{RULE}: an unclaimed store can be claimed");
    for (other, seen) in [
        (&second, None),
        (&second, Some(claim("one", 3, "z"))),
        (&second, Some(claim("one", 2, "x"))),
        (&claim("other", 9, "y"), Some(claim("other", 3, "x"))),
    ] {
        assert!(!claims(&subject.open().await, other, seen.as_ref()).await, "{RULE}: not over {seen:?}");
    }
    let identity = opened.store.identity().await.expect("a store knows who it is");
    assert_eq!(identity.claim, Some(first.clone()), "{RULE}: it is as it was");
    read_beginning(&opened).await.expect("the owner still reads");
    assert!(claims(&subject.open().await, &second, Some(&first)).await, "{RULE}");
    let identity = opened.store.identity().await.expect("a store knows who it is");
    assert_eq!((identity.bookkeeping(), identity.claim.as_ref()), (Some("one"), Some(&second)), "{RULE}");
}

/// Whoever lost the answer to a claim makes it again.
pub async fn a_claim_can_be_repeated(subject: &impl StoreUnderTest) {
    const RULE: &str = "a claim can be repeated";
    let opened = subject.open().await;
    let claim = claim("one", 3, "x");
    assert!(claims(&opened, &claim, None).await && claims(&opened, &claim, None).await, "{RULE}");
    read_beginning(&opened).await.expect("the owner reads");
}

/// The next owner of the lease claims under a higher epoch, and whoever read under an older one reads no more.
pub async fn a_newer_claim_ends_the_older_ones_reads(subject: &impl StoreUnderTest) {
    const RULE: &str = "a newer claim ends the older one's reads";
    let (old, new) = (subject.open().await, subject.open().await);
    let (before, after) = (claim("one", 3, "x"), claim("one", 4, "y"));
    assert!(claims(&old, &before, None).await, "an unclaimed store can be claimed");
    read_beginning(&old).await.expect("the owner reads");
    assert!(claims(&new, &after, Some(&before)).await, "a claim that was seen can be followed");
    let kind = kind_of(read_beginning(&old).await);
    assert_eq!(kind, Some(ErrorKind::Fenced), "{RULE}: it stands by, rather than ending");
    read_beginning(&new).await.expect("the new owner reads");
}

/// After `disown` whoever comes first owns the store, whatever its epoch.
pub async fn a_disowned_store_can_be_claimed(subject: &impl StoreUnderTest) {
    const RULE: &str = "a disowned store can be claimed";
    let opened = subject.open().await;
    assert!(claims(&opened, &claim("one", 9, "x"), None).await, "an unclaimed store can be claimed");
    let adopting = subject.open().await;
    adopting.store.disown().await.expect("a store can be disowned");
    let identity = adopting.store.identity().await.expect("a store knows who it is");
    assert_eq!(identity.claim, None, "{RULE}: nobody's");
    assert!(claims(&adopting, &claim("other", 1, "y"), None).await, "{RULE}");
    read_beginning(&adopting).await.expect("the new owner reads");
    assert!(read_beginning(&opened).await.is_err(), "{RULE}: the old owner reads no more");
}

/// Of several who saw the same, one makes its claim, and the store's is that one.
pub async fn of_claimants_one_wins(subject: &impl StoreUnderTest) {
    const RULE: &str = "of claimants one wins";
    let opened = subject.open().await;
    for round in 0..RACES as u64 / 5 {
        let seen = opened.store.identity().await.expect("a store knows who it is").claim;
        let mut racers = Vec::new();
        for racer in 0..4 {
            let (store, seen) = (subject.open().await.store, seen.clone());
            let own = claim("one", round + 1, &format!("nonce {round} {racer}"));
            racers.push(tokio::spawn(async move { store.claim(&own, seen.as_ref()).await.map(|made| (made, own)) }));
        }
        let mut winners = Vec::new();
        for racer in racers {
            match in_time(RULE, racer).await.expect("a claimant does not panic") {
                Ok((made, own)) => winners.extend(made.then_some(own)),
                Err(error) => assert!(error.kind().retry(), "{RULE}: {error}"),
            }
        }
        let now = opened.store.identity().await.expect("a store knows who it is").claim;
        assert!(winners.len() <= 1, "{RULE}: {winners:?}");
        assert_eq!(now, winners.pop().or(seen), "{RULE}: and the store's claim is the winner's");
    }
}

/// A claim that is dropped was made or was not, and can be made again in either case.
pub async fn a_dropped_claim_is_made_or_not(subject: &impl StoreUnderTest) {
    const RULE: &str = "a dropped claim is made or not";
    let opened = subject.open().await;
    let now = async || opened.store.identity().await.expect("a store knows who it is").claim;
    for (epoch, polls) in (1..).zip(0..=CUTS) {
        let (seen, own) = (now().await, claim("one", epoch, &format!("nonce {epoch}")));
        cut(opened.store.claim(&own, seen.as_ref()), polls).await;
        let found = now().await;
        assert!(found == seen || found.as_ref() == Some(&own), "{RULE}: {found:?}");
        assert!(in_time(RULE, claims(&opened, &own, seen.as_ref())).await, "{RULE}: and can be made again");
        assert_eq!(now().await, Some(own), "{RULE}");
        read_beginning(&opened).await.expect("the owner reads");
    }
}

//! Claims: one bookkeeping reads a store, under one epoch.

use super::{events_of, kind_of};
use crate::{
    error::{ErrorKind, StoreError},
    route::Start,
    source::{Limit, PartitionId},
    store::Claim,
    testing::{
        Opened, StoreUnderTest,
        conformance::writer::write,
        sample::{new_event, registration},
    },
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    the_identity_is_the_same_for_everybody(&fresh().await).await;
    a_claim_is_made_only_over_the_one_that_was_seen(&fresh().await).await;
    a_claim_can_be_repeated(&fresh().await).await;
    a_newer_claim_ends_the_older_ones_reads(&fresh().await).await;
    a_disowned_store_can_be_claimed(&fresh().await).await;
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

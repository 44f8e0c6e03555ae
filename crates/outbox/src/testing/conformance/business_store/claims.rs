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
    a_claim_by_another_bookkeeping_is_refused(&fresh().await).await;
    a_claim_by_a_copy_is_refused(&fresh().await).await;
    a_newer_claim_ends_the_older_ones_reads(&fresh().await).await;
    a_disowned_store_can_be_claimed(&fresh().await).await;
}

fn claim(bookkeeping: &str, epoch: u64, nonce: &str) -> Claim {
    Claim { bookkeeping: bookkeeping.to_owned(), epoch, nonce: nonce.to_owned() }
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
    assert!(!identity.id.is_empty() && identity.incarnation >= 1 && identity.bookkeeping.is_none(), "{RULE}");
    write(subject, [new_event("a")]).await;
    let producer = events_of(&one).await[0].source().to_owned();
    assert_eq!(producer, identity.producer, "{RULE}: the producer is the events' source");
}

/// A store has one bookkeeping, so that two cannot both believe that they publish it.
pub async fn a_claim_by_another_bookkeeping_is_refused(subject: &impl StoreUnderTest) {
    const RULE: &str = "a claim by another bookkeeping is refused";
    let opened = subject.open().await;
    opened.store.claim(&claim("one", 3, "x")).await.expect("an unclaimed store can be claimed");
    for (epoch, nonce) in [(1, "y"), (3, "x"), (9, "y")] {
        let refused = subject.open().await.store.claim(&claim("other", epoch, nonce)).await;
        assert_eq!(kind_of(refused), Some(ErrorKind::Ownership), "{RULE}: at epoch {epoch}");
    }
    let identity = opened.store.identity().await.expect("a store knows who it is");
    assert_eq!(identity.bookkeeping.as_deref(), Some("one"), "{RULE}: it is still the first one's");
    read_beginning(&opened).await.expect("the owner still reads");
}

/// A copied bookkeeping has the same id; epoch and nonce tell it from its original.
pub async fn a_claim_by_a_copy_is_refused(subject: &impl StoreUnderTest) {
    const RULE: &str = "a claim by a copy of the bookkeeping is refused";
    let opened = subject.open().await;
    opened.store.claim(&claim("one", 3, "x")).await.expect("an unclaimed store can be claimed");
    opened.store.claim(&claim("one", 3, "x")).await.expect("a claim can be repeated");
    for (epoch, nonce) in [(3, "y"), (2, "y"), (2, "x")] {
        let refused = subject.open().await.store.claim(&claim("one", epoch, nonce)).await;
        assert_eq!(kind_of(refused), Some(ErrorKind::Ownership), "{RULE}: {epoch} {nonce}");
    }
    read_beginning(&opened).await.expect("the owner still reads");
}

/// The next owner of the lease claims under a higher epoch, and whoever read under an older one reads no more.
pub async fn a_newer_claim_ends_the_older_ones_reads(subject: &impl StoreUnderTest) {
    const RULE: &str = "a newer claim ends the older one's reads";
    let (old, new) = (subject.open().await, subject.open().await);
    old.store.claim(&claim("one", 3, "x")).await.expect("an unclaimed store can be claimed");
    read_beginning(&old).await.expect("the owner reads");
    new.store.claim(&claim("one", 4, "y")).await.expect("a higher epoch takes the claim over");
    let kind = kind_of(read_beginning(&old).await);
    assert_eq!(kind, Some(ErrorKind::Fenced), "{RULE}: it stands by, rather than ending");
    read_beginning(&new).await.expect("the new owner reads");
}

/// After `disown` whoever comes first owns the store, whatever its epoch.
pub async fn a_disowned_store_can_be_claimed(subject: &impl StoreUnderTest) {
    const RULE: &str = "a disowned store can be claimed";
    let opened = subject.open().await;
    opened.store.claim(&claim("one", 9, "x")).await.expect("an unclaimed store can be claimed");
    let adopting = subject.open().await;
    adopting.store.disown().await.expect("a store can be disowned");
    let identity = adopting.store.identity().await.expect("a store knows who it is");
    assert_eq!(identity.bookkeeping, None, "{RULE}: nobody's");
    adopting.store.claim(&claim("other", 1, "y")).await.expect("a disowned store can be claimed");
    read_beginning(&adopting).await.expect("the new owner reads");
    assert!(read_beginning(&opened).await.is_err(), "{RULE}: the old owner reads no more");
}

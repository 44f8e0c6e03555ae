//! History: what was read before is compared with what is there, and an adoption goes on from there.

use super::{events_of, purge};
use crate::{
    entry::Record,
    event::Event,
    store::{Agreement, Retention, Witness},
    testing::{
        Opened, StoreUnderTest,
        conformance::writer::{check_chain, read_all, write},
        sample::new_event,
    },
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    checks! {
        "`BusinessStore::agreement` compares the store with witnesses, newest first." => {
            a_history_that_goes_on_agrees(&fresh().await);
            an_older_copy_disagrees(&fresh().await);
            an_older_copy_that_was_written_to_disagrees(&fresh().await);
            another_store_disagrees_wholly(&fresh().await);
        }
        "`BusinessStore::raise_incarnation` raises the incarnation, and moves entries that were written after the loss into it." => {
            a_raised_incarnation_is_that_of_later_entries(&fresh().await);
            restamped_entries_are_of_the_new_incarnation(&fresh().await);
        }
    }
}

fn witness(record: &Record) -> Witness {
    Witness { position: record.position.clone(), commit: record.commit }
}

/// Everything read, newest first.
async fn witnesses(opened: &Opened) -> Vec<Witness> {
    read_all(&*opened.source).await.iter().rev().map(|record| witness(record)).collect()
}

async fn agreement(opened: &Opened, witnesses: &[Witness]) -> Agreement {
    opened.store.agreement(witnesses).await.expect("histories can be compared")
}

/// The latest witness is there: nothing was lost, whatever was purged, and whoever never read has nothing to miss.
pub async fn a_history_that_goes_on_agrees(subject: &impl StoreUnderTest) {
    const RULE: &str = "a history that goes on agrees";
    let opened = subject.open().await;
    assert_eq!(agreement(&opened, &[]).await, Agreement::Whole, "{RULE}: nothing was read yet");
    for _ in 0..6 {
        write(subject, [new_event("a")]).await;
    }
    let witnesses = witnesses(&opened).await;
    write(subject, [new_event("a")]).await;
    assert_eq!(agreement(&opened, &witnesses).await, Agreement::Whole, "{RULE}");
    purge(&opened, &witnesses[0].position, Retention::Newest(0)).await;
    assert_eq!(agreement(&opened, &witnesses).await, Agreement::Whole, "{RULE}: after a purge");
}

/// An older copy lacks what was read: the last agreement is the copy's last entry.
pub async fn an_older_copy_disagrees(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    subject.back_up().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    let seen = witnesses(&opened).await;
    subject.restore().await;
    let found = agreement(&subject.open().await, &seen).await;
    let expected =
        Agreement::Lost { agreed: Some(seen[2].position.clone()), lost: seen[1].position.clone(), behind: 0 };
    assert_eq!(found, expected, "an older copy disagrees from its end on");
}

/// An older copy that was written to has other entries under the same numbers; only their commit ids tell.
pub async fn an_older_copy_that_was_written_to_disagrees(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    subject.back_up().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    let seen = witnesses(&opened).await;
    subject.restore().await;
    for _ in 0..3 {
        write(subject, [new_event("a")]).await;
    }
    let found = agreement(&subject.open().await, &seen).await;
    let expected =
        Agreement::Lost { agreed: Some(seen[2].position.clone()), lost: seen[1].position.clone(), behind: 3 };
    assert_eq!(found, expected, "an older copy that was written to disagrees from its end on");
}

/// With nothing in common there is no agreement.
pub async fn another_store_disagrees_wholly(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    subject.back_up().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    let seen = witnesses(&opened).await;
    subject.restore().await;
    write(subject, [new_event("b")]).await;
    let found = agreement(&subject.open().await, &seen).await;
    let expected = Agreement::Lost { agreed: None, lost: seen[1].position.clone(), behind: 1 };
    assert_eq!(found, expected, "another store disagrees wholly");
}

/// Entries written after it are of the new incarnation and go on with the key's numbers; what survived keeps its places.
pub async fn a_raised_incarnation_is_that_of_later_entries(subject: &impl StoreUnderTest) {
    const RULE: &str = "a raised incarnation is that of later entries";
    write(subject, [new_event("a"), new_event("a")]).await;
    let opened = subject.open().await;
    let before = opened.store.identity().await.expect("a store knows who it is").incarnation;
    let agreed = witnesses(&opened).await[0].position.clone();
    let raised = opened.store.raise_incarnation(Some(&agreed), false).await.expect("the incarnation can be raised");
    assert_eq!(raised, before + 1, "{RULE}: it rises by one");
    let opened = subject.open().await;
    assert_eq!(opened.store.identity().await.expect("a store knows who it is").incarnation, raised, "{RULE}");
    write(subject, [new_event("a")]).await;
    let events = events_of(&opened).await;
    let places: Vec<_> = events.iter().filter_map(Event::placing).map(|placing| placing.place.to_string()).collect();
    assert_eq!(places, ["1.1.0", "1.1.1", "2.2.0"], "{RULE}: survivors keep theirs");
    check_chain(RULE, &events, &[("a", 3)]);
}

/// Entries behind the agreement that were written after the loss move into the new incarnation, and the key goes on
/// from there.
pub async fn restamped_entries_are_of_the_new_incarnation(subject: &impl StoreUnderTest) {
    const RULE: &str = "restamped entries are of the new incarnation";
    write(subject, [new_event("a")]).await;
    let opened = subject.open().await;
    let agreed = witnesses(&opened).await[0].position.clone();
    write(subject, [new_event("a"), new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    opened.store.raise_incarnation(Some(&agreed), true).await.expect("the incarnation can be raised");
    let opened = subject.open().await;
    write(subject, [new_event("a")]).await;
    let events = events_of(&opened).await;
    let places: Vec<_> = events.iter().filter_map(Event::placing).map(|placing| placing.place.to_string()).collect();
    assert_eq!(places, ["1.1.0", "2.2.0", "2.2.1", "2.3.0", "2.4.0"], "{RULE}");
    let ids: Vec<_> = events.iter().map(Event::id).collect();
    assert_eq!(ids[1..3], ["a@2.2.0", "a@2.2.1"], "{RULE}: and so are the ids that derive from places");
    check_chain(RULE, &events, &[("a", 5)]);
}

//! Retention: what is published goes, and nothing else.

use super::{events_of, purge};
use crate::{
    event::{Event, NewEvent},
    store::Retention,
    testing::{
        StoreUnderTest, Write,
        conformance::writer::{commit, read_all, write},
        sample::{key, new_event},
    },
    writer::Expected,
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    nothing_is_purged_unless_it_may_be(&fresh().await).await;
    a_purge_by_count_leaves_the_newest(&fresh().await).await;
    a_purge_by_age_leaves_the_younger(&fresh().await).await;
    a_purge_takes_small_batches_to_the_end(&fresh().await).await;
    numbers_go_on_after_a_purge(&fresh().await).await;
}

/// Retention that is off purges nothing, and nothing at or behind the position that every route is past goes ever.
pub async fn nothing_is_purged_unless_it_may_be(subject: &impl StoreUnderTest) {
    const RULE: &str = "nothing is purged unless it may be";
    for _ in 0..5 {
        write(subject, [new_event("a")]).await;
    }
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    let purged = opened.store.purge(&all[4].position, Retention::Off).await.expect("a purge can be asked for");
    assert_eq!((purged.entries, purged.more), (0, false), "{RULE}: retention is off");
    purge(&opened, &all[2].position, Retention::Newest(0)).await;
    let left: Vec<_> = events_of(&opened).await.iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(left, ["a@1.3.0", "a@1.4.0", "a@1.5.0"], "{RULE}: what is not published stays");
}

/// Of the published entries the newest so many stay.
pub async fn a_purge_by_count_leaves_the_newest(subject: &impl StoreUnderTest) {
    const RULE: &str = "a purge by count leaves the newest";
    for _ in 0..8 {
        write(subject, [new_event("a")]).await;
    }
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    purge(&opened, &all[7].position, Retention::Newest(3)).await;
    assert_eq!(events_of(&opened).await.len(), 3, "{RULE}");
    purge(&opened, &all[7].position, Retention::Newest(30)).await;
    assert_eq!(events_of(&opened).await.len(), 3, "{RULE}: no more than there are");
}

/// Of the published entries those recorded at the time or later stay.
pub async fn a_purge_by_age_leaves_the_younger(subject: &impl StoreUnderTest) {
    const RULE: &str = "a purge by age leaves the younger";
    for _ in 0..4 {
        write(subject, [new_event("a")]).await;
    }
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    let oldest = all.iter().map(|record| record.recorded).min().expect("entries were written");
    purge(&opened, &all[3].position, Retention::Before(oldest)).await;
    assert_eq!(events_of(&opened).await.len(), 4, "{RULE}: nothing is older");
    let latest = all.iter().map(|record| record.recorded).max().expect("entries were written");
    let later = latest.checked_add(jiff::SignedDuration::from_secs(1)).expect("the time is in range");
    purge(&opened, &all[3].position, Retention::Before(later)).await;
    assert_eq!(events_of(&opened).await.len(), 1, "{RULE}: everything is older, but the last entry proves the history");
}

/// A purge of much takes several calls, each small, and says so.
pub async fn a_purge_takes_small_batches_to_the_end(subject: &impl StoreUnderTest) {
    const RULE: &str = "a purge takes small batches to the end";
    const ENTRIES: usize = 2_500;
    let keys: Vec<NewEvent> = (0..ENTRIES).map(|number| new_event(&format!("key/{number}"))).collect();
    for some in keys.chunks(500) {
        write(subject, some.to_vec()).await;
    }
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    let passed = &all[ENTRIES - 1].position;
    let (mut calls, mut removed) = (0, 0);
    loop {
        let purged = opened.store.purge(passed, Retention::Newest(0)).await.expect("published entries can be purged");
        calls += 1;
        removed += purged.entries;
        assert!(calls < ENTRIES, "{RULE}: it never ends");
        if !purged.more {
            break;
        }
    }
    assert!(calls > 1, "{RULE}: {ENTRIES} entries went at once");
    assert_eq!(removed, ENTRIES as u64 - 1, "{RULE}: all but the last");
}

/// Heads outlive their entries: a key goes on with its number and names its predecessor though that is gone.
pub async fn numbers_go_on_after_a_purge(subject: &impl StoreUnderTest) {
    const RULE: &str = "numbers go on after a purge";
    write(subject, [new_event("a"), new_event("a")]).await;
    write(subject, [new_event("b")]).await;
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    purge(&opened, &all[1].position, Retention::Newest(0)).await;
    let written = commit(subject, vec![Write { events: vec![new_event("a")], expected: Expected::Sequence(1) }]).await;
    assert!(written.is_ok(), "{RULE}: the version is still known: {written:?}");
    let events = events_of(&opened).await;
    let placing = events.iter().rfind(|event| event.key() == Some(&key("a"))).and_then(Event::placing);
    let placing = placing.expect("an event with a key has a place");
    assert_eq!((placing.place.sequence, placing.after.to_string()), (2, "1.1.1".to_owned()), "{RULE}");
}

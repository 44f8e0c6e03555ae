//! Retention: what is published goes, and nothing else.

use std::sync::Arc;

use super::{events_of, purge};
use crate::{
    event::{Event, NewEvent},
    route::Start,
    source::Limit,
    store::Retention,
    testing::{
        End, StoreUnderTest, Transaction, Write,
        conformance::{
            READS, in_time,
            writer::{check_chain, commit, read_all, write, write_often},
        },
        sample::{key, new_event, registration},
    },
    writer::{Expected, Settled},
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    checks! {
        "`Retention`: what may be purged." => {
            nothing_is_purged_unless_it_may_be(&fresh().await);
            a_purge_by_count_leaves_the_newest(&fresh().await);
            a_purge_by_age_leaves_the_younger(&fresh().await);
        }
        "`BusinessStore::purge` removes one small batch of entries, and delays writers for milliseconds at most." => {
            a_purge_takes_small_batches_to_the_end(&fresh().await);
            a_purge_beside_writers_harms_nobody(Arc::new(fresh().await));
        }
        "Numbers of a key have no gaps, whatever was purged." => {
            numbers_go_on_after_a_purge(&fresh().await);
        }
        "`Settled::Unknown`: the entry with its number has been purged since: it cannot be told." => {
            what_became_of_a_purged_commit_is_not_guessed(&fresh().await);
        }
    }
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

/// A reader that purges what it has passed, while others write, still reads each event once, each key in order.
pub async fn a_purge_beside_writers_harms_nobody<S: StoreUnderTest + 'static>(subject: Arc<S>) {
    const RULE: &str = "a purge beside writers harms nobody";
    let opened = subject.open().await;
    let partition = opened.source.partitions().await.expect("partitions can be listed").remove(0).id;
    let start = opened.source.start(&partition, &registration("beginning", Start::Beginning)).await;
    let mut position = start.expect("a route can start");
    let writers: Vec<_> =
        (0..3).map(|writer| tokio::spawn(write_often(subject.clone(), format!("own{writer}"), 20))).collect();
    let mut events: Vec<Event> = Vec::new();
    let mut reads = 0;
    while events.len() < 120 {
        reads += 1;
        assert!(reads < READS, "{RULE}: {READS} pages, and no end");
        let page = opened.source.read(&partition, &position, Limit { events: 9, bytes: 1 << 20 }).await;
        let page = page.unwrap_or_else(|error| panic!("{RULE}: what was not passed is there: {error}"));
        events.extend(page.records.iter().flat_map(|record| record.events().to_vec()));
        position = page.next;
        if page.records.is_empty() {
            in_time(RULE, opened.source.changed()).await;
        } else if let Err(error) = opened.store.purge(&position, Retention::Newest(0)).await {
            assert!(error.kind().retry(), "{RULE}: {error}");
        }
    }
    for writer in writers {
        in_time(RULE, writer).await.expect("a writer does not panic");
    }
    check_chain(RULE, &events, &[("shared", 60), ("own0", 20), ("own1", 20), ("own2", 20)]);
}

/// Once its entry is purged, a commit is known still or cannot be told: neither that it was made nor that it was not is
/// said without proof.
pub async fn what_became_of_a_purged_commit_is_not_guessed(subject: &impl StoreUnderTest) {
    const RULE: &str = "what became of a purged commit is not guessed";
    write(subject, [new_event("a")]).await;
    let undone = Transaction { writes: vec![Write::any([new_event("a")])], before_end: None, end: End::RollBack };
    let undone = subject.transact(undone).await.expect("a write that is rolled back later succeeds");
    let made = write(subject, [new_event("a")]).await;
    write(subject, [new_event("b")]).await;
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    purge(&opened, &all[2].position, Retention::Newest(0)).await;
    assert_eq!(events_of(&opened).await.len(), 1, "{RULE}: (they are purged)");
    let settled = subject.settled(&made[0]).await;
    assert!(matches!(settled, Settled::Committed | Settled::Unknown), "{RULE}: it was made, not {settled:?}");
    let settled = subject.settled(&undone[0]).await;
    assert!(matches!(settled, Settled::NotCommitted | Settled::Unknown), "{RULE}: it was not made, nor {settled:?}");
}

//! Waking: no commit is slept through.

use std::{collections::BTreeSet, sync::Arc};

use super::{PLENTY, read, read_on, start};
use crate::{
    event::Event,
    route::Start,
    source::{KeyOrder, Limit},
    testing::{
        StoreUnderTest, Write,
        conformance::{
            CHANCE, READS, in_time,
            writer::{check_chain, commit, write, write_often},
        },
        sample::new_event,
    },
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    checks! {
        "`Source::changed` waits until something may have been committed since the last call returned; must return within a bounded time of a commit. May return without cause, but not again and again at once." => {
            a_commit_before_the_wait_wakes(&fresh().await);
            a_commit_during_the_wait_wakes(&fresh().await);
            every_reader_is_woken(&fresh().await);
            a_reader_that_waits_misses_nothing(Arc::new(fresh().await));
            a_wait_rests_while_nothing_is_committed(&fresh().await);
        }
        "Cancellation of `Source::changed`: safe; a wake-up that came is kept for the next call." => {
            a_dropped_wait_loses_no_wake_up(&fresh().await);
        }
    }
}

/// A commit that came before the wait began ends it at once.
pub async fn a_commit_before_the_wait_wakes(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    for _ in 0..3 {
        write(subject, [new_event("a")]).await;
        in_time("a commit before the wait wakes", opened.source.changed()).await;
    }
}

/// A commit that comes during the wait ends it.
pub async fn a_commit_during_the_wait_wakes(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    for _ in 0..3 {
        let wait = in_time("a commit during the wait wakes", opened.source.changed());
        let commit = async {
            tokio::task::yield_now().await;
            write(subject, [new_event("a")]).await;
        };
        futures_util::future::join(wait, commit).await;
    }
}

/// A wait that is dropped takes no wake-up with it.
pub async fn a_dropped_wait_loses_no_wake_up(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    for _ in 0..3 {
        {
            let wait = opened.source.changed();
            tokio::pin!(wait);
            // Polled, so that it is in place when the commit comes, and dropped before it could return.
            let _ = futures_util::FutureExt::now_or_never(wait.as_mut());
            write(subject, [new_event("a")]).await;
        }
        in_time("a dropped wait loses no wake-up", opened.source.changed()).await;
    }
}

/// A reader that reads to the end, waits, and reads on while others write, sees each event once, each key in order.
pub async fn a_reader_that_waits_misses_nothing<S: StoreUnderTest + 'static>(subject: Arc<S>) {
    const RULE: &str = "a reader that waits misses nothing";
    let opened = subject.open().await;
    let (partition, mut position) = start(&opened, Start::Beginning).await;
    let writers: Vec<_> =
        (0..4).map(|writer| tokio::spawn(write_often(subject.clone(), format!("own{writer}"), 25))).collect();
    let mut events: Vec<Event> = Vec::new();
    let mut reads = 0;
    while events.len() < 200 {
        reads += 1;
        assert!(reads < READS, "{RULE}: {READS} pages, and no end");
        let page = read(&*opened.source, &partition, &position, Limit { events: 7, ..PLENTY }).await;
        events.extend(page.records.iter().flat_map(|record| record.events().to_vec()));
        position = page.next;
        if !page.more && events.len() < 200 {
            in_time(RULE, opened.source.changed()).await;
        }
    }
    for writer in writers {
        in_time(RULE, writer).await.expect("a writer does not panic");
    }
    let unique: BTreeSet<_> = events.iter().map(Event::id).collect();
    assert_eq!(unique.len(), 200, "{RULE}: each event once");
    match opened.source.key_order() {
        KeyOrder::Promised => check_chain(RULE, &events, &[("shared", 100), ("own0", 25), ("own3", 25)]),
        KeyOrder::Observed | KeyOrder::None => {}
    }
    commit(&*subject, vec![Write::any([new_event("last")])]).await.expect("a plain write is committed");
    assert_eq!(read_on(&*opened.source, &partition, &position, PLENTY).await.len(), 1, "{RULE}: and goes on");
}

/// A commit wakes everybody who waits, in one process too.
pub async fn every_reader_is_woken(subject: &impl StoreUnderTest) {
    let (one, other) = (subject.open().await, subject.open().await);
    for _ in 0..3 {
        let waits = futures_util::future::join(one.source.changed(), other.source.changed());
        let commit = async {
            tokio::task::yield_now().await;
            write(subject, [new_event("a")]).await;
        };
        futures_util::future::join(in_time("every reader is woken", waits), commit).await;
    }
}

/// Where nothing is committed the wait lasts, or a relay does nothing but read. A poll is no busy loop, nor are some looks
/// after a commit, nor what others do to the same database for a moment: only a source that rests at no time is one.
pub async fn a_wait_rests_while_nothing_is_committed(subject: &impl StoreUnderTest) {
    const RULE: &str = "a wait rests while nothing is committed";
    const WINDOWS: usize = 10;
    const RETURNS: usize = 100;
    let opened = subject.open().await;
    write(subject, [new_event("a")]).await;
    in_time(RULE, opened.source.changed()).await;
    let often = async || {
        for _ in 0..RETURNS {
            opened.source.changed().await;
        }
    };
    for _ in 0..WINDOWS {
        if tokio::time::timeout(CHANCE, often()).await.is_err() {
            return;
        }
    }
    panic!("{RULE}: it ended {} times, each {RETURNS} of them within {CHANCE:?}", WINDOWS * RETURNS);
}

//! Positions: where a route starts, what lies behind, and which are of another history.

use super::{PLENTY, fill, ids, only_partition, read_on, start};
use crate::{
    entry::Position,
    error::ErrorKind,
    route::Start,
    source::PartitionId,
    store::Retention,
    testing::{
        StoreUnderTest,
        conformance::writer::{read_all, write},
        sample::{new_event, registration},
    },
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    checks! {
        "`Source::start`: the position at which a route starts that has no checkpoint yet." => {
            a_start_at_the_beginning_reads_everything(&fresh().await);
            a_start_now_reads_what_is_committed_later(&fresh().await);
            a_start_at_a_time_reads_from_then_on(&fresh().await);
        }
        "`Source::backlog`: what lies behind a position, counted or estimated, and when the oldest of it was recorded." => {
            the_backlog_is_what_lies_behind(&fresh().await);
        }
        "`BusinessStore::purge`: the entry at the position that every route is past stays, as the proof of this history." => {
            a_purge_leaves_the_position_it_was_told_readable(&fresh().await);
        }
        "`Source::read`: `ErrorKind::HistoryChanged` if the position is not one of the store's present history." => {
            an_older_history_is_noticed(&fresh().await);
        }
        "What cannot be kept stops with an error; nothing is skipped in silence (contract 9)." => {
            a_foreign_position_is_refused(&fresh().await);
            an_unknown_partition_is_refused(&fresh().await);
        }
    }
}

/// A route that starts at the beginning reads every entry that is retained.
pub async fn a_start_at_the_beginning_reads_everything(subject: &impl StoreUnderTest) {
    write(subject, [new_event("a")]).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    write(subject, [new_event("a")]).await;
    let read = read_on(&*opened.source, &partition, &beginning, PLENTY).await;
    assert_eq!(read.len(), 2, "a start at the beginning reads everything");
}

/// A route that starts now reads what is committed after its registration, whenever it first asks for its position.
pub async fn a_start_now_reads_what_is_committed_later(subject: &impl StoreUnderTest) {
    const RULE: &str = "a start now reads what is committed after the registration";
    write(subject, [new_event("before")]).await;
    let opened = subject.open().await;
    let registered = opened.store.register(registration("now", Start::Now)).await.expect("a route can be registered");
    write(subject, [new_event("after")]).await;
    let again = opened.store.register(registration("now", Start::Now)).await.expect("a route can be registered again");
    assert_eq!(again.start_position, registered.start_position, "{RULE}: the position is fixed once");
    let partition = only_partition(&*opened.source).await;
    let position = opened.source.start(&partition, &again).await.expect("a route can start");
    let read = read_on(&*opened.source, &partition, &position, PLENTY).await;
    let keys: Vec<_> = read.iter().filter_map(|r| r.events()[0].key().map(ToString::to_string)).collect();
    assert_eq!(keys, ["after"], "{RULE}");
}

/// A route that starts at a time reads from the first entry that was recorded at that time or later.
pub async fn a_start_at_a_time_reads_from_then_on(subject: &impl StoreUnderTest) {
    const RULE: &str = "a start at a time reads from then on";
    fill(subject).await;
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    let partition = only_partition(&*opened.source).await;
    for record in &all {
        let time = record.recorded;
        let position = opened.source.start(&partition, &registration("then", Start::Time(time))).await;
        let position = position.expect("a route can start at a time");
        let read = read_on(&*opened.source, &partition, &position, PLENTY).await;
        let first = all.iter().position(|record| record.recorded >= time).unwrap_or(all.len());
        assert_eq!(ids(&read), ids(&all[first..]), "{RULE}: {time}");
    }
    let latest = all.iter().map(|record| record.recorded).max().expect("entries were written");
    let never = latest.checked_add(jiff::SignedDuration::from_secs(3600)).expect("the time is in range");
    let position = opened.source.start(&partition, &registration("never", Start::Time(never))).await;
    let position = position.expect("a route can start at a time to come");
    let read = read_on(&*opened.source, &partition, &position, PLENTY).await;
    assert!(read.is_empty(), "{RULE}: nothing was recorded then");
}

/// The backlog counts what lies behind a position, or estimates it, and says when the oldest of it was recorded.
pub async fn the_backlog_is_what_lies_behind(subject: &impl StoreUnderTest) {
    const RULE: &str = "the backlog is what lies behind";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, mut position) = start(&opened, Start::Beginning).await;
    let all = read_all(&*opened.source).await;
    for (index, record) in all.iter().enumerate() {
        let backlog = opened.source.backlog(&partition, &position).await.expect("the backlog can be asked for");
        let left = (all.len() - index) as u64;
        assert!(backlog.entries == left || (!backlog.exact && backlog.entries > 0), "{RULE}: {backlog:?}, not {left}");
        assert_eq!(backlog.oldest, Some(record.recorded), "{RULE}: the oldest behind {position}");
        position = record.position.clone();
    }
    let backlog = opened.source.backlog(&partition, &position).await.expect("the backlog can be asked for");
    assert_eq!((backlog.entries, backlog.oldest), (0, None), "{RULE}: nothing");
}

/// The entry at the position that every route is past stays, as the proof of this history, and reading goes on there.
pub async fn a_purge_leaves_the_position_it_was_told_readable(subject: &impl StoreUnderTest) {
    const RULE: &str = "a purge leaves the position it was told readable";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let all = read_all(&*opened.source).await;
    let passed = &all[5].position;
    while opened.store.purge(passed, Retention::Newest(0)).await.expect("published entries can be purged").more {}
    let behind = read_on(&*opened.source, &partition, passed, PLENTY).await;
    assert_eq!(ids(&behind), ids(&all[6..]), "{RULE}: what lies behind it");
    let retained = read_on(&*opened.source, &partition, &beginning, PLENTY).await;
    assert_eq!(ids(&retained), ids(&all[5..]), "{RULE}: from the beginning");
}

/// A position that the store's present history does not have is refused, not read as if nothing had happened.
pub async fn an_older_history_is_noticed(subject: &impl StoreUnderTest) {
    const RULE: &str = "an older history is noticed";
    write(subject, [new_event("a")]).await;
    subject.back_up().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    let opened = subject.open().await;
    let (partition, _) = start(&opened, Start::Beginning).await;
    let all = read_all(&*opened.source).await;
    subject.restore().await;
    let opened = subject.open().await;
    for lost in &all[1..] {
        let kind = opened.source.read(&partition, &lost.position, PLENTY).await.map_err(|error| error.kind());
        assert_eq!(kind.err(), Some(ErrorKind::HistoryChanged), "{RULE}: at {}", lost.position);
    }
    let behind = read_on(&*opened.source, &partition, &all[0].position, PLENTY).await;
    assert!(behind.is_empty(), "{RULE}: what survived is still read");
}

/// What is not a position of this source is an error.
pub async fn a_foreign_position_is_refused(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    let partition = only_partition(&*opened.source).await;
    let read = opened.source.read(&partition, &Position::new("no position, surely"), PLENTY).await;
    assert!(read.is_err(), "a foreign position is refused");
}

/// A partition that the source does not have is an error, not an empty one.
pub async fn an_unknown_partition_is_refused(subject: &impl StoreUnderTest) {
    const RULE: &str = "an unknown partition is refused";
    write(subject, [new_event("a")]).await;
    let opened = subject.open().await;
    let (_, beginning) = start(&opened, Start::Beginning).await;
    let read = opened.source.read(&PartitionId::new("no partition, surely"), &beginning, PLENTY).await;
    assert!(read.is_err(), "{RULE}: {read:?}");
}

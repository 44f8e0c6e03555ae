//! What every source promises.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use super::{
    in_time,
    writer::{check_chain, commit, read_all, write, write_often},
};
use crate::{
    entry::{Position, Record},
    error::ErrorKind,
    event::Event,
    route::Start,
    source::{KeyOrder, Limit, Page, PartitionId, Source},
    store::Retention,
    testing::{
        Opened, StoreUnderTest, Write,
        sample::{keyless, new_event, registration},
    },
};

const PLENTY: Limit = Limit { events: 1_000, bytes: 16 << 20 };

/// Runs every check, each on a fresh backend. They are for sources of one partition whose records come as committed;
/// what a stream's shards do differently is for their own tests.
pub async fn all<S: StoreUnderTest + 'static>(fresh: impl AsyncFn() -> S) {
    an_empty_store_reads_as_nothing(&fresh().await).await;
    pages_of_any_size_give_the_same_records(&fresh().await).await;
    a_page_holds_to_its_limits(&fresh().await).await;
    at_least_one_record_is_given(&fresh().await).await;
    the_same_position_reads_the_same_records(&fresh().await).await;
    positions_rise(&fresh().await).await;
    more_is_said_only_if_there_is_more(&fresh().await).await;
    a_second_reader_sees_the_same(&fresh().await).await;
    a_start_at_the_beginning_reads_everything(&fresh().await).await;
    a_start_now_reads_what_is_committed_later(&fresh().await).await;
    a_start_at_a_time_reads_from_then_on(&fresh().await).await;
    the_backlog_is_what_lies_behind(&fresh().await).await;
    a_purge_leaves_the_position_it_was_told_readable(&fresh().await).await;
    an_older_history_is_noticed(&fresh().await).await;
    a_foreign_position_is_refused(&fresh().await).await;
    a_commit_before_the_wait_wakes(&fresh().await).await;
    a_commit_during_the_wait_wakes(&fresh().await).await;
    a_dropped_wait_loses_no_wake_up(&fresh().await).await;
    a_reader_that_waits_misses_nothing(Arc::new(fresh().await)).await;
}

async fn only_partition(source: &dyn Source) -> PartitionId {
    let mut partitions = source.partitions().await.expect("partitions can be listed");
    assert_eq!(partitions.len(), 1, "this suite is for sources of one partition");
    partitions.remove(0).id
}

async fn start(opened: &Opened, start: Start) -> (PartitionId, Position) {
    let partition = only_partition(&*opened.source).await;
    let registered = opened.store.register(registration("route", start)).await.expect("a route can be registered");
    let position = opened.source.start(&partition, &registered).await.expect("a route can start");
    (partition, position)
}

async fn read(source: &dyn Source, partition: &PartitionId, after: &Position, limit: Limit) -> Page {
    source.read(partition, after, limit).await.expect("entries can be read")
}

/// Reads on until there is no more.
async fn read_on(source: &dyn Source, partition: &PartitionId, after: &Position, limit: Limit) -> Vec<Arc<Record>> {
    let mut records = Vec::new();
    let mut position = after.clone();
    loop {
        let page = read(source, partition, &position, limit).await;
        records.extend(page.records);
        position = page.next;
        if !page.more {
            return records;
        }
    }
}

fn ids<'a>(records: impl IntoIterator<Item = &'a Arc<Record>>) -> Vec<String> {
    records.into_iter().flat_map(|record| record.events()).map(|event| event.id().to_owned()).collect()
}

/// Ten entries of three keys and none, with one to three events.
async fn fill(subject: &impl StoreUnderTest) {
    for number in 0..10 {
        let event = if number % 4 == 3 { keyless(None) } else { new_event(["a", "b", "c", ""][number % 4]) };
        let count = if event.key().is_some() { 1 + number % 3 } else { 1 };
        write(subject, vec![event; count]).await;
    }
}

/// Nothing there is no error, no end, and nothing more.
pub async fn an_empty_store_reads_as_nothing(subject: &impl StoreUnderTest) {
    const RULE: &str = "an empty store reads as nothing";
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let page = read(&*opened.source, &partition, &beginning, PLENTY).await;
    assert!(page.records.is_empty() && !page.more && !page.end, "{RULE}: {page:?}");
    let again = read(&*opened.source, &partition, &page.next, PLENTY).await;
    assert!(again.records.is_empty() && !again.more && !again.end, "{RULE}: {again:?}");
}

/// Whatever the limits, going on at `next` gives each record once and in the same order.
pub async fn pages_of_any_size_give_the_same_records(subject: &impl StoreUnderTest) {
    const RULE: &str = "pages of any size give the same records";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let whole = ids(&read_on(&*opened.source, &partition, &beginning, PLENTY).await);
    for limit in [
        Limit { events: 1, ..PLENTY },
        Limit { events: 2, ..PLENTY },
        Limit { events: 5, ..PLENTY },
        Limit { bytes: 1, ..PLENTY },
        Limit { bytes: 1_000, ..PLENTY },
    ] {
        let paged = ids(&read_on(&*opened.source, &partition, &beginning, limit).await);
        assert_eq!(paged, whole, "{RULE}: {limit:?}");
    }
}

/// A page has no more events and bytes than asked for, unless it is a single record.
pub async fn a_page_holds_to_its_limits(subject: &impl StoreUnderTest) {
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    for limit in [Limit { events: 4, ..PLENTY }, Limit { bytes: 1_500, ..PLENTY }] {
        let mut position = beginning.clone();
        loop {
            let page = read(&*opened.source, &partition, &position, limit).await;
            let events: usize = page.records.iter().map(|record| record.len()).sum();
            let bytes: usize = page.records.iter().map(|record| record.weight()).sum();
            let within = events <= limit.events && bytes <= limit.bytes;
            assert!(within || page.records.len() == 1, "a page holds to its limits: {events} events, {bytes} bytes");
            position = page.next;
            if !page.more {
                break;
            }
        }
    }
}

/// A record larger than any limit is given nevertheless, or nothing would ever go on.
pub async fn at_least_one_record_is_given(subject: &impl StoreUnderTest) {
    write(subject, vec![new_event("a"); 20]).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let page = read(&*opened.source, &partition, &beginning, Limit { events: 1, bytes: 1 }).await;
    assert_eq!(page.records.len(), 1, "at least one record is given");
}

/// Reading consumes nothing: each position reads the same records again, with the same ids and commit ids.
pub async fn the_same_position_reads_the_same_records(subject: &impl StoreUnderTest) {
    const RULE: &str = "the same position reads the same records";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let whole = read_on(&*opened.source, &partition, &beginning, PLENTY).await;
    let mut position = beginning;
    for (index, record) in whole.iter().enumerate() {
        for _ in 0..2 {
            let page = read(&*opened.source, &partition, &position, PLENTY).await;
            assert_eq!(ids(&page.records), ids(&whole[index..]), "{RULE}: behind {position}");
            let commits = |records: &[Arc<Record>]| records.iter().map(|record| record.commit).collect::<Vec<_>>();
            assert_eq!(commits(&page.records), commits(&whole[index..]), "{RULE}: behind {position}");
        }
        position = record.position.clone();
    }
}

/// Each record's position comes behind the one before it, by the source's own order.
pub async fn positions_rise(subject: &impl StoreUnderTest) {
    const RULE: &str = "positions rise";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let mut before = beginning;
    for record in read_on(&*opened.source, &partition, &before, PLENTY).await {
        let order = |left, right| opened.source.order(left, right);
        assert_eq!(order(&before, &record.position), Ordering::Less, "{RULE}: {before} and {}", record.position);
        assert_eq!(order(&record.position, &before), Ordering::Greater, "{RULE}: {before} and {}", record.position);
        assert_eq!(order(&record.position, &record.position), Ordering::Equal, "{RULE}");
        before = record.position.clone();
    }
}

/// `more` is not said at the end, where it would make a reader spin, and is said before it.
pub async fn more_is_said_only_if_there_is_more(subject: &impl StoreUnderTest) {
    const RULE: &str = "more is said only if there is more";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let mut position = beginning;
    let mut read_so_far = 0;
    loop {
        let page = read(&*opened.source, &partition, &position, Limit { events: 1, ..PLENTY }).await;
        read_so_far += page.records.len();
        position = page.next;
        assert!(!page.end, "{RULE}: a table never ends");
        if !page.more {
            break;
        }
    }
    assert_eq!(read_so_far, 10, "{RULE}: it ended too early");
    let behind = read(&*opened.source, &partition, &position, PLENTY).await;
    assert!(behind.records.is_empty() && !behind.more, "{RULE}: nothing is left");
}

/// Another process reads the same records by the same positions.
pub async fn a_second_reader_sees_the_same(subject: &impl StoreUnderTest) {
    fill(subject).await;
    let (first, second) = (subject.open().await, subject.open().await);
    let (partition, beginning) = start(&first, Start::Beginning).await;
    let one = read_on(&*first.source, &partition, &beginning, PLENTY).await;
    let other = read_on(&*second.source, &partition, &beginning, PLENTY).await;
    let positions = |records: &[Arc<Record>]| records.iter().map(|r| r.position.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&one), positions(&one)), (ids(&other), positions(&other)), "a second reader sees the same");
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
            let _ = futures_util::poll!(wait.as_mut());
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
    while events.len() < 200 {
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

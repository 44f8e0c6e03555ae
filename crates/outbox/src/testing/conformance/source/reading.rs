//! Reading: everything once, in order, page by page.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, PoisonError},
};

use super::{PLENTY, fill, ids, read, read_on, start};
use crate::{
    entry::Record,
    route::Start,
    source::Limit,
    testing::{
        End, StoreUnderTest, Transaction, Write,
        conformance::{
            CHANCE, CUTS, cut, in_time,
            writer::{assert_progress, commit, write},
        },
        sample::new_event,
    },
    writer::WriteError,
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    checks! {
        "`Source::read` reads what was committed behind a position, at once, even if that is nothing." => {
            an_empty_store_reads_as_nothing(&fresh().await);
            what_commits_late_is_not_passed_by(Arc::new(fresh().await));
        }
        "`Page::next`: behind the last record, or further where there was nothing to hand out." => {
            pages_of_any_size_give_the_same_records(&fresh().await);
        }
        "`Limit`: how much to read at most; at least one record is given if there is one, whatever its size." => {
            a_page_holds_to_its_limits(&fresh().await);
            at_least_one_record_is_given(&fresh().await);
            limits_hold_at_their_edges(&fresh().await);
        }
        "Duplicates: the same position reads the same records, for every reader." => {
            the_same_position_reads_the_same_records(&fresh().await);
            a_second_reader_sees_the_same(&fresh().await);
            who_is_behind_reads_on_whoever_read_further_before(&fresh().await);
        }
        "`Source::order`: which of two positions of one partition comes first." => {
            positions_rise(&fresh().await);
        }
        "`Page::more`: whether more can be read at once, without waiting for `Source::changed`." => {
            more_is_said_only_if_there_is_more(&fresh().await);
        }
        "Cancellation of `Source::read`: safe; nothing is consumed by reading." => {
            a_dropped_read_consumes_nothing(&fresh().await);
        }
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

/// A source that was opened anew, as after a crash, is read from wherever its routes stand: what one of them reads further on
/// takes nothing from those behind it.
pub async fn who_is_behind_reads_on_whoever_read_further_before(subject: &impl StoreUnderTest) {
    const RULE: &str = "who is behind reads on, whoever read further before";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let all = read_on(&*opened.source, &partition, &beginning, PLENTY).await;
    for limit in [PLENTY, Limit { events: 1, ..PLENTY }] {
        let opened = subject.open().await;
        for (index, record) in all.iter().enumerate().rev() {
            let behind = read_on(&*opened.source, &partition, &record.position, limit).await;
            assert_eq!(ids(&behind), ids(&all[index + 1..]), "{RULE}: behind {}", record.position);
        }
    }
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
            assert_progress(&position, &page);
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
        assert_progress(&position, &page);
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

/// Another process reads the same records, behind the same positions too, and names them the same.
pub async fn a_second_reader_sees_the_same(subject: &impl StoreUnderTest) {
    fill(subject).await;
    let (first, second) = (subject.open().await, subject.open().await);
    let (partition, beginning) = start(&first, Start::Beginning).await;
    let one = read_on(&*first.source, &partition, &beginning, PLENTY).await;
    let other = read_on(&*second.source, &partition, &beginning, PLENTY).await;
    let names = |records: &[Arc<Record>]| records.iter().map(|r| r.position.record().to_owned()).collect::<Vec<_>>();
    assert_eq!((ids(&one), names(&one)), (ids(&other), names(&other)), "a second reader sees the same");
    for (index, record) in one.iter().enumerate() {
        let behind = read_on(&*second.source, &partition, &record.position, PLENTY).await;
        assert_eq!(ids(&behind), ids(&one[index + 1..]), "a second reader sees the same behind {}", record.position);
    }
}

/// Limits of nothing give one record, and limits beyond everything give everything.
pub async fn limits_hold_at_their_edges(subject: &impl StoreUnderTest) {
    const RULE: &str = "limits hold at their edges";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let whole = read_on(&*opened.source, &partition, &beginning, PLENTY).await;
    let at_most = async |events, bytes| {
        let page = read(&*opened.source, &partition, &beginning, Limit { events, bytes }).await;
        (page.records.len(), page.more)
    };
    assert_eq!(at_most(0, 0).await, (1, true), "{RULE}: of nothing");
    assert_eq!(at_most(usize::MAX, usize::MAX).await, (whole.len(), false), "{RULE}: beyond everything");
    let (events, bytes) =
        whole[..3].iter().fold((0, 0), |(events, bytes), record| (events + record.len(), bytes + record.weight()));
    assert_eq!(at_most(events, usize::MAX).await, (3, true), "{RULE}: of exactly three records' events");
    assert_eq!(at_most(usize::MAX, bytes).await, (3, true), "{RULE}: of exactly three records' bytes");
}

/// A reader that is stopped in the middle of a read takes nothing from the next one.
pub async fn a_dropped_read_consumes_nothing(subject: &impl StoreUnderTest) {
    const RULE: &str = "a dropped read consumes nothing";
    fill(subject).await;
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let whole = ids(&read_on(&*opened.source, &partition, &beginning, PLENTY).await);
    for polls in 0..=CUTS {
        cut(opened.source.read(&partition, &beginning, Limit { events: 3, ..PLENTY }), polls).await;
        let again = in_time(RULE, read_on(&*opened.source, &partition, &beginning, PLENTY)).await;
        assert_eq!(ids(&again), whole, "{RULE}");
    }
}

/// A transaction that began early and commits late is read, though others that began later were read before it: neither a
/// number nor a time that was given at its beginning is a position.
pub async fn what_commits_late_is_not_passed_by<S: StoreUnderTest + 'static>(subject: Arc<S>) {
    const RULE: &str = "what commits late is not passed by";
    let opened = subject.open().await;
    let (partition, beginning) = start(&opened, Start::Beginning).await;
    let seen = Arc::new(Mutex::new(None));
    let meanwhile = {
        let (subject, seen) = (subject.clone(), seen.clone());
        let (source, partition) = (opened.source.clone(), partition.clone());
        async move {
            let mut other = tokio::spawn(async move { write_surely(&*subject, "later").await });
            // Where writers wait for each other it ends only after this transaction.
            let other = tokio::time::timeout(CHANCE, &mut other).await.is_err().then_some(other);
            let page = read(&*source, &partition, &beginning, PLENTY).await;
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((ids(&page.records), page.next, other));
        }
    };
    let writes = vec![Write::any([new_event("early")])];
    let early = Transaction { writes, before_end: Some(Box::pin(meanwhile)), end: End::Commit };
    subject.transact(early).await.expect("nobody else writes to its key");
    let (mut read, next, other) = seen.lock().unwrap_or_else(PoisonError::into_inner).take().expect("it was read");
    if let Some(other) = other {
        in_time(RULE, other).await.expect("a writer does not panic");
    }
    read.extend(ids(&read_on(&*opened.source, &partition, &next, PLENTY).await));
    read.sort();
    assert_eq!(read, ["early@1.1.0", "later@1.1.0"], "{RULE}: each is read once");
}

/// Writes an event of `name`, again if it is told to run again.
async fn write_surely(subject: &impl StoreUnderTest, name: &str) {
    loop {
        match commit(subject, vec![Write::any([new_event(name)])]).await {
            Ok(_) => return,
            Err(WriteError::RetryTransaction { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("nobody else writes to its key: {error}"),
        }
    }
}

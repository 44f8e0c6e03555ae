//! Reading: everything once, in order, page by page.

use std::{cmp::Ordering, sync::Arc};

use super::{PLENTY, fill, ids, read, read_on, start};
use crate::{
    entry::Record,
    route::Start,
    source::Limit,
    testing::{
        StoreUnderTest,
        conformance::writer::{assert_progress, write},
        sample::new_event,
    },
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    an_empty_store_reads_as_nothing(&fresh().await).await;
    pages_of_any_size_give_the_same_records(&fresh().await).await;
    a_page_holds_to_its_limits(&fresh().await).await;
    at_least_one_record_is_given(&fresh().await).await;
    the_same_position_reads_the_same_records(&fresh().await).await;
    positions_rise(&fresh().await).await;
    more_is_said_only_if_there_is_more(&fresh().await).await;
    a_second_reader_sees_the_same(&fresh().await).await;
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

//! What every writer promises.
//!
//! A writer is no trait, for each driver has transactions of its own: implement [`WriterUnderTest`], which runs a
//! transaction as the suite asks for. The checks of open and simultaneous transactions are in [`at_once`], those of what
//! events hold in [`content`], those of limits in [`edges`].
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use outbox::{
//!     Receipt, Source, WriteError,
//!     memory::{ManualClock, MemoryStore, SeededEntropy},
//!     testing::{End, Transaction, WriterUnderTest, conformance},
//!     writer::Settled,
//! };
//!
//! struct Service(MemoryStore);
//!
//! #[async_trait]
//! impl WriterUnderTest for Service {
//!     async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
//!         let mut transaction = self.0.transaction(); // dropped, it is rolled back
//!         let mut receipts = Vec::new();
//!         for write in asked.writes {
//!             receipts.extend(transaction.write_expecting(write.expected, write.events)?);
//!         }
//!         if let Some(before_end) = asked.before_end {
//!             before_end.await;
//!         }
//!         if asked.end == End::Commit {
//!             transaction.commit()?;
//!         }
//!         Ok(receipts)
//!     }
//!
//!     async fn settled(&self, receipt: &Receipt) -> Settled {
//!         self.0.settle(receipt)
//!     }
//!
//!     async fn source(&self) -> Arc<dyn Source> {
//!         Arc::new(self.0.reopen())
//!     }
//! }
//!
//! # fn fresh() -> Service {
//! #     let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1)));
//! #     Service(MemoryStore::new("/orders", clock, entropy).unwrap())
//! # }
//! # stringify!(
//! #[tokio::test(flavor = "multi_thread")]
//! # );
//! async fn my_writer_conforms() {
//!     conformance::writer::all(async || fresh()).await;
//! }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(my_writer_conforms());
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    entry::{Position, Record},
    event::{Event, NewEvent},
    place::Place,
    source::{Limit, Page, Source},
    testing::{
        End, Transaction, Write, WriterUnderTest,
        sample::{key, keyless, new_event},
    },
    writer::{MAX_ENTRY_EVENTS, Receipt, Settled, WriteError},
};

pub mod at_once;
pub mod content;
pub mod edges;

pub(super) use at_once::write_often;

use at_once::{
    a_dropped_transaction_leaves_nothing, an_open_write_and_another_of_its_key_share_no_number,
    concurrent_writers_leave_no_gap, of_writers_that_expect_one_version_one_commits,
    writers_of_the_same_keys_do_not_wait_in_a_circle,
};
use content::{a_committed_event_is_read_as_it_was_written, payloads_are_kept_byte_for_byte};
use edges::{
    a_lost_answer_for_events_without_a_key_can_be_settled, a_refused_call_leaves_the_transaction_as_it_was,
    an_entry_of_too_many_bytes_is_refused, keys_that_look_alike_are_apart,
};

/// Runs every check, each on a fresh backend.
pub async fn all<W: WriterUnderTest + 'static>(fresh: impl AsyncFn() -> W) {
    checks! {
        "An event exists if and only if its transaction committed (contract 1)." => {
            what_was_rolled_back_never_appears(&fresh().await);
            what_is_not_committed_is_not_seen(&fresh().await);
            a_dropped_transaction_leaves_nothing(&fresh().await);
            an_error_leaves_nothing_of_the_transaction(&fresh().await);
        }
        "A relay publishes what was written: attributes, extensions and payload, byte for byte." => {
            a_committed_event_is_read_as_it_was_written(&fresh().await);
            payloads_are_kept_byte_for_byte(&fresh().await);
        }
        "A key's entries are numbered 1, 2, 3 … without gaps, and each event names its predecessor." => {
            numbers_of_a_key_have_no_gaps_and_name_their_predecessor(&fresh().await);
            a_rolled_back_number_is_given_again(&fresh().await);
            several_writes_of_one_transaction_follow_each_other(&fresh().await);
            keys_that_look_alike_are_apart(&fresh().await);
        }
        "The events of one call become one entry for each key, in the caller's order, then one for each event without a key (`writer::plan`)." => {
            events_of_one_call_and_key_are_one_entry(&fresh().await);
            events_without_a_key_are_entries_of_their_own(&fresh().await);
        }
        "`Expected::Sequence`: a write from another version is a `WriteError::Conflict`." => {
            the_expected_version_has_to_be_current(&fresh().await);
            of_writers_that_expect_one_version_one_commits(Arc::new(fresh().await));
        }
        "`WriteError`: the caller's transaction is as it was before the call, unless the error says otherwise." => {
            a_refused_call_leaves_the_transaction_as_it_was(&fresh().await);
        }
        "An entry holds `MAX_ENTRY_EVENTS` events and `MAX_ENTRY_BYTES` payload bytes; `WriteError::EntryTooLarge` beyond." => {
            an_entry_that_is_too_large_is_refused(&fresh().await);
            an_entry_of_too_many_bytes_is_refused(&fresh().await);
        }
        "`Receipt` and `Settled`: a receipt names the entry, and settles a lost commit answer." => {
            a_receipt_names_what_was_written(&fresh().await);
            a_lost_commit_answer_can_be_settled(&fresh().await);
            a_lost_answer_for_events_without_a_key_can_be_settled(&fresh().await);
        }
        "Two writers of one key cannot both take a number, and keys are taken in sorted order, so that writers never wait for each other in a circle." => {
            concurrent_writers_leave_no_gap(Arc::new(fresh().await));
            an_open_write_and_another_of_its_key_share_no_number(Arc::new(fresh().await));
            writers_of_the_same_keys_do_not_wait_in_a_circle(Arc::new(fresh().await));
        }
    }
}

/// Makes `writes` in one transaction and commits it.
pub(super) async fn commit(
    writer: &(impl WriterUnderTest + ?Sized),
    calls: Vec<Write>,
) -> Result<Vec<Receipt>, WriteError> {
    writer.transact(Transaction { writes: calls, before_end: None, end: End::Commit }).await
}

/// Commits `events` in one call of the writer.
pub(super) async fn write(writer: &(impl WriterUnderTest + ?Sized), events: impl Into<Vec<NewEvent>>) -> Vec<Receipt> {
    commit(writer, vec![Write::any(events)]).await.expect("a plain write is committed")
}

/// Reads everything of every partition from the beginning.
pub(super) async fn read_all(source: &dyn Source) -> Vec<Arc<Record>> {
    let beginning = crate::testing::sample::registration("beginning", crate::route::Start::Beginning);
    let mut records = Vec::new();
    for partition in source.partitions().await.expect("partitions can be listed") {
        let mut position = source.start(&partition.id, &beginning).await.expect("a route can start");
        loop {
            let limit = Limit { events: 1_000, bytes: 16 << 20 };
            let page = source.read(&partition.id, &position, limit).await.expect("entries can be read");
            assert_progress(&position, &page);
            records.extend(page.records);
            position = page.next;
            if !page.more {
                break;
            }
        }
    }
    records
}

/// A reader that is told of more and given nothing would spin for ever.
pub(super) fn assert_progress(after: &Position, page: &Page) {
    assert!(!page.more || page.next != *after, "a page that says there is more gets on: it stays at {after}");
}

async fn events_of(writer: &impl WriterUnderTest) -> Vec<Event> {
    let records = read_all(&*writer.source().await).await;
    records.iter().flat_map(|record| record.events().to_vec()).collect()
}

/// A transaction that is rolled back leaves no event.
pub async fn what_was_rolled_back_never_appears(writer: &impl WriterUnderTest) {
    let calls = vec![Write::any([new_event("a"), keyless(None)])];
    let rolled_back = Transaction { writes: calls, before_end: None, end: End::RollBack };
    writer.transact(rolled_back).await.expect("a write that is rolled back later succeeds");
    write(writer, [new_event("b")]).await;
    let keys: Vec<_> = events_of(writer).await.iter().map(|event| event.key().cloned()).collect();
    assert_eq!(keys, [Some(key("b"))], "what was rolled back never appears");
}

/// Rolling back gives the number free, so that a key has no gap.
pub async fn a_rolled_back_number_is_given_again(writer: &impl WriterUnderTest) {
    write(writer, [new_event("a")]).await;
    let rolled_back = Transaction { writes: vec![Write::any([new_event("a")])], before_end: None, end: End::RollBack };
    writer.transact(rolled_back).await.expect("a write that is rolled back later succeeds");
    let receipts = write(writer, [new_event("a")]).await;
    let sequence = receipts[0].first.map(|place| place.sequence);
    assert_eq!(sequence, Some(2), "a rolled back number is given again");
}

/// While a transaction is open nobody reads what it wrote.
pub async fn what_is_not_committed_is_not_seen(writer: &impl WriterUnderTest) {
    let source = writer.source().await;
    let look = async move {
        let seen = read_all(&*source).await.len();
        assert_eq!(seen, 0, "what is not committed is not seen");
    };
    let transaction = Transaction {
        writes: vec![Write::any([new_event("a"), keyless(None)])],
        before_end: Some(Box::pin(look)),
        end: End::Commit,
    };
    writer.transact(transaction).await.expect("the write is committed");
    assert_eq!(events_of(writer).await.len(), 2, "what is committed is seen");
}

/// Entries of a key are numbered 1, 2, 3 …, and each event names the place of the one before it.
pub async fn numbers_of_a_key_have_no_gaps_and_name_their_predecessor(writer: &impl WriterUnderTest) {
    const RULE: &str = "numbers of a key have no gaps, and each event names its predecessor";
    for count in [1, 3, 1, 2] {
        write(writer, vec![new_event("a"); count]).await;
        write(writer, [new_event("b")]).await;
    }
    check_chain(RULE, &events_of(writer).await, &[("a", 7), ("b", 4)]);
}

/// Checks that each key's events are there, as many as named, and each is next in turn behind the one before it.
pub(super) fn check_chain(rule: &str, events: &[Event], counts: &[(&str, usize)]) {
    let mut marks = BTreeMap::<&str, (Place, usize)>::new();
    for event in events {
        let Some(key) = event.key() else { continue };
        let placing = event.placing().unwrap_or_else(|| panic!("{rule}: `{}` has no place", event.id()));
        let (mark, seen) = marks.entry(key.as_str()).or_insert((Place::ORIGIN, 0));
        assert_eq!(placing.after, *mark, "{rule}: `{}` names another predecessor", event.id());
        let next_entry = placing.place.sequence == mark.sequence + 1 && placing.place.index == 0;
        let same_entry = placing.place.sequence == mark.sequence && placing.place.index == mark.index + 1;
        assert!(next_entry || (same_entry && *seen > 0), "{rule}: {} does not follow {mark}", placing.place);
        assert!(placing.place.index < placing.count, "{rule}: {} of {} events", placing.place, placing.count);
        (*mark, *seen) = (placing.place, *seen + 1);
    }
    for (key, count) in counts {
        assert_eq!(marks.get(key).map_or(0, |(_, seen)| *seen), *count, "{rule}: events of `{key}`");
    }
}

/// One call makes one entry of each key's events, in the caller's order, with indexes from 0.
pub async fn events_of_one_call_and_key_are_one_entry(writer: &impl WriterUnderTest) {
    const RULE: &str = "events of one call and key are one entry";
    let numbered = |key: &str, n: u32| NewEvent::builder(format!("t{n}")).key(key).json(&n).build();
    let events = [numbered("b", 0), numbered("a", 1), numbered("b", 2), numbered("b", 3)];
    let events: Vec<_> = events.into_iter().map(|event| event.expect("the sample is valid")).collect();
    write(writer, events).await;
    let records = read_all(&*writer.source().await).await;
    assert_eq!(records.len(), 2, "{RULE}: one for each key");
    for record in records {
        let events = record.events();
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        let expected: &[&str] = if events[0].key() == Some(&key("a")) { &["t1"] } else { &["t0", "t2", "t3"] };
        assert_eq!(kinds, expected, "{RULE}: in the caller's order");
        for (index, event) in events.iter().enumerate() {
            let placing = event.placing().expect("an event with a key has a place");
            assert_eq!(placing.place.index as usize, index, "{RULE}: indexes from 0");
            assert_eq!(placing.count as usize, events.len(), "{RULE}: its count");
        }
    }
}

/// Several writes of one key in one transaction become one entry or consecutive ones.
pub async fn several_writes_of_one_transaction_follow_each_other(writer: &impl WriterUnderTest) {
    const RULE: &str = "several writes of one transaction follow each other";
    let calls = vec![Write::any([new_event("a")]), Write::any([new_event("a"), new_event("a")])];
    commit(writer, calls).await.expect("the writes are committed");
    check_chain(RULE, &events_of(writer).await, &[("a", 3)]);
}

/// An event without a key has no place, and an id of its own or the caller's.
pub async fn events_without_a_key_are_entries_of_their_own(writer: &impl WriterUnderTest) {
    const RULE: &str = "events without a key are entries of their own";
    write(writer, [keyless(None), keyless(Some("mine")), keyless(None)]).await;
    let records = read_all(&*writer.source().await).await;
    assert_eq!(records.len(), 3, "{RULE}");
    let events: Vec<_> = records.iter().flat_map(|record| record.events()).collect();
    assert!(events.iter().all(|event| event.key().is_none() && event.placing().is_none()), "{RULE}: without a place");
    let ids: BTreeSet<_> = events.iter().map(|event| event.id()).collect();
    assert_eq!(ids.len(), 3, "{RULE}: each with an id of its own");
    assert!(ids.contains("mine"), "{RULE}: or the caller's");
}

/// A write from another version than the current one is a conflict that names both.
pub async fn the_expected_version_has_to_be_current(writer: &impl WriterUnderTest) {
    const RULE: &str = "the expected version has to be current";
    for sequence in 0..3 {
        let written = commit(writer, vec![Write::at(sequence, [new_event("a")])]).await;
        assert!(written.is_ok(), "{RULE}: {sequence} is current");
    }
    for stale in [0, 2, 4, u64::MAX >> 1] {
        match commit(writer, vec![Write::at(stale, [new_event("a")])]).await {
            Err(WriteError::Conflict { key: named, expected, actual }) => {
                assert_eq!((named, expected, actual), (key("a"), stale, 3), "{RULE}: the conflict names both");
            }
            other => panic!("{RULE}: {stale} is not current, and yet: {other:?}"),
        }
    }
    assert_eq!(events_of(writer).await.len(), 3, "{RULE}: a conflict writes nothing");
}

/// After an error nothing is left of the transaction, the writes before the error included.
pub async fn an_error_leaves_nothing_of_the_transaction(writer: &impl WriterUnderTest) {
    let calls = vec![Write::any([new_event("a")]), Write::at(7, [new_event("b")])];
    commit(writer, calls).await.expect_err("version 7 is not current");
    let left = events_of(writer).await.len();
    assert_eq!(left, 0, "an error leaves nothing of the transaction");
}

/// More events than an entry takes are refused, not cut.
pub async fn an_entry_that_is_too_large_is_refused(writer: &impl WriterUnderTest) {
    const RULE: &str = "an entry that is too large is refused";
    let error = commit(writer, vec![Write::any(vec![new_event("a"); MAX_ENTRY_EVENTS + 1])]).await;
    assert!(matches!(error, Err(WriteError::EntryTooLarge { .. })), "{RULE}: {error:?}");
    write(writer, vec![new_event("a"); MAX_ENTRY_EVENTS]).await;
    assert_eq!(events_of(writer).await.len(), MAX_ENTRY_EVENTS, "{RULE}: the largest is taken");
}

/// A receipt holds the key, place, count and commit id that are read later.
pub async fn a_receipt_names_what_was_written(writer: &impl WriterUnderTest) {
    const RULE: &str = "a receipt names what was written";
    let receipts = write(writer, [new_event("b"), new_event("a"), new_event("b"), keyless(None)]).await;
    let records = read_all(&*writer.source().await).await;
    assert_eq!(receipts.len(), records.len(), "{RULE}: one an entry");
    for receipt in receipts {
        let record = records
            .iter()
            .find(|record| record.commit == receipt.commit && { record.events()[0].key() == receipt.key.as_ref() });
        let record = record.unwrap_or_else(|| panic!("{RULE}: no entry of commit {}", receipt.commit));
        let events = record.events();
        assert_eq!(events[0].placing().map(|placing| placing.place), receipt.first, "{RULE}: its place");
        assert_eq!(events.len(), receipt.count as usize, "{RULE}: its count");
    }
}

/// A commit id tells whether a commit whose answer was lost took place.
pub async fn a_lost_commit_answer_can_be_settled(writer: &impl WriterUnderTest) {
    const RULE: &str = "a lost commit answer can be settled";
    let committed = write(writer, [new_event("a")]).await;
    assert_eq!(writer.settled(&committed[0]).await, Settled::Committed, "{RULE}: it is there");
    let rolled_back = Transaction { writes: vec![Write::any([new_event("a")])], before_end: None, end: End::RollBack };
    let rolled_back = writer.transact(rolled_back).await.expect("a write that is rolled back later succeeds");
    assert_eq!(writer.settled(&rolled_back[0]).await, Settled::NotCommitted, "{RULE}: it is not");
    write(writer, [new_event("a")]).await;
    let settled = writer.settled(&rolled_back[0]).await;
    assert_eq!(settled, Settled::NotCommitted, "{RULE}: another commit has its number");
    assert_eq!(writer.settled(&committed[0]).await, Settled::Committed, "{RULE}: for ever");
}

//! Edges: the largest entry, keys that look alike, and what a refused call leaves.

use super::{check_chain, commit, events_of, write};
use crate::{
    event::{MAX_KEY_BYTES, NewEvent},
    testing::{
        End, Transaction, Write, WriterUnderTest,
        conformance::passed_over,
        sample::{keyless, new_event},
    },
    writer::{MAX_ENTRY_BYTES, MAX_ENTRY_EVENTS, Settled, WriteError},
};

/// Keys that a careless collation takes for one another, and the longest one.
pub(in crate::testing) fn look_alikes() -> Vec<String> {
    let names = ["k", "K", "k ", " k", "1", "01", "1.0", "é", "e\u{301}", "ß", "ss", "%", "_", "'", "\\", "\u{1f600}"];
    let mut names: Vec<_> = names.map(str::to_owned).into();
    names.push("x".repeat(MAX_KEY_BYTES));
    names
}

/// Keys are told apart byte by byte: case, spaces at their ends, accents and their composition count.
pub async fn keys_that_look_alike_are_apart(writer: &impl WriterUnderTest) {
    let names = look_alikes();
    for _ in 0..2 {
        for name in &names {
            write(writer, [new_event(name)]).await;
        }
    }
    let counts: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    check_chain("keys that look alike are apart", &events_of(writer).await, &counts);
}

/// Payloads as large as the store takes, 8 MiB in all unless it says otherwise, are taken; what is larger by more than the
/// few bytes of their frame is refused, not cut.
pub async fn an_entry_of_too_many_bytes_is_refused(writer: &impl WriterUnderTest) {
    const RULE: &str = "an entry of too many bytes is refused";
    const EVENTS: usize = 8;
    const FRAME: usize = 16 << 10;
    let sized = |bytes: usize| {
        let builder = NewEvent::builder("t").key("a").bytes("application/octet-stream", vec![7; bytes]);
        builder.build().expect("the sample is valid")
    };
    let largest = writer.largest_entry() / EVENTS * EVENTS;
    let whole = vec![sized(largest / EVENTS); EVENTS];
    // Where a row's own bytes count as well, its bound is no bound of payloads to the byte.
    let excess = if largest == MAX_ENTRY_BYTES { 1 } else { EVENTS + FRAME };
    let more = [whole.clone(), vec![sized(excess)]].concat();
    let refused = commit(writer, vec![Write::any(more)]).await;
    assert!(matches!(refused, Err(WriteError::EntryTooLarge { .. })), "{RULE}: {refused:?}");
    write(writer, whole).await;
    let events = events_of(writer).await;
    let bytes: usize = events.iter().filter_map(|event| event.data()).map(bytes::Bytes::len).sum();
    assert_eq!((events.len(), bytes), (EVENTS, largest), "{RULE}: the largest is taken whole");
}

/// A call that is refused leaves nothing of itself, and what the transaction wrote before and after it commits.
pub async fn a_refused_call_leaves_the_transaction_as_it_was(writer: &impl WriterUnderTest) {
    const RULE: &str = "a refused call leaves the transaction as it was";
    let too_many = [vec![new_event("b"), keyless(None)], vec![new_event("c"); MAX_ENTRY_EVENTS + 1]].concat();
    let calls = vec![
        Write::any([new_event("a")]),
        Write::at(7, [new_event("b")]),
        Write::any(too_many),
        Write::at(1, [new_event("a")]),
    ];
    let Some(answers) = writer.transact_regardless(calls).await else {
        return passed_over(
            "no transaction goes on after an error: offer `WriterUnderTest::transact_regardless` if one can",
        );
    };
    assert_eq!(answers.len(), 4, "{RULE}: an answer for each call");
    assert!(answers[0].is_ok() && answers[3].is_ok(), "{RULE}: the others are taken: {answers:?}");
    assert!(matches!(answers[1], Err(WriteError::Conflict { .. })), "{RULE}: {:?}", answers[1]);
    assert!(matches!(answers[2], Err(WriteError::EntryTooLarge { .. })), "{RULE}: {:?}", answers[2]);
    let events = events_of(writer).await;
    check_chain(RULE, &events, &[("a", 2), ("b", 0), ("c", 0)]);
    assert_eq!(events.len(), 2, "{RULE}: nothing is left of a call that was refused");
}

/// Without a key there is no number to go by: a committed entry is known, and one that was rolled back is not said to be
/// there.
pub async fn a_lost_answer_for_events_without_a_key_can_be_settled(writer: &impl WriterUnderTest) {
    const RULE: &str = "a lost answer for events without a key can be settled";
    let committed = write(writer, [keyless(None), keyless(Some("mine"))]).await;
    for receipt in &committed {
        assert_eq!(writer.settled(receipt).await, Settled::Committed, "{RULE}: it is there");
    }
    let rolled_back =
        Transaction { writes: vec![Write::any([keyless(Some("mine"))])], before_end: None, end: End::RollBack };
    let rolled_back = writer.transact(rolled_back).await.expect("a write that is rolled back later succeeds");
    assert_ne!(writer.settled(&rolled_back[0]).await, Settled::Committed, "{RULE}: it is not, whatever id it had");
}

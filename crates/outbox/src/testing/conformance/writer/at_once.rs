//! Transactions at the same time, and one whose caller is gone.

use std::sync::{Arc, Mutex, PoisonError};

use super::{check_chain, commit, events_of, write};
use crate::{
    testing::{
        End, Transaction, Write, WriterUnderTest,
        conformance::{CHANCE, RACES, in_time},
        sample::{keyless, new_event},
    },
    writer::{Receipt, WriteError},
};

/// A transaction that is dropped before its end, as when its request is cancelled, leaves no event, takes no number, and
/// holds no lock.
pub async fn a_dropped_transaction_leaves_nothing(writer: &impl WriterUnderTest) {
    const RULE: &str = "a dropped transaction leaves nothing";
    for _ in 0..3 {
        let written = Arc::new(tokio::sync::Notify::new());
        let hang = {
            let written = written.clone();
            async move {
                written.notify_one();
                std::future::pending::<()>().await;
            }
        };
        let calls = vec![Write::any([new_event("a"), keyless(None)])];
        let open = writer.transact(Transaction { writes: calls, before_end: Some(Box::pin(hang)), end: End::Commit });
        tokio::select! {
            ended = open => panic!("{RULE}: it ended before its end: {ended:?}"),
            () = written.notified() => {}
        }
    }
    let receipts = in_time(RULE, write(writer, [new_event("a")])).await;
    let sequence = receipts[0].first.map(|place| place.sequence);
    assert_eq!(sequence, Some(1), "{RULE}: its number is given again");
    assert_eq!(events_of(writer).await.len(), 1, "{RULE}");
}

/// What may become of a write that another one of its key was beside.
fn taken(rule: &str, answer: &Result<Vec<Receipt>, WriteError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(WriteError::Conflict { .. } | WriteError::RetryTransaction { .. }) => false,
        Err(error) => panic!("{rule}: {error}"),
    }
}

/// While one transaction has written to a key and is open, another writes to the key: it waits, or one of the two is
/// told to run again, and no number is given twice.
pub async fn an_open_write_and_another_of_its_key_share_no_number<W: WriterUnderTest + 'static>(writer: Arc<W>) {
    const RULE: &str = "an open write and another of its key share no number";
    let mut committed = 0;
    for _ in 0..3 {
        let beside = Arc::new(Mutex::new(None));
        let start = {
            let (writer, beside) = (writer.clone(), beside.clone());
            async move {
                let mut other = tokio::spawn(async move { commit(&*writer, vec![Write::any([new_event("a")])]).await });
                let ended = tokio::time::timeout(CHANCE, &mut other).await;
                *beside.lock().unwrap_or_else(PoisonError::into_inner) = Some((ended, other));
            }
        };
        let calls = vec![Write::any([new_event("a")])];
        let open = Transaction { writes: calls, before_end: Some(Box::pin(start)), end: End::Commit };
        let first = writer.transact(open).await;
        let (ended, other) = beside.lock().unwrap_or_else(PoisonError::into_inner).take().expect("it was started");
        let second = match ended {
            Ok(ended) => ended,
            Err(_) => in_time(RULE, other).await,
        };
        let second = second.expect("a writer does not panic");
        let both = [taken(RULE, &first), taken(RULE, &second)];
        assert!(both.contains(&true), "{RULE}: one of them is taken: {first:?}, {second:?}");
        committed += both.iter().filter(|taken| **taken).count();
    }
    check_chain(RULE, &events_of(&*writer).await, &[("a", committed)]);
}

/// Writers that name the same keys in another order, in one call each, do not wait for each other for ever.
pub async fn writers_of_the_same_keys_do_not_wait_in_a_circle<W: WriterUnderTest + 'static>(writer: Arc<W>) {
    const RULE: &str = "writers of the same keys do not wait in a circle";
    let rounds = RACES / 5;
    for _ in 0..rounds {
        let racers = [["a", "b"], ["b", "a"]].map(|keys| {
            let writer = writer.clone();
            tokio::spawn(async move {
                while !taken(RULE, &commit(&*writer, vec![Write::any(keys.map(new_event))]).await) {
                    tokio::task::yield_now().await;
                }
            })
        });
        for racer in racers {
            in_time(RULE, racer).await.expect("a writer does not panic");
        }
    }
    check_chain(RULE, &events_of(&*writer).await, &[("a", 2 * rounds), ("b", 2 * rounds)]);
}

/// Of several writers who read the same version at most one commits, and the others are told.
pub async fn of_writers_that_expect_one_version_one_commits<W: WriterUnderTest + 'static>(writer: Arc<W>) {
    const RULE: &str = "of writers that expect one version one commits";
    for version in 0..5 {
        let racers = (0..6).map(|_| {
            let writer = writer.clone();
            tokio::spawn(async move { commit(&*writer, vec![Write::at(version, [new_event("a")])]).await })
        });
        let mut committed = 0;
        for racer in racers.collect::<Vec<_>>() {
            match in_time(RULE, racer).await.expect("a writer does not panic") {
                Ok(_) => committed += 1,
                Err(WriteError::Conflict { .. } | WriteError::RetryTransaction { .. }) => {}
                Err(error) => panic!("{RULE}: {error}"),
            }
        }
        if committed == 0 {
            // All of them may have been told to run again.
            commit(&*writer, vec![Write::at(version, [new_event("a")])]).await.expect("nobody else writes now");
        }
        assert!(committed <= 1, "{RULE}: {committed} did");
    }
    check_chain(RULE, &events_of(&*writer).await, &[("a", 5)]);
}

/// Writers at the same time leave each key numbered without gaps, each commit exactly once.
pub async fn concurrent_writers_leave_no_gap<W: WriterUnderTest + 'static>(writer: Arc<W>) {
    const RULE: &str = "concurrent writers leave no gap";
    let racers = (0..4).map(|racer| tokio::spawn(write_often(writer.clone(), format!("own{racer}"), 12)));
    for racer in racers.collect::<Vec<_>>() {
        in_time(RULE, racer).await.expect("a writer does not panic");
    }
    let counts = [("shared", 48), ("own0", 12), ("own1", 12), ("own2", 12), ("own3", 12)];
    check_chain(RULE, &events_of(&*writer).await, &counts);
}

/// Writes `count` times to a key of its own and one that others share; runs a transaction again when it is told to.
pub(in crate::testing::conformance) async fn write_often<W: WriterUnderTest>(
    writer: Arc<W>,
    own: String,
    count: usize,
) {
    for _ in 0..count {
        loop {
            match commit(&*writer, vec![Write::any([new_event(&own), new_event("shared")])]).await {
                Ok(_) => break,
                Err(WriteError::RetryTransaction { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("a write without an expected version is committed or told to retry: {error}"),
            }
        }
    }
}

//! Writers with a defect.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use outbox::{
    Key, NewEvent, Source, WriteError,
    memory::{ManualClock, MemoryStore, SeededEntropy},
    testing::{
        Transaction, Write, WriterUnderTest,
        conformance::writer::{at_once, edges},
    },
    writer::{MAX_ENTRY_BYTES, Receipt, Settled},
};
use tokio::{sync::OwnedMutexGuard, task::yield_now};

#[derive(Clone, Copy, PartialEq)]
enum Defect {
    CommitsBeforeItIsAsked,
    FoldsCase,
    CutsLargeEntries,
    KeepsHalfOfARefusedCall,
    BelievesInIds,
    OverwritesWhatWasCommittedMeanwhile,
    LocksInTheCallersOrder,
}

type Locks = BTreeMap<Option<Key>, Arc<tokio::sync::Mutex<()>>>;

struct Writer(MemoryStore, Defect, Mutex<Locks>);

impl Writer {
    fn new(defect: Defect) -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(7)));
        Self(MemoryStore::new("/tests", clock, entropy).unwrap(), defect, Mutex::default())
    }

    fn altered(&self, mut events: Vec<NewEvent>) -> Vec<NewEvent> {
        let bytes =
            |events: &[NewEvent]| events.iter().filter_map(NewEvent::data).map(bytes::Bytes::len).sum::<usize>();
        match self.1 {
            Defect::FoldsCase => {
                let folded = |event: &NewEvent| {
                    let key = event.key().map(|key| key.as_str().to_lowercase()).unwrap_or_default();
                    NewEvent::builder(event.kind()).key(key).build().unwrap()
                };
                events.iter().map(folded).collect()
            }
            Defect::CutsLargeEntries => {
                while bytes(&events) > MAX_ENTRY_BYTES {
                    events.pop();
                }
                events
            }
            _ => events,
        }
    }

    /// Locks the keys one by one, each before the next.
    async fn lock(&self, events: &[NewEvent]) -> Vec<OwnedMutexGuard<()>> {
        let mut held = Vec::new();
        for event in events {
            let lock = self.2.lock().unwrap().entry(event.key().cloned()).or_default().clone();
            held.push(lock.lock_owned().await);
            yield_now().await;
        }
        held
    }
}

#[async_trait]
impl WriterUnderTest for Writer {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut transaction = self.0.transaction();
        let mut receipts = Vec::new();
        let mut held = Vec::new();
        for write in asked.writes {
            if self.1 == Defect::LocksInTheCallersOrder {
                held.extend(self.lock(&write.events).await);
            }
            receipts.extend(transaction.write_expecting(write.expected, self.altered(write.events))?);
        }
        if self.1 == Defect::CommitsBeforeItIsAsked {
            transaction.commit()?;
            transaction = self.0.transaction();
        }
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        match transaction.commit() {
            Err(WriteError::RetryTransaction { .. }) if self.1 == Defect::OverwritesWhatWasCommittedMeanwhile => {}
            ended => ended?,
        }
        drop(held);
        Ok(receipts)
    }

    async fn transact_regardless(&self, writes: Vec<Write>) -> Option<Vec<Result<Vec<Receipt>, WriteError>>> {
        let mut transaction = self.0.transaction();
        let mut answers = Vec::new();
        for write in writes {
            let half = write.events[..1].to_vec();
            let answer = transaction.write_expecting(write.expected, write.events);
            if answer.is_err() && self.1 == Defect::KeepsHalfOfARefusedCall {
                transaction.write(half).unwrap();
            }
            answers.push(answer);
        }
        transaction.commit().unwrap();
        Some(answers)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        match self.0.settle(receipt) {
            Settled::NotCommitted if self.1 == Defect::BelievesInIds && receipt.key.is_none() => Settled::Committed,
            settled => settled,
        }
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.0.reopen())
    }
}

#[tokio::test]
#[should_panic(expected = "a dropped transaction leaves nothing")]
async fn a_writer_that_commits_before_it_is_asked_is_found() {
    at_once::a_dropped_transaction_leaves_nothing(&Writer::new(Defect::CommitsBeforeItIsAsked)).await;
}

#[tokio::test]
#[should_panic(expected = "keys that look alike are apart")]
async fn a_writer_that_folds_case_is_found() {
    edges::keys_that_look_alike_are_apart(&Writer::new(Defect::FoldsCase)).await;
}

#[tokio::test]
#[should_panic(expected = "an entry of too many bytes is refused")]
async fn a_writer_that_cuts_large_entries_is_found() {
    edges::an_entry_of_too_many_bytes_is_refused(&Writer::new(Defect::CutsLargeEntries)).await;
}

#[tokio::test]
#[should_panic(expected = "a refused call leaves the transaction as it was")]
async fn a_writer_that_keeps_half_of_a_refused_call_is_found() {
    edges::a_refused_call_leaves_the_transaction_as_it_was(&Writer::new(Defect::KeepsHalfOfARefusedCall)).await;
}

#[tokio::test]
#[should_panic(expected = "it is not, whatever id it had")]
async fn a_writer_that_believes_in_ids_is_found() {
    edges::a_lost_answer_for_events_without_a_key_can_be_settled(&Writer::new(Defect::BelievesInIds)).await;
}

#[tokio::test]
#[should_panic(expected = "an open write and another of its key share no number: events of `a`")]
async fn a_writer_that_overwrites_is_found() {
    let writer = Arc::new(Writer::new(Defect::OverwritesWhatWasCommittedMeanwhile));
    at_once::an_open_write_and_another_of_its_key_share_no_number(writer).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "writers of the same keys do not wait in a circle: nothing happened")]
async fn a_writer_that_locks_in_the_callers_order_is_found() {
    let writer = Arc::new(Writer::new(Defect::LocksInTheCallersOrder));
    at_once::writers_of_the_same_keys_do_not_wait_in_a_circle(writer).await;
}

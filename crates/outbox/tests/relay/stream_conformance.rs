//! The stream in memory keeps what every source promises.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use outbox::{
    Source, WriteError,
    memory::{ManualClock, MemoryStore, MemoryStream, SeededEntropy, Snapshot, StreamSettings},
    testing::{
        End, Opened, StoreUnderTest, Transaction, WriterUnderTest,
        conformance::source::{positions, reading, waking},
    },
    writer::{Receipt, Settled},
};

struct Streamed {
    store: MemoryStore,
    stream: MemoryStream,
    backup: Mutex<Snapshot>,
}

impl Streamed {
    fn new() -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(7)));
        let store = MemoryStore::new("/tests", clock, entropy).unwrap();
        let stream = MemoryStream::new(&store, StreamSettings::default());
        Self { backup: Mutex::new(store.snapshot()), stream, store }
    }
}

#[async_trait]
impl WriterUnderTest for Streamed {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut transaction = self.store.transaction();
        let mut receipts = Vec::new();
        for write in asked.writes {
            receipts.extend(transaction.write_expecting(write.expected, write.events)?);
        }
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        match asked.end {
            End::Commit => transaction.commit()?,
            End::RollBack => drop(transaction),
        }
        Ok(receipts)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        self.store.settle(receipt)
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.stream.on(&self.store.reopen()))
    }
}

#[async_trait]
impl StoreUnderTest for Streamed {
    async fn open(&self) -> Opened {
        let store = Arc::new(self.store.reopen());
        Opened { source: Arc::new(self.stream.on(&store)), store }
    }

    async fn back_up(&self) {
        *self.backup.lock().unwrap() = self.store.snapshot();
    }

    async fn restore(&self) {
        self.store.restore(&self.backup.lock().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_in_memory_reads_as_every_source_does() {
    let fresh = async || Streamed::new();
    reading::all(&fresh).await;
    waking::all(&fresh).await;
    // But for what a purge leaves: a stream forgets by itself, and its positions say nothing of the table.
    positions::a_start_at_the_beginning_reads_everything(&fresh().await).await;
    positions::a_start_now_reads_what_is_committed_later(&fresh().await).await;
    positions::a_start_at_a_time_reads_from_then_on(&fresh().await).await;
    positions::the_backlog_is_what_lies_behind(&fresh().await).await;
    positions::an_older_history_is_noticed(&fresh().await).await;
    positions::a_foreign_position_is_refused(&fresh().await).await;
}

//! What every source promises.
//!
//! Implement [`StoreUnderTest`]: it writes a transaction as the suite asks for, opens the store as another process would,
//! and puts a backup in its place. The checks are in rooms of their own: [`reading`], [`positions`] and [`waking`].
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use async_trait::async_trait;
//! use outbox::{
//!     Receipt, Source, WriteError,
//!     memory::{ManualClock, MemoryStore, SeededEntropy, Snapshot},
//!     testing::{End, Opened, StoreUnderTest, Transaction, WriterUnderTest, conformance},
//!     writer::Settled,
//! };
//!
//! struct Service(MemoryStore, Mutex<Snapshot>);
//!
//! # #[async_trait]
//! # impl WriterUnderTest for Service {
//! #     async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
//! #         let mut transaction = self.0.transaction();
//! #         let mut receipts = Vec::new();
//! #         for write in asked.writes {
//! #             receipts.extend(transaction.write_expecting(write.expected, write.events)?);
//! #         }
//! #         if let Some(before_end) = asked.before_end {
//! #             before_end.await;
//! #         }
//! #         if asked.end == End::Commit {
//! #             transaction.commit()?;
//! #         }
//! #         Ok(receipts)
//! #     }
//! #     async fn settled(&self, receipt: &Receipt) -> Settled {
//! #         self.0.settle(receipt)
//! #     }
//! #     async fn source(&self) -> Arc<dyn Source> {
//! #         Arc::new(self.0.reopen())
//! #     }
//! # }
//! // Besides its `WriterUnderTest`:
//! #[async_trait]
//! impl StoreUnderTest for Service {
//!     async fn open(&self) -> Opened {
//!         let store = Arc::new(self.0.reopen());
//!         Opened { source: store.clone(), store }
//!     }
//!
//!     async fn back_up(&self) {
//!         *self.1.lock().unwrap() = self.0.snapshot();
//!     }
//!
//!     async fn restore(&self) {
//!         self.0.restore(&self.1.lock().unwrap());
//!     }
//! }
//!
//! # fn fresh() -> Service {
//! #     let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1)));
//! #     let store = MemoryStore::new("/orders", clock, entropy).unwrap();
//! #     let empty = Mutex::new(store.snapshot());
//! #     Service(store, empty)
//! # }
//! # stringify!(
//! #[tokio::test(flavor = "multi_thread")]
//! # );
//! async fn my_source_conforms() {
//!     conformance::source::all(async || fresh()).await;
//! }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(my_source_conforms());
//! ```

use std::sync::Arc;

use super::writer::{assert_progress, write};
use crate::{
    entry::{Position, Record},
    route::Start,
    source::{Limit, Page, PartitionId, Source},
    testing::{
        Opened, StoreUnderTest,
        sample::{keyless, new_event, registration},
    },
};

pub mod positions;
pub mod reading;
pub mod waking;

const PLENTY: Limit = Limit { events: 1_000, bytes: 16 << 20 };

/// Runs every check, each on a fresh backend. They are for sources of one partition whose records come as committed;
/// what a stream's shards do differently is for their own tests.
pub async fn all<S: StoreUnderTest + 'static>(fresh: impl AsyncFn() -> S) {
    reading::all(&fresh).await;
    positions::all(&fresh).await;
    waking::all(&fresh).await;
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
        assert_progress(&position, &page);
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

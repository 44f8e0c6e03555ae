//! The suites that every source passes, and those of writers, read by this source.
//!
//! Two checks of the source's suite are not for a stream: one that entries are purged, for they expire by themselves, and one
//! that an older copy is noticed by reading. A table that is restored has another stream; that it is another history the
//! business store notices, by its witnesses.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Expected, Receipt, Source, WriteError,
    testing::{
        End, Opened, StoreUnderTest, Transaction, WriterUnderTest,
        conformance::{self, source},
    },
    writer::Settled,
};
use outbox_aws::dynamodb::{CommitError, DynamoStore, SourceOptions, StoreOptions, StreamsSource, Writer};

use crate::{clients, fixture::Store};

pub(crate) struct Service {
    writer: Writer,
    store: Store,
}

pub(crate) async fn fresh() -> Service {
    let store = Store::new().await;
    Service { writer: store.writer(), store }
}

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut transaction = self.writer.transaction();
        for write in asked.writes {
            if let Expected::Sequence(sequence) = write.expected {
                for key in write.events.iter().filter_map(|event| event.key().cloned()) {
                    transaction.expecting(key, sequence);
                }
            }
            transaction.write(write.events);
        }
        let prepared = transaction.prepare().await.map_err(as_write_error)?;
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        match asked.end {
            End::Commit => prepared.commit().await.map_err(as_write_error),
            End::RollBack => Ok(prepared.receipts().to_vec()),
        }
    }

    fn largest_entry(&self) -> usize {
        // 400 KB with the names of its attributes.
        400_000
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        self.writer.settle(receipt).await.unwrap()
    }

    async fn source(&self) -> Arc<dyn Source> {
        self.open().await.source
    }
}

#[async_trait]
impl StoreUnderTest for Service {
    async fn open(&self) -> Opened {
        let store = DynamoStore::open(&self.store.client, &self.store.tables, StoreOptions::default()).await.unwrap();
        let streams = clients::streams().await;
        let source = StreamsSource::open(&store, &streams, SourceOptions::default()).await.unwrap();
        Opened { source: Arc::new(source), store: Arc::new(store) }
    }

    async fn back_up(&self) {
        unreachable!("no check here goes back to a copy")
    }

    async fn restore(&self) {
        unreachable!("no check here goes back to a copy")
    }
}

/// As the suite knows it: an entry larger than an item is an entry that is too large.
fn as_write_error(error: CommitError) -> WriteError {
    match error {
        CommitError::Write(error) => error,
        CommitError::ItemTooLarge { what, bytes, .. } => WriteError::EntryTooLarge { key: what, events: 0, bytes },
        other => WriteError::Store { message: other.to_string(), error: other.into() },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_conforms() {
    source::reading::all(&fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waking_conforms() {
    source::waking::all(&fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_conform() {
    use source::positions::{
        a_foreign_position_is_refused, a_start_at_a_time_reads_from_then_on, a_start_at_the_beginning_reads_everything,
        a_start_now_reads_what_is_committed_later, an_unknown_partition_is_refused, the_backlog_is_what_lies_behind,
    };
    a_start_at_the_beginning_reads_everything(&fresh().await).await;
    a_start_now_reads_what_is_committed_later(&fresh().await).await;
    a_start_at_a_time_reads_from_then_on(&fresh().await).await;
    the_backlog_is_what_lies_behind(&fresh().await).await;
    a_foreign_position_is_refused(&fresh().await).await;
    an_unknown_partition_is_refused(&fresh().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_wrote_is_read_as_it_was_written() {
    conformance::writer::all(fresh).await;
}

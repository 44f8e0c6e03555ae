//! The suite that every writer passes.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Expected, Receipt, Source, WriteError,
    testing::{End, Transaction, WriterUnderTest, conformance},
    writer::Settled,
};
use outbox_aws::dynamodb::{CommitError, Writer};

use crate::fixture::Store;

pub(crate) struct Service {
    pub(crate) writer: Writer,
    pub(crate) store: Store,
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
                let keys: Vec<_> = write.events.iter().filter_map(|event| event.key().cloned()).collect();
                for key in keys {
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
        Arc::new(self.store.source())
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
async fn the_writer_conforms() {
    conformance::writer::all(fresh).await;
}

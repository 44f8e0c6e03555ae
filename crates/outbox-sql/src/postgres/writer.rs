//! Writing entries into a transaction of `tokio-postgres`, or of `sqlx`: one call of the function
//! `outbox.write_entries`, whatever the number of events.

use std::{collections::BTreeMap, sync::Arc};

use outbox::{Clock, CommitId, Entropy, Key, NewEvent, Receipt, System, WriteError, writer::plan};
use tokio_postgres::{Transaction, types::Type};

mod call;
mod refusal;
mod settle;
#[cfg(feature = "sqlx-postgres")]
mod sqlx;

use call::{Call, Placed};

pub use settle::settle;
#[cfg(feature = "sqlx-postgres")]
pub use sqlx::settle_sqlx;

/// The one statement. The types of its parameters are those of the function's.
const WRITE: &str = "SELECT refusal, number, incarnation, sequence FROM outbox.write_entries(\
     $1::text::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

/// Writes `events` in `transaction`: one entry for each key, one for each event without a key. Gives a receipt an
/// entry: keys in sorted order, then the events without a key in the caller's order. One round trip, and no statement is
/// prepared, so that it works through any pooler.
///
/// The events exist if the transaction commits. Another transaction that wrote to one of the keys is waited for. If the
/// future is dropped before it is done, roll back.
///
/// # Errors
/// [`WriteError`]. After a [`WriteError::Conflict`] or a refused event, the transaction is as it was; whatever the server
/// said itself ([`WriteError::Store`], [`WriteError::RetryTransaction`], [`WriteError::Incompatible`]) has aborted it, as
/// always in PostgreSQL: roll back.
pub async fn write(
    transaction: &Transaction<'_>,
    events: impl IntoIterator<Item = NewEvent> + Send,
) -> Result<Vec<Receipt>, WriteError> {
    Writer::new().write_all(transaction, events).await
}

/// Writes entries, with options. Cheap to clone, and to share between threads.
#[derive(Clone)]
pub struct Writer {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    expected: BTreeMap<Key, u64>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { clock: Arc::new(System), entropy: Arc::new(System), expected: BTreeMap::new() }
    }
}

impl Writer {
    /// A writer on the machine's clock and entropy, that expects no version.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the time of entries from `clock`.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes commit ids, and ids of events without a key, from `entropy`.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// A writer whose calls are refused unless `key`'s latest sequence is `sequence`, 0 if it has no entry: what the
    /// caller read before it decided. Holds for a call whether or not it writes an event of that key, and until the end
    /// of its transaction: nobody else can write to the key before.
    pub fn expecting(&self, key: Key, sequence: u64) -> Self {
        let mut writer = self.clone();
        writer.expected.insert(key, sequence);
        writer
    }

    /// Writes one event in `transaction`.
    ///
    /// # Errors
    /// As [`write`](write()).
    pub async fn write(&self, transaction: &Transaction<'_>, event: NewEvent) -> Result<Receipt, WriteError> {
        let mut receipts = self.write_all(transaction, [event]).await?;
        receipts.pop().ok_or_else(refusal::no_receipt)
    }

    /// Writes `events` in `transaction`, as [`write`](write()) does.
    ///
    /// # Errors
    /// As [`write`](write()).
    pub async fn write_all(
        &self,
        transaction: &Transaction<'_>,
        events: impl IntoIterator<Item = NewEvent> + Send,
    ) -> Result<Vec<Receipt>, WriteError> {
        let plans = plan(events)?;
        let call = self.call(&plans)?;
        if call.is_empty() {
            return Ok(Vec::new());
        }
        let rows = transaction
            .query_typed(
                WRITE,
                &[
                    (&call.commit_text, Type::TEXT),
                    (&call.recorded, Type::INT8),
                    (&call.sizes, Type::INT8_ARRAY),
                    (&call.keys, Type::TEXT_ARRAY),
                    (&call.counts, Type::INT4_ARRAY),
                    (&call.types, Type::TEXT_ARRAY),
                    (&call.event_ids, Type::TEXT_ARRAY),
                    (&call.content_types, Type::TEXT_ARRAY),
                    (&call.data, Type::TEXT_ARRAY),
                    (&call.data_bytes, Type::BYTEA_ARRAY),
                    (&call.attributes, Type::TEXT_ARRAY),
                    (&call.more, Type::TEXT_ARRAY),
                    (&call.guarded, Type::TEXT_ARRAY),
                    (&call.expected, Type::INT8_ARRAY),
                ],
            )
            .await
            .map_err(refusal::write_error)?;
        let read = |row: &tokio_postgres::Row| {
            Ok(Placed {
                refusal: row.try_get(0)?,
                number: row.try_get(1)?,
                incarnation: row.try_get(2)?,
                sequence: row.try_get(3)?,
            })
        };
        let placed = rows.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(refusal::write_error)?;
        call.receipts(&placed)
    }

    fn call<'a>(&'a self, plans: &'a [outbox::writer::EntryPlan]) -> Result<Call<'a>, WriteError> {
        Call::new(plans, &self.expected, CommitId(self.entropy.sixteen()), self.clock.wall(), &*self.entropy)
    }
}

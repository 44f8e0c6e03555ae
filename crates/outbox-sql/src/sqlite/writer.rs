//! Writing entries into a `rusqlite` transaction.
//!
//! Written directly to the tables, in three short statements an entry: measured against the view `outbox`, which other
//! languages write to, that takes two thirds of the time. The outcome is the same to the byte, and a test holds both to
//! it.

use std::{collections::BTreeMap, sync::Arc};

use outbox::{
    Clock, CommitId, Entropy, Key, NewEvent, Receipt, System, WriteError,
    writer::{EntryPlan, counted_bytes, plan},
};
use rusqlite::{Connection, MAIN_DB, Transaction, TransactionState, params, types::ToSqlOutput};

use super::row::{self, Data, Encoded};

mod head;
mod refusal;
mod settle;
#[cfg(feature = "sqlx-sqlite")]
mod sqlx;

use head::Head;
use refusal::{outside_transaction, write_error};

pub use settle::settle;
#[cfg(feature = "sqlx-sqlite")]
pub use sqlx::settle_sqlx;

/// Writes `events` in `transaction`: one entry for each key, one for each event without a key. Gives a receipt an
/// entry: keys in sorted order, then the events without a key in the caller's order.
///
/// The events exist if the transaction commits. After the commit, [`Waker::wake`](super::Waker::wake) tells a relay in
/// the same process; one in another process notices by itself.
///
/// # Errors
/// [`WriteError`]; but for [`WriteError::Store`] and [`WriteError::RetryTransaction`], which ask to roll back, the
/// transaction is as it was.
pub fn write(
    transaction: &Transaction<'_>,
    events: impl IntoIterator<Item = NewEvent>,
) -> Result<Vec<Receipt>, WriteError> {
    write_entries(transaction, events, &BTreeMap::new(), Injected { clock: &System, entropy: &System })
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
    /// caller read before it decided. Holds for a call whether or not it writes an event of that key.
    pub fn expecting(&self, key: Key, sequence: u64) -> Self {
        let mut writer = self.clone();
        writer.expected.insert(key, sequence);
        writer
    }

    /// Writes one event in the transaction or savepoint that `connection` is in.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all).
    pub fn write(&self, connection: &Connection, event: NewEvent) -> Result<Receipt, WriteError> {
        let mut receipts = self.write_all(connection, [event])?;
        receipts.pop().ok_or_else(refusal::no_receipt)
    }

    /// Writes `events` in the transaction or savepoint that `connection` is in, as [`write`](write()) does.
    ///
    /// # Errors
    /// As [`write`](write()); also [`WriteError::Store`] if `connection` is in no transaction.
    pub fn write_all(
        &self,
        connection: &Connection,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Vec<Receipt>, WriteError> {
        write_entries(connection, events, &self.expected, Injected { clock: &*self.clock, entropy: &*self.entropy })
    }
}

/// Where times and random bytes come from.
#[derive(Clone, Copy)]
struct Injected<'a> {
    clock: &'a dyn Clock,
    entropy: &'a dyn Entropy,
}

/// Everything that can be refused is looked at before the first write, so that a refusal leaves the transaction as it
/// was without a savepoint. What can fail behind that (no room, an I/O error) makes SQLite roll back the whole
/// transaction by itself.
fn write_entries(
    connection: &Connection,
    events: impl IntoIterator<Item = NewEvent>,
    expected: &BTreeMap<Key, u64>,
    injected: Injected<'_>,
) -> Result<Vec<Receipt>, WriteError> {
    let plans = plan(events)?;
    if connection.is_autocommit() {
        return Err(outside_transaction());
    }
    lock(connection).map_err(write_error)?;
    for (key, expected) in expected {
        let actual = Head::read(connection, Some(key.as_str()))?.sequence();
        if actual != *expected {
            return Err(WriteError::Conflict { key: key.clone(), expected: *expected, actual });
        }
    }
    let now = injected.clock.wall();
    let entries = plans
        .iter()
        .map(|plan| {
            let row = row::encode(plan, now, injected.entropy)?;
            let head = Head::read(connection, row.key)?;
            check_sizes(plan, head.max_event_bytes)?;
            Ok((row, head))
        })
        .collect::<Result<Vec<_>, WriteError>>()?;
    let commit = CommitId(injected.entropy.sixteen());
    let recorded = now.as_millisecond();
    entries
        .iter()
        .zip(&plans)
        .map(|((row, head), plan)| {
            let id = insert(connection, row, head, commit, recorded).map_err(write_error)?;
            let first = match row.key {
                Some(key) => Some(head.advance(connection, key, row.count, id)?),
                None => None,
            };
            Ok(Receipt { key: plan.key.clone(), commit, first, count: row.count })
        })
        .collect()
}

/// Takes the write lock. A deferred transaction that reads first and writes later fails at once if anybody wrote in
/// between; one that writes first waits for its turn.
fn lock(connection: &Connection) -> rusqlite::Result<()> {
    if connection.transaction_state(Some(MAIN_DB))? != TransactionState::Write {
        connection.prepare_cached("DELETE FROM outbox_heads WHERE 0")?.execute([])?;
    }
    Ok(())
}

/// Counts as the trigger does.
fn check_sizes(plan: &EntryPlan, limit: u64) -> Result<(), WriteError> {
    for (index, event) in &plan.events {
        let bytes = counted_bytes(event);
        if u64::try_from(bytes).unwrap_or(u64::MAX) > limit {
            return Err(WriteError::TooLarge { index: *index, bytes, limit });
        }
    }
    Ok(())
}

const INSERT: &str = "INSERT INTO outbox_entries \
     (key, incarnation, sequence, count, after, previous_id, commit_id, recorded_at, \
      type, event_id, content_type, data, attributes, more) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// Inserts the row and gives its id.
fn insert(
    connection: &Connection,
    row: &Encoded<'_>,
    head: &Head,
    commit: CommitId,
    recorded: i64,
) -> rusqlite::Result<i64> {
    let data: ToSqlOutput<'_> = match row.data {
        Data::None => rusqlite::types::Null.into(),
        Data::Text(text) => text.into(),
        Data::Blob(bytes) => bytes.into(),
    };
    let place = row.key.map(|_| head.next());
    connection.prepare_cached(INSERT)?.insert(params![
        row.key,
        head.incarnation,
        place.map(|place| place.sequence.cast_signed()),
        row.count,
        place.map(|_| head.after()),
        head.entry_id(),
        commit.0,
        recorded,
        row.kind,
        row.event_id,
        row.content_type,
        data,
        row.attributes,
        row.more,
    ])
}

//! One transaction of the inbox.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    sync::Arc,
};

use jiff::Timestamp;
use outbox::{
    ErrorKind, Lane, Place, StoreError,
    bookkeeping::KeptId,
    inbox::memory::other_mode,
    inbox_store::{
        EventId, InboxCounts, InboxKept, InboxTotals, InboxTx, KeptLane, KeptMessage, LaneChange, LaneId, LaneRecord,
        PurgedIds,
    },
};
use tokio_postgres::{
    Row, Transaction,
    error::SqlState,
    types::{FromSql, ToSql, Type},
};

use super::{super::failure::store_error, ids, kept, lanes, waits};
use crate::postgres::connection::StatementLimit;

/// A parameter and its type: so a statement needs no round trip before it, and no name.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// The numbers of this consumer's producers, as far as they were needed.
pub(super) type Producers = HashMap<Arc<str>, i64>;

/// What the server said that concerns more than one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Two transactions waited for each other: the same again will do.
    Again,
    /// A statement failed before, and whoever made it went on nevertheless.
    Aborted,
}

/// One transaction of a [`PostgresInbox`](super::PostgresInbox): what a handler writes through it commits together with the
/// record that it was done.
pub struct PostgresTx<'t> {
    transaction: &'t Transaction<'t>,
    limit: &'t StatementLimit,
    consumer: &'t str,
    producers: &'t mut Producers,
    counted: InboxCounts,
    sign: Cell<Option<Sign>>,
    /// What was saved last, and goes out with the next statement: nobody waits for its answer alone.
    saved: RefCell<Option<lanes::Changes>>,
}

impl<'t> PostgresTx<'t> {
    pub(super) fn new(
        transaction: &'t Transaction<'t>,
        limit: &'t StatementLimit,
        consumer: &'t str,
        producers: &'t mut Producers,
    ) -> Self {
        let (counted, sign, saved) = (InboxCounts::default(), Cell::new(None), RefCell::new(None));
        Self { transaction, limit, consumer, producers, counted, sign, saved }
    }

    /// The transaction itself. It must not be committed or rolled back, and a statement that fails ends all of it: a handler
    /// answers the error, or sets such a statement apart by a savepoint of its own.
    pub fn transaction(&self) -> &'t Transaction<'t> {
        self.transaction
    }

    pub(super) fn consumer(&self) -> &'t str {
        self.consumer
    }

    /// What was counted in this transaction.
    pub(super) fn counted(&self) -> &InboxCounts {
        &self.counted
    }

    pub(super) fn sign(&self) -> Option<Sign> {
        self.sign.get()
    }

    /// One statement, behind what was saved before it.
    pub(super) async fn query(
        &self,
        attempted: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.behind_saved(self.send(attempted, sql, params)).await
    }

    /// One statement by itself.
    pub(super) async fn send(
        &self,
        attempted: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.heed(attempted, self.transaction.query_typed(sql, params)).await
    }

    /// Sends what was saved, and `next` behind it without waiting: the server does one after the other, and what fails
    /// fails all that comes behind it.
    async fn behind_saved<T>(&self, next: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let Some(saved) = self.saved.take() else { return next.await };
        let (written, answer) = tokio::join!(biased; Box::pin(saved.write(self)), next);
        written.and(answer)
    }

    /// Awaits a statement. Whatever becomes of it, nothing takes effect without the commit: so no failure is uncertain.
    async fn heed<T>(
        &self,
        attempted: &'static str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        let heeding = async {
            let answer = statement.await;
            let code = answer.as_ref().err().and_then(tokio_postgres::Error::code);
            if let Some(code) = code {
                self.sign.set(self.sign.get().or_else(|| sign(code)));
            }
            answer
        };
        self.limit.within(attempted, heeding).await.map_err(|error| {
            if self.sign.get() == Some(Sign::Aborted) {
                let message = "a handler went on after one of its statements failed, which ends the transaction: answer the error, or set the statement apart by a savepoint";
                return StoreError::new(ErrorKind::Invalid, message).because(error);
            }
            if error.is_uncertain() { StoreError::new(error.kind(), error.to_string()) } else { error }
        })
    }

    /// The number of `producer`, given now if it has none.
    pub(super) async fn producer(&mut self, producer: &Arc<str>) -> Result<i64, StoreError> {
        if let Some(number) = self.producers.get(producer) {
            return Ok(*number);
        }
        let params: [Param<'_>; 2] = [(&self.consumer, Type::TEXT), (&&**producer, Type::TEXT)];
        let sql = "SELECT outbox_inbox.number_producer($1, $2)";
        let rows = self.query("numbering a producer", sql, &params).await?;
        let row = rows.first().ok_or_else(|| {
            StoreError::new(ErrorKind::Incompatible, "a producer got no number: make the inbox's functions anew")
        })?;
        let number = column(row, 0)?;
        self.producers.insert(producer.clone(), number);
        Ok(number)
    }

    /// Writes what is written last: the counts, which all of a consumer's transactions share a row for.
    pub(super) async fn finish(&self) -> Result<(), StoreError> {
        let InboxCounts { applied, duplicates, superseded, ignored, early, history_back } = self.counted;
        let counts = [applied, duplicates, superseded, ignored, early, history_back].map(u64::cast_signed);
        let mut params: Vec<Param<'_>> = vec![(&self.consumer, Type::TEXT)];
        params.extend(counts.iter().map(|count| -> Param<'_> { (count, Type::INT8) }));
        // Fails unless the transaction is open still. Sent together, done one after the other.
        let (open, finished) = tokio::join!(
            self.transaction.batch_execute("SAVEPOINT outbox_end"),
            self.query(
                "finishing a transaction of the inbox",
                "SELECT outbox_inbox.finish($1, $2, $3, $4, $5, $6, $7)",
                &params
            )
        );
        if open.as_ref().err().and_then(tokio_postgres::Error::code) == Some(&SqlState::NO_ACTIVE_SQL_TRANSACTION) {
            let message = "a handler ended the inbox's transaction, which it must not: what it wrote may have been committed without its record";
            return Err(StoreError::new(ErrorKind::Invalid, message).uncertain());
        }
        finished.map(drop)
    }

    async fn point(&self, sql: &str) -> Result<(), StoreError> {
        let setting = self.heed("setting a handler's effect apart", self.transaction.batch_execute(sql));
        self.behind_saved(setting).await
    }
}

fn sign(code: &SqlState) -> Option<Sign> {
    if [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(code) {
        return Some(Sign::Again);
    }
    (*code == SqlState::IN_FAILED_SQL_TRANSACTION).then_some(Sign::Aborted)
}

pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A `LIMIT`.
fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A column of a row.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, number: usize) -> Result<T, StoreError> {
    row.try_get(number).map_err(store_error("reading a row of the inbox"))
}

impl InboxTx for PostgresTx<'_> {
    async fn bind(&mut self, mode: &'static str) -> Result<(), StoreError> {
        let consumer: Param<'_> = (&self.consumer, Type::TEXT);
        let sql = "SELECT mode FROM outbox_inbox.consumers WHERE name = $1 FOR UPDATE";
        let rows = self.query("noting the mode of the inbox", sql, std::slice::from_ref(&consumer)).await?;
        let known: Option<String> = rows.first().map(|row| column(row, 0)).transpose()?.flatten();
        if let Some(known) = known.filter(|known| (known == "once") != (mode == "once")) {
            return Err(other_mode(&known, mode));
        }
        let sql = "UPDATE outbox_inbox.consumers SET mode = $2 WHERE name = $1 AND mode IS DISTINCT FROM $2";
        self.query("noting the mode of the inbox", sql, &[consumer, (&mode, Type::TEXT)]).await.map(drop)
    }

    async fn load(&mut self, wanted: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError> {
        lanes::load(self, wanted).await
    }

    async fn save(&mut self, changes: &[LaneChange]) -> Result<(), StoreError> {
        let changes = lanes::Changes::of(self, changes).await?;
        // Two may be of one lane, and the later one has to come later.
        if self.saved.get_mut().is_some() {
            self.behind_saved(async { Ok(()) }).await?;
        }
        *self.saved.get_mut() = changes;
        Ok(())
    }

    async fn remember(&mut self, ids: &[EventId], expires: Timestamp, done: bool) -> Result<Vec<bool>, StoreError> {
        ids::remember(self, ids, expires, done).await
    }

    async fn set_done(&mut self, id: &EventId, done: bool) -> Result<(), StoreError> {
        ids::set_done(self, id, done).await
    }

    async fn is_done(&mut self, id: &EventId) -> Result<bool, StoreError> {
        ids::is_done(self, id).await
    }

    async fn keep(
        &mut self,
        lane: &LaneId,
        place: Place,
        message: &KeptMessage,
        now: Timestamp,
    ) -> Result<Option<KeptId>, StoreError> {
        kept::keep(self, lane, place, message, now).await
    }

    async fn first(&mut self, lane: &LaneId) -> Result<Option<InboxKept>, StoreError> {
        kept::first(self, lane).await
    }

    async fn remove(&mut self, id: KeptId) -> Result<(), StoreError> {
        let sql = "DELETE FROM outbox_inbox.kept WHERE id = $1";
        self.query("removing a kept event", sql, &[(&id.0.cast_signed(), Type::INT8)]).await.map(drop)
    }

    async fn wait_for(&mut self, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError> {
        waits::begin(self, cause, waiter).await
    }

    async fn stop_waiting(&mut self, waiter: &LaneId) -> Result<(), StoreError> {
        waits::end(self, waiter).await
    }

    async fn waiters(&mut self, cause: &LaneId) -> Result<Vec<LaneId>, StoreError> {
        waits::of_cause(self, cause).await
    }

    async fn count(&mut self, counts: &InboxCounts) -> Result<(), StoreError> {
        self.counted.add(counts);
        Ok(())
    }

    async fn guard(&mut self) -> Result<(), StoreError> {
        self.point("SAVEPOINT outbox_effect").await
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.point("ROLLBACK TO SAVEPOINT outbox_effect; RELEASE SAVEPOINT outbox_effect").await
    }

    async fn accept(&mut self) -> Result<(), StoreError> {
        self.point("RELEASE SAVEPOINT outbox_effect").await
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<LaneId>, StoreError> {
        lanes::read_lanes(
            self,
            "SELECT p.producer, t.lane FROM outbox_inbox.troubles t JOIN outbox_inbox.producers p ON p.id = t.producer \
             WHERE t.due <= $1 AND p.consumer = $2 ORDER BY t.due LIMIT $3",
            &[(&micros(now), Type::INT8), (&self.consumer, Type::TEXT), (&most(limit), Type::INT8)],
        )
        .await
    }

    async fn troubled(&mut self, after: Option<&LaneId>, limit: usize) -> Result<Vec<KeptLane>, StoreError> {
        lanes::troubled(self, after, most(limit)).await
    }

    async fn purge_ids(&mut self, now: Timestamp, after: u64, limit: usize) -> Result<PurgedIds, StoreError> {
        ids::purge(self, now, after, most(limit)).await
    }

    async fn totals(&mut self) -> Result<InboxTotals, StoreError> {
        lanes::totals(self).await
    }

    async fn find(&mut self, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
        kept::find(self, id).await
    }

    async fn forget(&mut self, producer: &str) -> Result<u64, StoreError> {
        ids::forget(self, producer).await
    }
}

/// The lane that a row's text names.
pub(super) fn lane_of(producer: &str, text: &str) -> Result<LaneId, StoreError> {
    let unreadable = || {
        let message = format!("the inbox's tables name a lane `{text}`, which is none: restore them from a backup");
        StoreError::new(ErrorKind::Invalid, message)
    };
    Ok(LaneId { producer: producer.into(), lane: Lane::from_text(text).ok_or_else(unreadable)? })
}

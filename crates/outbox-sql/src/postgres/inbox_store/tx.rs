//! One transaction of the inbox.

use std::{collections::HashMap, mem, sync::Arc};

use jiff::Timestamp;
use outbox::{
    ErrorKind, Lane, StoreError,
    inbox_store::{Abort, InboxCounts, LaneId},
};
use tokio_postgres::{Transaction, types::Type};

use super::{
    driver::{Driver, Ended, Failed, Open, Param, Row, Statement, TokioPostgres, column},
    unsent::Unsent,
};

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

/// Why a transaction did not commit.
pub(super) enum NotCommitted {
    /// A job could not do its part, or what it did could not be recorded.
    Job(Abort),
    /// A constraint that is checked at the end refused what handlers wrote.
    Refused(StoreError),
    /// The commit itself failed, or what became of it is not known.
    Commit(StoreError),
}

/// One transaction of a [`PostgresInbox`](super::PostgresInbox): what a handler writes through it commits together with the
/// record that it was done.
pub struct PostgresTx<'t, D: Driver = TokioPostgres> {
    open: D::Open<'t>,
    consumer: &'t str,
    producers: &'t mut Producers,
    counted: InboxCounts,
    sign: Option<Sign>,
    unsent: Unsent,
}

impl<'t> PostgresTx<'t> {
    /// The transaction itself. It must not be committed or rolled back, and a statement that fails ends all of it: a handler
    /// answers the error, or sets such a statement apart by a savepoint of its own.
    pub fn transaction(&self) -> &Transaction<'t> {
        self.open.transaction()
    }
}

#[cfg(feature = "sqlx-postgres")]
impl<'t> PostgresTx<'t, super::SqlxPostgres> {
    /// The transaction itself. It must not be committed or rolled back, and a statement that fails ends all of it: a handler
    /// answers the error, or sets such a statement apart by a savepoint of its own (`transaction.begin()`).
    pub fn transaction(&mut self) -> &mut sqlx::Transaction<'t, sqlx::Postgres> {
        self.open.transaction()
    }
}

impl<'t, D: Driver> PostgresTx<'t, D> {
    pub(super) fn new(open: D::Open<'t>, consumer: &'t str, producers: &'t mut Producers) -> Self {
        let (counted, unsent) = (InboxCounts::default(), Unsent::default());
        Self { open, consumer, producers, counted, sign: None, unsent }
    }

    pub(super) fn consumer(&self) -> &'t str {
        self.consumer
    }

    /// What was counted in this transaction.
    pub(super) fn counted(&self) -> &InboxCounts {
        &self.counted
    }

    pub(super) fn sign(&self) -> Option<Sign> {
        self.sign
    }

    /// One statement, and before it what was not sent yet, in one round trip where the driver can.
    pub(super) async fn query(
        &mut self,
        attempted: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.send(&[Statement { attempted, sql, params: params.to_vec() }]).await
    }

    async fn send(&mut self, statements: &[Statement<'_>]) -> Result<Vec<Row>, StoreError> {
        let answer = if self.unsent.is_empty() {
            self.open.send(statements).await
        } else {
            let unsent = mem::take(&mut self.unsent);
            let all: Vec<_> = unsent.statements().into_iter().chain(statements.iter().cloned()).collect();
            self.open.send(&all).await
        };
        answer.map_err(|failed| heed(&mut self.sign, failed.certain()))
    }

    /// Adds to what was counted.
    pub(super) fn add(&mut self, counts: &InboxCounts) {
        self.counted.add(counts);
    }

    /// What goes out with the next statement.
    pub(super) fn unsent(&mut self) -> &mut Unsent {
        &mut self.unsent
    }

    /// The number of `producer`, given now if it has none.
    pub(super) async fn producer(&mut self, producer: &Arc<str>) -> Result<i64, StoreError> {
        if let Some(number) = self.producers.get(producer) {
            return Ok(*number);
        }
        let consumer = self.consumer;
        let params: [Param<'_>; 2] = [(&consumer, Type::TEXT), (&&**producer, Type::TEXT)];
        let sql = "SELECT outbox_inbox.number_producer($1, $2)";
        let rows = self.query("numbering a producer", sql, &params).await?;
        let row = rows.first().ok_or_else(|| {
            StoreError::new(ErrorKind::Incompatible, "a producer got no number: make the inbox's functions anew")
        })?;
        let number = column(row, 0)?;
        self.producers.insert(producer.clone(), number);
        Ok(number)
    }

    /// Writes what is written last, the lanes and the counts, which all of a consumer's transactions share a row for; and
    /// commits behind it. Gives what the server said besides that concerns more than one statement.
    pub(super) async fn commit(mut self, only_reads: bool) -> (Result<(), NotCommitted>, Option<Sign>) {
        let InboxCounts { applied, duplicates, superseded, ignored, early, history_back } = self.counted;
        let counts = [applied, duplicates, superseded, ignored, early, history_back].map(u64::cast_signed);
        let last = self.unsent.take_last_saved();
        let mut statements = self.unsent.statements();
        if !only_reads {
            let mut params: Vec<Param<'_>> = vec![(&self.consumer, Type::TEXT)];
            params.extend(counts.iter().map(|count| -> Param<'_> { (count, Type::INT8) }));
            params.extend(last.params());
            statements.push(Statement { attempted: "recording what the inbox did", sql: RECORD, params });
        }
        let (ended, mut sign) = (self.open.commit(&statements).await, self.sign);
        let rows = match ended {
            Ok(rows) => rows,
            Err(Ended::Commit(failed)) if failed.refuses_effect() => {
                return (Err(NotCommitted::Refused(failed.error)), sign);
            }
            Err(Ended::Commit(failed)) => return (Err(NotCommitted::Commit(failed.error)), sign),
            Err(Ended::Statement(failed)) if failed.error.is_uncertain() => {
                return (Err(NotCommitted::Commit(failed.error)), sign);
            }
            Err(Ended::Statement(failed)) => {
                let error = heed(&mut sign, failed);
                return (Err(NotCommitted::Job(error.into())), sign);
            }
        };
        let open = only_reads || rows.first().is_some_and(|row| matches!(column(row, 0), Ok(true)));
        if open {
            return (Ok(()), sign);
        }
        let message = "a handler ended the inbox's transaction, which it must not: what it wrote may have been committed without its record";
        (Err(NotCommitted::Job(StoreError::new(ErrorKind::Invalid, message).uncertain().into())), sign)
    }

    pub(super) async fn rollback(self) {
        self.open.rollback().await;
    }

    /// Savepoints, by statements that nothing may be sent behind before they are answered.
    pub(super) async fn point(&mut self, statements: &[&'static str]) -> Result<(), StoreError> {
        self.send(&plain(SETTING_APART, statements)).await.map(drop)
    }

    /// The same; `Err` says what a constraint refused.
    pub(super) async fn try_point(&mut self, statements: &[&'static str]) -> Result<Result<(), String>, StoreError> {
        match self.open.send(&plain("checking what a handler wrote", statements)).await {
            Ok(_) => Ok(Ok(())),
            Err(failed) if failed.refuses_effect() => Ok(Err(failed.error.to_string())),
            Err(failed) => Err(heed(&mut self.sign, failed.certain())),
        }
    }
}

const SETTING_APART: &str = "setting a handler's effect apart";

fn plain<'a>(attempted: &'static str, statements: &[&'a str]) -> Vec<Statement<'a>> {
    statements.iter().map(|sql| Statement { attempted, sql, params: Vec::new() }).collect()
}

/// The end of every transaction that writes.
const RECORD: &str = "SELECT outbox_inbox.record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

/// Notes in `sign` what the server said.
fn heed(sign: &mut Option<Sign>, failed: Failed) -> StoreError {
    let Failed { error, state } = failed;
    *sign = sign.or(match state.as_deref() {
        // A deadlock, a serialization failure.
        Some("40P01" | "40001") => Some(Sign::Again),
        Some("25P02") => Some(Sign::Aborted),
        Some(_) | None => None,
    });
    if let Some("3F000" | "42P01" | "42703" | "42883") = state.as_deref() {
        let message = "the inbox's tables and functions are missing, or were put in place by another version: call `PostgresInbox::init` of this one, as a consumer does when it starts";
        return StoreError::new(ErrorKind::Incompatible, message).because(error);
    }
    if *sign == Some(Sign::Aborted) {
        let message = "a handler went on after one of its statements failed, which ends the transaction: answer the error, or set the statement apart by a savepoint";
        return StoreError::new(ErrorKind::Invalid, message).because(error);
    }
    error
}

pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

pub(super) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The lane that a row's text names.
pub(super) fn lane_of(producer: &str, text: &str) -> Result<LaneId, StoreError> {
    let unreadable = || {
        let message = format!("the inbox's tables name a lane `{text}`, which is none: restore them from a backup");
        StoreError::new(ErrorKind::Invalid, message)
    };
    Ok(LaneId { producer: producer.into(), lane: Lane::from_text(text).ok_or_else(unreadable)? })
}

//! Writing entries into a `sqlx` transaction: by the view `outbox`, one statement an entry, as every call crosses to
//! the thread that owns the connection.

use outbox::{
    CommitId, ErrorKind, Expected, Key, NewEvent, Place, Receipt, StoreError, WriteError,
    writer::{EntryPlan, Settled, plan},
};
use sqlx::{
    Row, Sqlite, SqliteConnection, Transaction,
    sqlite::{SqliteArguments, SqliteQueryResult, SqliteRow},
};

use super::{Writer, check_sizes, refusal};
use crate::sqlite::statement::{self, Parameter, Statement};

type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

impl Writer {
    /// Writes one event in a `sqlx` transaction.
    ///
    /// # Errors
    /// As [`write_all_sqlx`](Self::write_all_sqlx).
    pub async fn write_sqlx(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        event: NewEvent,
    ) -> Result<Receipt, WriteError> {
        let mut receipts = self.write_all_sqlx(transaction, [event]).await?;
        receipts.pop().ok_or_else(refusal::no_receipt)
    }

    /// Writes `events` in a `sqlx` transaction, as [`write_all`](Self::write_all) does in one of `rusqlite`. If the
    /// future is dropped before it is done, roll back.
    ///
    /// # Errors
    /// As [`write`](super::write()).
    pub async fn write_all_sqlx(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        events: impl IntoIterator<Item = NewEvent> + Send,
    ) -> Result<Vec<Receipt>, WriteError> {
        let plans = plan(events)?;
        let (commit, now) = (CommitId(self.entropy.sixteen()), self.clock.wall());
        let statements = plans
            .iter()
            .map(|plan| statement::entry(plan, self.expected(plan), commit, now, &*self.entropy))
            .collect::<Result<Vec<_>, _>>()?;
        // The first statement writes, so that a deferred transaction waits for its turn.
        execute(transaction, "SAVEPOINT outbox_write").await?;
        execute(transaction, "DELETE FROM outbox_heads WHERE 0").await?;
        let written = self.write_plans(transaction, &plans, statements, commit).await;
        if written.is_err() {
            // Fails if SQLite has rolled back the whole transaction by itself: then nothing is left either.
            let _ = execute(transaction, "ROLLBACK TO outbox_write").await;
            let _ = execute(transaction, "RELEASE outbox_write").await;
            return written;
        }
        execute(transaction, "RELEASE outbox_write").await?;
        written
    }

    fn expected(&self, plan: &EntryPlan) -> Expected {
        let sequence = plan.key.as_ref().and_then(|key| self.expected.get(key));
        sequence.map_or(Expected::Any, |sequence| Expected::Sequence(*sequence))
    }

    async fn write_plans(
        &self,
        connection: &mut SqliteConnection,
        plans: &[EntryPlan],
        statements: Vec<Statement>,
        commit: CommitId,
    ) -> Result<Vec<Receipt>, WriteError> {
        for (key, expected) in &self.expected {
            let actual = head(connection, key).await?.map_or(0, |place| place.sequence);
            if actual != *expected {
                return Err(WriteError::Conflict { key: key.clone(), expected: *expected, actual });
            }
        }
        let mut receipts = Vec::with_capacity(plans.len());
        for (plan, statement) in plans.iter().zip(statements) {
            if let Err(error) = query(statement).execute(&mut *connection).await {
                return Err(refused(connection, plan, error).await);
            }
            let first = match &plan.key {
                Some(key) => head(connection, key).await?,
                None => None,
            };
            let count = u32::try_from(plan.events.len()).unwrap_or(u32::MAX);
            receipts.push(Receipt { key: plan.key.clone(), commit, first, count });
        }
        Ok(receipts)
    }
}

/// Whether the entry of `receipt` was committed, as [`settle`](super::settle()). `connection` must not be in a
/// transaction that wrote: it would see its own uncommitted entries.
///
/// # Errors
/// As SQLite says.
pub async fn settle_sqlx(connection: &mut SqliteConnection, receipt: &Receipt) -> Result<Settled, StoreError> {
    let failed = |error: sqlx::Error| {
        StoreError::new(ErrorKind::Unavailable, format!("asking what became of a commit: {error}")).because(error)
    };
    let row = query(statement::settle(receipt)).fetch_one(connection).await.map_err(failed)?;
    let latest: Option<i64> = row.try_get(0).map_err(failed)?;
    let commit: Option<Vec<u8>> = row.try_get(1).map_err(failed)?;
    Ok(statement::settled(receipt, latest, commit.as_deref()))
}

fn query(statement: Statement) -> Query {
    statement.parameters.into_iter().fold(sqlx::query(statement.sql), |query, parameter| match parameter {
        Parameter::Null => query.bind(None::<i64>),
        Parameter::Integer(number) => query.bind(number),
        Parameter::Text(text) => query.bind(text),
        Parameter::Blob(bytes) => query.bind(bytes),
    })
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<SqliteQueryResult, WriteError> {
    sqlx::query(sql).execute(connection).await.map_err(write_error)
}

/// The place of the first event of the key's latest entry.
async fn head(connection: &mut SqliteConnection, key: &Key) -> Result<Option<Place>, WriteError> {
    let read = |row: SqliteRow| {
        let (incarnation, sequence): (u32, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Place::new(incarnation, sequence.unsigned_abs(), 0))
    };
    sqlx::query("SELECT incarnation, sequence FROM outbox_heads WHERE key = ?1")
        .bind(key.as_str().to_owned())
        .fetch_optional(connection)
        .await
        .and_then(|row| row.map(read).transpose())
        .map_err(write_error)
}

/// What a refusal of the trigger means. The key's version was looked at before, so what is left is a size.
async fn refused(connection: &mut SqliteConnection, plan: &EntryPlan, error: sqlx::Error) -> WriteError {
    let too_large = error.as_database_error().is_some_and(|error| error.message().starts_with("outbox: too large"));
    if too_large {
        let limit = sqlx::query("SELECT max_event_bytes FROM outbox_meta")
            .fetch_one(connection)
            .await
            .and_then(|row| row.try_get::<i64, _>(0));
        if let Ok(Err(refusal)) = limit.map(|limit| check_sizes(plan, limit.unsigned_abs())) {
            return refusal;
        }
    }
    write_error(error)
}

fn write_error(error: sqlx::Error) -> WriteError {
    /// `SQLITE_BUSY`, `SQLITE_LOCKED`, `SQLITE_PROTOCOL` and `SQLITE_SCHEMA`: the lower byte of an extended code.
    const TRY_AGAIN: [u32; 4] = [5, 6, 15, 17];
    let message = error.to_string();
    if let Some(refusal) = refusal::missing_tables(&message) {
        return refusal;
    }
    let database = error.as_database_error();
    if database.is_some_and(|error| error.message().starts_with("outbox: this database has no identity")) {
        return refusal::no_identity();
    }
    let code = database.and_then(sqlx::error::DatabaseError::code).and_then(|code| code.parse::<u32>().ok());
    if code.is_some_and(|code| TRY_AGAIN.contains(&(code & 0xff))) {
        return WriteError::RetryTransaction { message };
    }
    WriteError::Store { message, error: error.into() }
}

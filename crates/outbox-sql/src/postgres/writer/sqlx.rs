//! Writing entries into a `sqlx` transaction.

use outbox::{
    ErrorKind, NewEvent, Receipt, StoreError, WriteError,
    writer::{Settled, plan},
};
use sqlx::{PgConnection, Postgres, Row, Transaction, postgres::PgRow};

use super::{
    WRITE, Writer,
    call::Placed,
    refusal,
    settle::{SETTLE, question, settled},
};

impl Writer {
    /// Writes one event in a `sqlx` transaction.
    ///
    /// # Errors
    /// As [`write_all_sqlx`](Self::write_all_sqlx).
    pub async fn write_sqlx(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: NewEvent,
    ) -> Result<Receipt, WriteError> {
        let mut receipts = self.write_all_sqlx(transaction, [event]).await?;
        receipts.pop().ok_or_else(refusal::no_receipt)
    }

    /// Writes `events` in a `sqlx` transaction, as [`write_all`](Self::write_all) does in one of `tokio-postgres`: by the
    /// same statement, which sqlx prepares once a connection.
    ///
    /// # Errors
    /// As [`write`](super::write()).
    pub async fn write_all_sqlx(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        events: impl IntoIterator<Item = NewEvent> + Send,
    ) -> Result<Vec<Receipt>, WriteError> {
        let plans = plan(events)?;
        let call = self.call(&plans)?;
        if call.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(WRITE)
            .bind(&call.commit_text)
            .bind(call.recorded)
            .bind(&call.sizes)
            .bind(&call.keys)
            .bind(&call.counts)
            .bind(&call.types)
            .bind(call.event_ids.iter().map(Option::as_deref).collect::<Vec<_>>())
            .bind(&call.content_types)
            .bind(&call.data)
            .bind(&call.data_bytes)
            .bind(&call.attributes)
            .bind(&call.more)
            .bind(&call.guarded)
            .bind(&call.expected)
            .fetch_all(&mut **transaction)
            .await
            .map_err(write_error)?;
        let read = |row: &PgRow| {
            Ok(Placed {
                refusal: row.try_get(0)?,
                number: row.try_get(1)?,
                incarnation: row.try_get(2)?,
                sequence: row.try_get(3)?,
            })
        };
        let placed = rows.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(write_error)?;
        call.receipts(&placed)
    }
}

/// Whether the entry of `receipt` was committed, as [`settle`](super::settle()). `connection` must not be in the
/// transaction that wrote.
///
/// # Errors
/// As the server says.
pub async fn settle_sqlx(connection: &mut PgConnection, receipt: &Receipt) -> Result<Settled, StoreError> {
    let failed = |error: sqlx::Error| {
        StoreError::new(ErrorKind::Unavailable, format!("asking what became of a commit: {}", said(&error)))
    };
    let (key, sequence, commit) = question(receipt);
    let row = sqlx::query(SETTLE).bind(key).bind(sequence).bind(commit).fetch_one(connection).await.map_err(failed)?;
    Ok(settled(row.try_get(0).map_err(failed)?))
}

fn write_error(error: sqlx::Error) -> WriteError {
    let state = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    refusal::of_state(state.as_deref(), said(&error))
        .unwrap_or_else(|message| WriteError::Store { message, error: error.into() })
}

/// What the server said, without the detail, which may show a row.
fn said(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(answer) => format!("{} (SQLSTATE {})", answer.message(), answer.code().unwrap_or_default()),
        None => error.to_string(),
    }
}

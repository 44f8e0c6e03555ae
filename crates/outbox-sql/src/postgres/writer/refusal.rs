//! Why a write was refused, in the terms of what the caller can do.

use outbox::WriteError;
use tokio_postgres::error::SqlState;

use crate::postgres::failure::said;

/// What PostgreSQL's error means for a writer.
pub(super) fn write_error(error: tokio_postgres::Error) -> WriteError {
    let state = error.code().map(SqlState::code);
    of_state(state, said(&error).to_string())
        .unwrap_or_else(|message| WriteError::Store { message, error: error.into() })
}

/// What a SQLSTATE means for a writer; the message with its remedy if it is only to be passed on.
pub(super) fn of_state(state: Option<&str>, message: String) -> Result<WriteError, String> {
    match state {
        // Serialization failure, deadlock, lock timeout.
        Some("40001" | "40P01" | "55P03") => Ok(WriteError::RetryTransaction { message }),
        // Schema, table, column or function missing.
        Some("3F000" | "42P01" | "42703" | "42883") => Ok(WriteError::Incompatible(format!(
            "the outbox tables are missing from this database, or are of another version: run `outbox init` ({message})"
        ))),
        Some("OX003") => {
            Ok(WriteError::Incompatible("this database has no identity yet: run `outbox init`".to_owned()))
        }
        Some("42501") => {
            Err(format!("{message}: grant this role the rights of a writer: `outbox init --writer ROLE` prints them"))
        }
        Some("25006") => Err(format!("{message}: begin a transaction that may write, on the primary")),
        Some("25P02") => Err(format!("{message}: the statement that failed before is why; roll back")),
        Some(_) | None => Err(message),
    }
}

/// The function did not answer as it promises.
pub(super) fn no_receipt() -> WriteError {
    let message = "`outbox.write_entries` did not answer as it should: run `outbox init` of this version";
    WriteError::Store { message: message.to_owned(), error: message.into() }
}

//! Why a write was refused, in the terms of what the caller can do.

use outbox::WriteError;
use rusqlite::ffi::ErrorCode;

use crate::sqlite::failure::meaning;

/// What SQLite's error means for a writer.
pub(super) fn write_error(error: rusqlite::Error) -> WriteError {
    let message = error.to_string();
    if let Some(refusal) = missing_tables(&message) {
        return refusal;
    }
    let (_, remedy) = meaning(&error);
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SchemaChanged
            | ErrorCode::FileLockingProtocolFailed,
        ) => WriteError::RetryTransaction { message },
        Some(_) | None => WriteError::Store { message: format!("{message}{remedy}"), error: error.into() },
    }
}

/// The refusal, if SQLite says that a table of ours is missing.
pub(super) fn missing_tables(message: &str) -> Option<WriteError> {
    ["no such table: outbox", "no such table: main.outbox"].iter().any(|start| message.contains(start)).then(|| {
        WriteError::Incompatible("the outbox tables are missing from this database: run `outbox init`".to_owned())
    })
}

pub(super) fn no_identity() -> WriteError {
    WriteError::Incompatible("this database has no identity yet: run `outbox init`".to_owned())
}

pub(super) fn outside_transaction() -> WriteError {
    let message = "the connection is in no transaction: begin one, so that data and events commit together";
    WriteError::Store { message: message.to_owned(), error: message.into() }
}

pub(super) fn head_was_lost(key: &str) -> WriteError {
    let message = format!("the head of `{key}` changed within the transaction: this is a bug, report it");
    WriteError::Store { error: message.clone().into(), message }
}

pub(super) fn no_receipt() -> WriteError {
    let message = "one event made no entry: this is a bug, report it";
    WriteError::Store { message: message.to_owned(), error: message.into() }
}

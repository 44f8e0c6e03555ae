//! What SQLite's errors mean for the caller.

use outbox::{ErrorKind, StoreError};
use rusqlite::ffi::ErrorCode;

/// Turns SQLite's error into one that says what to do, with what was attempted in front.
pub(crate) fn store_error(attempted: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| {
        let (kind, remedy) = meaning(&error);
        let error_text = error.to_string();
        StoreError::new(kind, format!("{attempted}: {error_text}{remedy}")).because(error)
    }
}

/// The kind of `error` and, where it helps, the remedy.
pub(crate) fn meaning(error: &rusqlite::Error) -> (ErrorKind, &'static str) {
    let Some(code) = error.sqlite_error_code() else {
        return (ErrorKind::Invalid, "");
    };
    match code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory
        | ErrorCode::OperationInterrupted
        | ErrorCode::OperationAborted
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::SchemaChanged => (ErrorKind::Unavailable, ""),
        ErrorCode::DiskFull => (ErrorKind::Full, ": make room on the disk"),
        ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied => {
            (ErrorKind::NotPermitted, ": give this user the right to write the database and its directory")
        }
        ErrorCode::CannotOpen => {
            (ErrorKind::NotPermitted, ": check the path, and this user's rights to the file and its directory")
        }
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => {
            (ErrorKind::Incompatible, ": restore the file from a backup, then run `outbox adopt`")
        }
        ErrorCode::InternalMalfunction
        | ErrorCode::NotFound
        | ErrorCode::TooBig
        | ErrorCode::ConstraintViolation
        | ErrorCode::TypeMismatch
        | ErrorCode::ApiMisuse
        | ErrorCode::NoLargeFileSupport
        | ErrorCode::ParameterOutOfRange
        | ErrorCode::Unknown
        // The enum is not exhaustive: a code that is added later is nothing that waiting would mend.
        | _ => (ErrorKind::Invalid, ""),
    }
}

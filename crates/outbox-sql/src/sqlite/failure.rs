//! What SQLite's errors mean for the caller.

use outbox::{ErrorKind, StoreError};
use rusqlite::ffi::{self, ErrorCode};

pub(crate) use crate::decode::shown;

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
    // The WAL's shared memory is a file, too, and says so when there is no room for it.
    if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
        return (ErrorKind::Full, ": make room on the disk");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: i32) -> ErrorKind {
        meaning(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).0
    }

    #[test]
    fn every_code_that_may_pass_can_be_tried_again_and_no_other_can() {
        let passing = [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_LOCKED_SHAREDCACHE,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_INTERRUPT,
            ffi::SQLITE_ABORT,
            ffi::SQLITE_PROTOCOL,
            ffi::SQLITE_SCHEMA,
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_SHMSIZE,
        ];
        let lasting = [
            ffi::SQLITE_PERM,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_READONLY_DBMOVED,
            ffi::SQLITE_AUTH,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_INTERNAL,
            ffi::SQLITE_NOTFOUND,
            ffi::SQLITE_TOOBIG,
            ffi::SQLITE_CONSTRAINT,
            ffi::SQLITE_MISMATCH,
            ffi::SQLITE_MISUSE,
            ffi::SQLITE_NOLFS,
            ffi::SQLITE_RANGE,
            ffi::SQLITE_ERROR,
        ];
        for (codes, retry) in [(&passing[..], true), (&lasting[..], false)] {
            for code in codes {
                assert_eq!(kind(*code).retry(), retry, "{code}: {:?}", kind(*code));
            }
        }
        assert_eq!((kind(ffi::SQLITE_FULL), kind(ffi::SQLITE_IOERR_SHMSIZE)), (ErrorKind::Full, ErrorKind::Full));
    }
}

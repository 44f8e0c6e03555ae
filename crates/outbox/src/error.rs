//! What went wrong in a store, and what to do about it.

use std::{error::Error, fmt};

/// What kind of failure, in the terms of what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Not reachable, busy or locked for now. Try again.
    Unavailable,
    /// No room: a full disk, a table at its limit. Try again once there is room.
    Full,
    /// The lease's epoch is no longer current: another owner has taken over. Stop writing at once.
    Fenced,
    /// The store holds another history than was read before: an older copy, a restored backup. Stop, and adopt.
    HistoryChanged,
    /// The position is older than what the stream remembers. The relay reads the table again, if the source can
    /// ([`Source::recovery`](crate::Source::recovery)); else it stops.
    Trimmed,
    /// The store belongs to another bookkeeping, or the bookkeeping to another store. Stop, and adopt.
    Ownership,
    /// A table layout or file format that this version cannot work with. Stop, and upgrade or initialise.
    Incompatible,
    /// Rights are missing, or the store is read-only. Stop, and grant them.
    NotPermitted,
    /// The request or what is stored makes no sense. Trying again does not help.
    Invalid,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anybody doing anything about it (or once there is room again).
    pub const fn retry(self) -> bool {
        match self {
            Self::Unavailable | Self::Full => true,
            Self::Fenced
            | Self::HistoryChanged
            | Self::Trimmed
            | Self::Ownership
            | Self::Incompatible
            | Self::NotPermitted
            | Self::Invalid => false,
        }
    }
}

/// A failure of a business store, a source, a bookkeeping or an inbox store.
///
/// The message says what happened and what to do, and holds neither payloads nor secrets.
#[derive(Debug)]
pub struct StoreError {
    kind: ErrorKind,
    uncertain: bool,
    message: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure that surely had no effect.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, uncertain: false, message: message.into(), cause: None }
    }

    /// The failure may have come after the effect took place, as when a commit's answer was lost.
    pub fn uncertain(mut self) -> Self {
        self.uncertain = true;
        self
    }

    /// Adds what caused it.
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Puts what was attempted before the message, as "reading entries: disk I/O error".
    pub fn context(mut self, attempted: &str) -> Self {
        self.message = format!("{attempted}: {}", self.message);
        self
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the effect may have taken place nevertheless.
    pub fn is_uncertain(&self) -> bool {
        self.uncertain
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as _)
    }
}

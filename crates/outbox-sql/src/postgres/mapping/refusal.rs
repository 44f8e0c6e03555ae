//! Why a table cannot be read by a mapping, and what to do.

use outbox::{ErrorKind, StoreError};

/// The mapping does not fit the table.
pub(super) fn invalid(message: String) -> StoreError {
    StoreError::new(ErrorKind::Invalid, message)
}

/// The table cannot be read as it is.
pub(super) fn incompatible(message: String) -> StoreError {
    StoreError::new(ErrorKind::Incompatible, message)
}

/// Names for a message: `a`, `b` and so on.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

//! Outbox on SQL databases.

#[cfg(feature = "sqlite")]
pub mod sqlite;

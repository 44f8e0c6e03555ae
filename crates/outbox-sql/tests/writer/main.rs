//! What a service does on SQLite: making the tables, and writing its events in its own transactions.

#![cfg(feature = "sqlite")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod assertions;
mod concurrent;
mod conformance;
mod fixture;
mod python_writer;
mod refusals;
mod schema;
mod settling;
#[cfg(feature = "sqlx-sqlite")]
mod sqlx_writer;
mod view;
mod writing;

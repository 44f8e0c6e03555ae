//! Schema and writers on PostgreSQL, against a real server.

#![cfg(feature = "postgres")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod concurrent;
mod conformance;
mod connecting;
mod counted;
mod fixture;
mod function;
mod leaves;
mod making_leaves;
mod reader;
mod refusals;
mod rights;
mod schema;
mod server;
mod write_all;
mod writing;

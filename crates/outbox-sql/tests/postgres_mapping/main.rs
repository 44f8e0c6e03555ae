//! Tables that are laid out otherwise, read by a mapping, against a real server.

#![cfg(feature = "postgres")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod fixture;
mod hostile;
mod keeping;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../postgres_relay/reader.rs"]
mod reader;
mod reading;
mod refusals;
#[path = "../postgres/server.rs"]
mod server;
mod trouble;

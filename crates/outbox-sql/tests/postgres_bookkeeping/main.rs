//! A relay's own books on PostgreSQL, against a real server.

#![cfg(feature = "postgres")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod conformance;
mod cuts;
mod fixture;
mod kept;
mod opening;
mod owners;
mod pooled;
mod pooler;
#[allow(dead_code, reason = "the tests of the inbox need more of it")]
mod proxy;
#[path = "../postgres/server.rs"]
mod server;
mod settings;
mod waits;

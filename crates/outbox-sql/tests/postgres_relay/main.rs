//! What a relay reads on PostgreSQL by polling, and the business store, against a real server.

#![cfg(feature = "postgres")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod cluster;
mod conformance;
mod crashes;
mod fixture;
mod held_back;
mod histories;
mod hostile;
mod late;
mod opening;
mod plans;
#[path = "../postgres_bookkeeping/pooler.rs"]
mod pooler;
mod promoted;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../postgres_bookkeeping/proxy.rs"]
mod proxy;
mod reader;
mod reading;
mod retention;
#[path = "../postgres/server.rs"]
mod server;

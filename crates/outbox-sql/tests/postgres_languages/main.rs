//! Events written from other languages, as the examples do it, against a real server.

#![cfg(feature = "postgres")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod cutter;
mod documents;
mod fixture;
mod language;
mod lost_answers;
#[path = "../postgres_bookkeeping/pooler.rs"]
mod pooler;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../postgres_bookkeeping/proxy.rs"]
mod proxy;
#[path = "../postgres/server.rs"]
mod server;
mod writing;

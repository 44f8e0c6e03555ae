//! A consumer's inbox on PostgreSQL, against a real server.

#![cfg(feature = "postgres")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod arrivals;
mod conformance;
mod cuts;
mod fixture;
mod handlers;
mod opening;
#[path = "../postgres_bookkeeping/pooler.rs"]
mod pooler;
#[allow(dead_code, reason = "the bookkeeping's tests need more of it")]
#[path = "../postgres_bookkeeping/proxy.rs"]
mod proxy;
mod round_trips;
#[path = "../postgres/server.rs"]
mod server;
#[cfg(feature = "sqlx-postgres")]
mod sqlx;
mod turns;

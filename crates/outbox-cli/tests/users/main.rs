//! The system of `examples/users`, whole: the service on PostgreSQL, the real relay, a webhook and a file; with the table
//! that the service has always had, and with that of Outbox.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../../outbox-sql/tests/postgres_relay/cluster.rs"]
mod cluster;
mod company;
mod defects;
mod killed;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../cli/place.rs"]
mod place;
mod promoted;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../../../outbox-sql/tests/postgres_bookkeeping/proxy.rs"]
mod proxy;
#[path = "../../../outbox-sql/tests/postgres/server.rs"]
mod server;
mod struck;

//! The real binary, run as its users run it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what supports a test fails it")]

mod adopt;
mod configuration;
mod dead_letters;
mod first_steps;
mod history;
mod inbox;
mod mapping;
mod place;
mod postgres;
#[path = "../../../outbox-sql/tests/postgres/server.rs"]
mod server;
mod simulate;
mod trouble;

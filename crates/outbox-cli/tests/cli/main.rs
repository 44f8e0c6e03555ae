//! The real binary, run as its users run it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what supports a test fails it")]

mod adopt;
#[cfg(feature = "aws")]
#[path = "../../../outbox-aws/tests/dynamodb/server.rs"]
#[allow(dead_code, reason = "others use all of it")]
mod aws;
#[cfg(feature = "aws")]
mod bus;
mod configuration;
mod dead_letters;
#[cfg(feature = "aws")]
mod dynamodb;
mod first_steps;
mod history;
#[cfg(feature = "aws")]
mod iam;
mod inbox;
mod mapping;
mod place;
mod postgres;
#[path = "../../../outbox-sql/tests/postgres/server.rs"]
mod server;
mod simulate;
mod trouble;

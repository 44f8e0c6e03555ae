//! The carts' API, and what it leaves in DynamoDB: an emulator, or AWS itself.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bad_input;
mod consumer;
mod events;
mod fixture;
mod function;
mod races;
mod repeating;
mod routes;
/// The one way in which all tests find AWS.
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../../crates/outbox-aws/tests/dynamodb/server.rs"]
mod server;

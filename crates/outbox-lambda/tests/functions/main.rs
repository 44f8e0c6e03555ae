//! The functions, as processes that ask Lambda's own runtime interface for invocations, fed by a harness that behaves as the
//! event source mapping of a stream does. The bookkeeping is in an emulator of DynamoDB, or in DynamoDB itself; the bus is
//! played by a proxy.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

/// What a call asks for.
#[path = "../../../outbox-aws/tests/dynamodb/asked.rs"]
mod asked;
mod chaos;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../outbox-aws/tests/streams/clients.rs"]
mod clients;
mod deadline;
mod doubt;
mod failing;
mod forwarding;
mod keeping;
mod mapping;
mod redelivery;
mod rights;
mod runtime;
/// The one way in which all tests find AWS.
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../outbox-aws/tests/dynamodb/server.rs"]
mod server;
mod shopping;
mod stream;
mod watermark;
mod world;

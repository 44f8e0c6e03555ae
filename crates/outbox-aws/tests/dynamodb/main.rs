//! DynamoDB, against an emulator or AWS itself.

#![cfg(feature = "dynamodb")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bookkeeping;
mod connecting;
mod fixture;
mod proxy;
mod python;
mod scan;
mod schema;
mod server;
mod writer_conformance;
mod writing;
mod writing_faults;

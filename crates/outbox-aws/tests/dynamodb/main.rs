//! DynamoDB, against an emulator or AWS itself.

#![cfg(feature = "dynamodb")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod asked;
mod bookkeeping;
mod connecting;
mod fixture;
mod inbox_store;
mod inbox_writes;
mod kept_rows;
mod losses;
mod python;
mod rights;
mod scan;
mod schema;
#[allow(dead_code, reason = "others use all of it")]
mod server;
mod store;
mod store_conformance;
mod writer_conformance;
mod writing;
mod writing_faults;

use outbox_aws::testing::proxy;

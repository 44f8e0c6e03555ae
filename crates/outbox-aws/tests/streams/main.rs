//! The source that reads the tables' stream: against an emulator, or AWS itself, what it does right; against a scripted
//! server what no emulator does.

#![cfg(feature = "dynamodb")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod clients;
mod conformance;
mod fixture;
mod order;
mod recovering;
mod relaying;
mod rig;
#[path = "../dynamodb/server.rs"]
#[allow(dead_code, reason = "shared with the tests of the tables")]
mod server;
mod shards;
mod unread;

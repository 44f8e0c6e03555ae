//! The EventBridge sink, against an emulator behind a proxy that does what emulators don't, and against the proxy alone.

#![cfg(feature = "s3")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod arriving;
mod claim_check;
mod conformance;
mod failures;
mod scene;
#[allow(dead_code, reason = "each test program uses some of it")]
#[path = "../dynamodb/server.rs"]
mod server;
mod throttled;

//! Reading the write-ahead log of PostgreSQL, against real servers of its own.

#![cfg(feature = "postgres")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod acknowledging;
mod alone;
mod alone_conformance;
mod cluster;
mod conformance;
mod disturbed;
mod fixture;
mod foreign;
mod hostile;
mod mapped;
mod reading;
mod relaying;
mod setting_up;
mod standby;
mod switching;

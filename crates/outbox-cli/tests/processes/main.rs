//! The real binary in real processes: killed, stopped, starved, and put before files that are not what they were.
//!
//! Every test has a folder, relays and targets of its own, and waits for what it wants to see rather than for a time.
#![allow(clippy::unwrap_used, reason = "what supports a test fails it")]

mod adopting;
mod arrivals;
#[cfg(feature = "aws")]
#[path = "../../../outbox-aws/tests/dynamodb/server.rs"]
#[allow(clippy::expect_used, dead_code, reason = "others use all of it")]
mod aws;
mod bookkeeping;
mod crashes;
mod databases;
mod disk;
mod field_defects;
mod leases;
mod operating;
mod outages;
mod poison;
mod process;
mod rig;
mod routes;
mod rubbish;
mod said;
mod stdout;
#[cfg(feature = "aws")]
mod streams;
mod target;

//! The real binary in real processes: killed, stopped, starved, and put before files that are not what they were.
//!
//! Every test has a folder, relays and targets of its own, and waits for what it wants to see rather than for a time.
#![allow(clippy::unwrap_used, reason = "what supports a test fails it")]

mod adopting;
mod arrivals;
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
mod target;

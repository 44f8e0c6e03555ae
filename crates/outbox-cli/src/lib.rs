//! The `outbox` command, as a library: so that the functions of Lambda read the same configuration, and what reads it can be
//! held to properties by a fuzzer.

// Of configuration and wiring the functions need a part.
#![cfg_attr(not(feature = "command"), allow(dead_code, unused_imports))]

#[cfg(feature = "command")]
mod cli;
#[cfg(feature = "command")]
mod commands;
#[cfg(any(feature = "aws", feature = "sql"))]
mod config;
#[cfg(feature = "crash-points")]
mod crash_points;
#[cfg(feature = "command")]
mod demo;
#[cfg(any(feature = "aws", feature = "sql"))]
mod exit;
#[cfg(feature = "aws")]
pub mod functions;
#[cfg(feature = "command")]
mod logs;
#[cfg(feature = "command")]
mod output;
#[cfg(feature = "command")]
mod process;
#[cfg(feature = "sql")]
mod rds;
#[cfg(any(feature = "aws", feature = "sql"))]
mod wiring;

#[cfg(feature = "command")]
pub use process::main;

#[cfg(all(feature = "command", any(test, feature = "testing")))]
#[doc(hidden)]
pub mod properties {
    //! What has to hold of what others wrote, for the fuzz target.

    pub use crate::config::properties::configuration;
}

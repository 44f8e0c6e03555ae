//! The real binary, run as its users run it.
#![allow(clippy::unwrap_used, reason = "what supports a test fails it")]

mod adopt;
mod configuration;
mod dead_letters;
mod first_steps;
mod history;
mod place;
mod simulate;
mod trouble;

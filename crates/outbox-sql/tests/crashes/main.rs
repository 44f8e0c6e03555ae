//! `kill -9` of a relay between every two of its I/Os, on a business store and a bookkeeping in SQLite files.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod files;
mod still;

use files::Files;
use outbox::testing::{Side, crashes};

#[tokio::test(start_paused = true)]
async fn a_relay_that_nobody_kills_publishes_everything_once() {
    crashes::undisturbed(async || Files::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_killed_before_any_of_its_ios_breaks_no_promise() {
    crashes::at_every_step(Side::Before, async || Files::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_killed_after_any_of_its_ios_breaks_no_promise() {
    crashes::at_every_step(Side::After, async || Files::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_killed_twice_breaks_no_promise() {
    crashes::at_pairs_of_steps(2, 20, async || Files::new()).await;
}

//! `outbox demo --system carts`: purchases go through shopping carts on DynamoDB, over the stream of its outbox onto a bus of
//! EventBridge, and from a queue behind that into the totals of a consumer, while service, relay and consumer are killed.
//!
//! AWS is an emulator, started for it, unless an endpoint is given. The carts are those of `examples/carts`, the relay is the
//! ordinary one. What came over the bus is read from a second queue, so that order and completeness are judged by more than
//! the consumer's word.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use outbox::{Clock, System};

use super::Trouble;

mod bus;
mod check;
mod cloud;
mod company;
mod emulator;
mod plan;
mod process;
mod purchases;
mod report;
mod shopping;
mod stage;
mod story;

pub(crate) use process::Args as ProcessArgs;
pub(crate) use report::Report;

/// Customers, unless said otherwise.
pub(crate) const CUSTOMERS: u32 = 200;

/// What is to be played.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub seed: u64,
    pub level: super::chaos::Level,
    /// How many customers of the history.
    pub customers: usize,
    /// The folder to keep.
    pub keep: Option<PathBuf>,
    /// Where AWS is, if it is not to be started.
    pub endpoint: Option<String>,
}

/// Plays it.
///
/// # Errors
/// [`Trouble`] if it did not come to its end.
pub(crate) async fn play(settings: &Settings) -> Result<Report, Trouble> {
    let clock: Arc<dyn Clock> = Arc::new(System);
    story::play(settings, &clock).await
}

/// Is one of its processes, until it is ended.
pub(crate) fn run_process(args: ProcessArgs) -> ExitCode {
    process::run(args)
}

//! `outbox demo`: real orders become events, which two services apply exactly once, in order, while processes are
//! killed.
//!
//! Nothing here is simulated. The orders service, the relay and the two consumers are processes of their own (this
//! binary, run by a hidden subcommand); the relay is the ordinary `outbox relay` with a configuration that anybody could
//! write; dead letters are listed and redriven by the ordinary commands. Whether all is exact is judged from what the
//! processes leave on disk, against the purchase history.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use outbox::{Entropy as _, System};

use crate::output::{Output, Paint};

mod arrivals;
mod chaos;
mod check;
mod commands;
mod consumer;
mod driver;
mod ledger;
mod notifications;
mod observer;
mod process;
mod processes;
mod purchases;
mod report;
mod server;
mod stage;
mod story;
mod view;

use chaos::Level;

/// The exit code of a demo that was interrupted.
const INTERRUPTED: u8 = 130;

/// What the demo is to do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// What decides what goes wrong and when; without one, another every time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Place the first N purchases of the history instead of all 69,659
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=69_659))]
    orders: Option<u32>,
    /// How much goes wrong
    #[arg(long, value_enum, default_value_t, value_name = "HOW MUCH")]
    chaos: Level,
    /// Keep databases and logs in this folder, which has to be new or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Let the orders service use PostgreSQL: a URL as `postgres://user@host/postgres`, of a role that may make databases.
    /// The demo makes one of its own, and removes it in the end
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

/// The demo's own processes.
#[derive(Debug, Subcommand)]
pub(crate) enum HiddenCommand {
    /// One of the demo's processes; ends with its standard input
    #[command(hide = true)]
    DemoProcess(process::Args),
}

impl HiddenCommand {
    /// Is that process, until it is ended.
    pub(crate) fn run(self) -> ExitCode {
        let Self::DemoProcess(args) = self;
        process::run(args)
    }
}

/// Why a demo has no result.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Somebody interrupted it.
    Interrupted,
    /// It does not work: what and why.
    Failed(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Plays the demo. Ends with 0 only if every total is exact and nothing overtook anything.
pub(crate) fn run(args: Args, json: bool) -> ExitCode {
    // Six digits: a seed that can be read out and typed in.
    let seed = args.seed.unwrap_or_else(|| System.seed() % 1_000_000);
    let settings = story::Settings {
        seed,
        level: args.chaos,
        orders: args.orders.map(|orders| orders as usize),
        keep: args.keep,
        store: args.store,
    };
    let played = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::Failed(format!("the asynchronous runtime does not start: {error}")))
        .and_then(|runtime| runtime.block_on(story::play(&settings)));
    let paint = Paint::for_terminal(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match played {
        Ok(report) => {
            report.print(Output::new(json));
            if report.exact { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(Trouble::Interrupted) => {
            eprintln!("interrupted; no process is left behind");
            INTERRUPTED.into()
        }
        Err(Trouble::Failed(why)) => {
            eprintln!("{} {why}", paint.bad("error:"));
            eprintln!(
                "  {} `outbox demo --seed {seed} --keep DIR` does the same and keeps the logs",
                paint.strong("help:")
            );
            ExitCode::FAILURE
        }
    }
}

//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{adopt, check, dead_letters, inbox, init, purge, relay, replay, route, simulate, status},
    config::{DEFAULT_FILE, LogFormat},
    demo,
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  it did not work, or a check found something wrong
  2  the command line or the configuration makes no sense; nothing was done
  3  what was named does not exist, or nothing matches; nothing was done
  4  store and bookkeeping no longer belong together: `outbox adopt` explains
130  interrupted before it was done: `demo`, `simulate`

See it work first: outbox demo";

/// A build that can kill itself must not be taken for one to run a service with.
const VERSION: &str = if cfg!(feature = "crash-points") {
    concat!(env!("CARGO_PKG_VERSION"), " with crash points: for tests only")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Write once, and every consumer hears of it, in order, once.
///
/// Outbox publishes the events that a service commits together with its data: in order per key, for certain, to every
/// route that wants them.
#[derive(Debug, Parser)]
#[command(name = "outbox", version = VERSION, after_help = AFTER_HELP, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The configuration file
    #[arg(long, short, global = true, value_name = "FILE", default_value = DEFAULT_FILE, help_heading = "Everywhere")]
    pub config: PathBuf,
    /// Print JSON instead of text
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
    /// Log more: -v what happens, -vv everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = "Everywhere")]
    pub verbose: u8,
    /// How log lines look, on standard error [default: as configured]
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Everywhere")]
    pub log: Option<LogFormat>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create tables, bookkeeping and a commented configuration
    Init(init::Args),
    /// Validate and reach everything, and say what a relay would do
    Check(check::Args),
    /// Publish, until stopped by SIGTERM or Ctrl-C
    Relay(relay::Args),
    /// Show backlog, age, trouble and state of every route
    Status(status::Args),
    /// List, show, redrive or discard events that a route gave up on
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Publish history again, by time, key, type or id
    Replay(replay::Args),
    /// List, pause, resume, rename or retire routes
    #[command(subcommand)]
    Route(route::Command),
    /// Look into a consumer's inbox, and mend it
    #[command(subcommand)]
    Inbox(inbox::Command),
    /// Go on after a restored backup, or a lost or doubled file
    Adopt(adopt::Args),
    /// Publish from the table what its stream forgot before a function of Lambda got it
    #[cfg(feature = "aws")]
    Recover(crate::commands::recover::Args),
    /// Remove published entries, or erase what is kept of a key
    Purge(purge::Args),
    /// Print the least rights that this configuration needs on AWS, as a policy
    #[cfg(feature = "aws")]
    Iam(crate::commands::iam::Args),
    /// Watch real orders become events while processes are killed
    Demo(demo::Args),
    /// Prove it: play thousands of worlds where everything goes wrong
    Simulate(simulate::Args),
    /// Print a completion script for your shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The demo's own processes.
    #[command(flatten)]
    Hidden(demo::HiddenCommand),
}

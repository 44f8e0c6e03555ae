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
#[cfg(feature = "demo-carts")]
mod carts;
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

/// Which services play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cast {
    /// Orders on SQLite or PostgreSQL, webhooks, two consumers
    #[default]
    Orders,
    /// Carts on DynamoDB, its stream, a bus of EventBridge, a queue, totals; on an emulator of AWS
    #[cfg(feature = "demo-carts")]
    Carts,
}

/// What the demo is to do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Which services play
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    system: Cast,
    /// What decides what goes wrong and when; without one, another every time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Orders: place the first N purchases of the history instead of all 69,659
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=69_659))]
    orders: Option<u32>,
    /// How much goes wrong
    #[arg(long, value_enum, default_value_t, value_name = "HOW MUCH")]
    chaos: Level,
    /// Keep databases and logs in this folder, which has to be new or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Orders: let the service use PostgreSQL: a URL as `postgres://user@host/postgres`, of a role that may make databases.
    /// The demo makes one of its own, and removes it in the end
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Carts: put the purchases of the history's first N customers through carts [default: 200]
    #[cfg(feature = "demo-carts")]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=23_570))]
    customers: Option<u32>,
    /// Carts: use the emulator of AWS at this URL instead of starting one. What the demo makes there it removes in the end
    #[cfg(feature = "demo-carts")]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

impl Args {
    /// Refuses an option of the system that does not play: it would do nothing.
    #[cfg(feature = "demo-carts")]
    fn check(&self) -> Result<(), Trouble> {
        let given = match self.system {
            Cast::Orders => [("--customers", self.customers.is_some()), ("--endpoint", self.endpoint.is_some())],
            Cast::Carts => [("--orders", self.orders.is_some()), ("--store", self.store.is_some())],
        };
        let (is, other) = match self.system {
            Cast::Orders => ("carts", "leave it out, or say `--system carts`"),
            Cast::Carts => ("orders", "leave it out, or say `--system orders`"),
        };
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Trouble::Misspoken(format!("{option} is for `--system {is}`: {other}"))),
            None => Ok(()),
        }
    }
}

/// The demo's own processes.
#[derive(Debug, Subcommand)]
pub(crate) enum HiddenCommand {
    /// One of the demo's processes; ends with its standard input
    #[command(hide = true)]
    DemoProcess(process::Args),
    /// One of the processes of the demo with carts; ends with its standard input
    #[cfg(feature = "demo-carts")]
    #[command(hide = true)]
    DemoCartsProcess(carts::ProcessArgs),
}

impl HiddenCommand {
    /// Is that process, until it is ended.
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Self::DemoProcess(args) => process::run(args),
            #[cfg(feature = "demo-carts")]
            Self::DemoCartsProcess(args) => carts::run_process(args),
        }
    }
}

/// Why a demo has no result.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Somebody interrupted it.
    Interrupted,
    /// It does not work: what and why.
    Failed(String),
    /// The command line makes no sense.
    #[cfg(feature = "demo-carts")]
    Misspoken(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// What came out, whichever system played.
enum Played {
    Orders(Box<report::Report>),
    #[cfg(feature = "demo-carts")]
    Carts(Box<carts::Report>),
}

impl Played {
    fn print(&self, out: Output) {
        match self {
            Self::Orders(report) => report.print(out),
            #[cfg(feature = "demo-carts")]
            Self::Carts(report) => report.print(out),
        }
    }

    fn is_exact(&self) -> bool {
        match self {
            Self::Orders(report) => report.exact,
            #[cfg(feature = "demo-carts")]
            Self::Carts(report) => report.exact,
        }
    }
}

/// Plays the demo. Ends with 0 only if every total is exact and nothing overtook anything.
pub(crate) fn run(args: Args, json: bool) -> ExitCode {
    let system = args.system;
    // Six digits: a seed that can be read out and typed in.
    let seed = args.seed.unwrap_or_else(|| System.seed() % 1_000_000);
    let played = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::Failed(format!("the asynchronous runtime does not start: {error}")))
        .and_then(|runtime| runtime.block_on(play(args, seed)));
    let paint = Paint::for_terminal(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match played {
        Ok(played) => {
            played.print(Output::new(json));
            if played.is_exact() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(Trouble::Interrupted) => {
            eprintln!("interrupted; no process is left behind");
            INTERRUPTED.into()
        }
        #[cfg(feature = "demo-carts")]
        Err(Trouble::Misspoken(what)) => {
            eprintln!("{} {what}", paint.bad("error:"));
            crate::exit::Exit::Usage.code().into()
        }
        Err(Trouble::Failed(why)) => {
            let system = match system {
                Cast::Orders => "",
                #[cfg(feature = "demo-carts")]
                Cast::Carts => " --system carts",
            };
            eprintln!("{} {why}", paint.bad("error:"));
            eprintln!(
                "  {} `outbox demo{system} --seed {seed} --keep DIR` does the same and keeps the logs",
                paint.strong("help:")
            );
            ExitCode::FAILURE
        }
    }
}

async fn play(args: Args, seed: u64) -> Result<Played, Trouble> {
    #[cfg(feature = "demo-carts")]
    args.check()?;
    match args.system {
        Cast::Orders => {
            let orders = args.orders.map(|orders| orders as usize);
            let (level, keep, store) = (args.chaos, args.keep, args.store);
            let settings = story::Settings { seed, level, orders, keep, store };
            Ok(Played::Orders(Box::new(story::play(&settings).await?)))
        }
        #[cfg(feature = "demo-carts")]
        Cast::Carts => {
            let customers = args.customers.unwrap_or(carts::CUSTOMERS) as usize;
            let (level, keep, endpoint) = (args.chaos, args.keep, args.endpoint);
            let settings = carts::Settings { seed, level, customers, keep, endpoint };
            Ok(Played::Carts(Box::new(carts::play(&settings).await?)))
        }
    }
}

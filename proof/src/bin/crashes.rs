//! Kills real processes until it has killed as many as asked for, or for hours, and looks whether the contract was kept.

use std::{io::IsTerminal as _, num::NonZeroUsize, path::PathBuf, process::ExitCode, thread, time::Duration};

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use outbox::{Clock as _, Entropy as _, System};
use proof::crashes::{
    Breach, Settings, build, check_binary, interrupt,
    plan::{Plan, round},
    run,
    tally::Tally,
};

const AFTER_HELP: &str = "\
The binary is built first, of the tree as it is now and with crash points, unless one is named that was.

Every point that a relay passes and every kind of fault strikes at least once, however few crashes are asked for. One that \
never struck, or a broken promise, ends the run with exit code 1, and what keeps it from beginning with 2. The folder of a \
broken world stays, and what is printed says how to run it again. Ctrl-C ends the run with 130, and leaves nothing of it.";

/// Crash real relays and consumers, and hold what arrived against what was committed.
///
/// Processes are killed at named points before and after each I/O, killed from outside, stopped past their lease; answers
/// are lost, clocks jump, disks fill up, databases are swapped for older backups.
#[derive(Debug, Parser)]
#[command(name = "crashes", after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// Kill at least so many processes
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = crashes)]
    crashes: usize,
    /// Go on, round after round, for so many hours
    #[arg(long, value_name = "H", conflicts_with = "world", value_parser = hours)]
    hours: Option<Duration>,
    /// What decides what goes wrong; without one, another every time
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only this world of the round
    #[arg(long, value_name = "NUMBER", requires = "seed")]
    world: Option<usize>,
    /// A binary with crash points [default: one that is built now]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// How many worlds at a time
    #[arg(long, value_name = "N", default_value = "8")]
    at_a_time: NonZeroUsize,
}

/// More than these are for `--hours`: a round is drawn whole.
fn crashes(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= 100_000);
    number.ok_or_else(|| "not a number up to 100000; for more of them, say `--hours`".to_owned())
}

fn hours(text: &str) -> Result<Duration, String> {
    let hours: f64 = text.parse().map_err(|_| "not a number of hours, as 0.5 or 12".to_owned())?;
    Duration::try_from_secs_f64(hours * 3600.0).map_err(|error| format!("not a number of hours, as 0.5 or 12: {error}"))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let first = cli.seed.unwrap_or_else(|| System.seed() % 1_000_000);
    let worlds = round(first, cli.crashes).len();
    if let Some(world) = cli.world.filter(|world| *world >= worlds) {
        let (crashes, last) = (cli.crashes, worlds - 1);
        let what = format!("--world {world}: a round of {crashes} crashes has worlds 0 to {last}; nothing was done\n");
        Cli::command().error(ErrorKind::ValueValidation, what).exit();
    }
    silence_worlds();
    match crash(&cli, first) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// What goes wrong in a world, each of which has a thread, is told at the end, with its plan. What panics elsewhere says
/// so itself.
fn silence_worlds() {
    let main = thread::current().id();
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if thread::current().id() == main {
            others(panic);
        }
    }));
}

/// Gives whether the contract was kept, and everything struck.
fn crash(cli: &Cli, first: u64) -> Result<bool, String> {
    let binary = match &cli.binary {
        Some(named) => named.canonicalize().map_err(|error| format!("--binary {}: {error}", named.display()))?,
        None => build()?,
    };
    check_binary(&binary)?;
    let folder = std::env::temp_dir().join(format!("outbox-crashes-{:08x}", System.seed() >> 32));
    let settings = Settings { binary, folder: folder.clone(), at_a_time: cli.at_a_time.get() };
    interrupt::awaited(folder.clone()).map_err(|error| format!("signals cannot be awaited: {error}"))?;
    println!("seed {first}");
    let began = System.moment();
    let mut tally = Tally::default();
    let mut seed = first;
    loop {
        let (done, breaches) = a_round(cli, &settings, seed);
        tally.add(done);
        if !breaches.is_empty() {
            println!("{tally}");
            for breach in &breaches {
                tell(breach, cli, seed);
            }
            return Ok(false);
        }
        seed = seed.wrapping_add(1);
        if cli.hours.is_none_or(|limit| System.moment().since(began) >= limit) {
            break;
        }
        println!("{} killed so far, next seed {seed}", tally.deaths);
    }
    println!("{tally}");
    // Empty by now; if a file is left in it, it is none of ours.
    let _ = std::fs::remove_dir(&folder);
    let missing = if cli.world.is_some() { Vec::new() } else { tally.missing() };
    for never in &missing {
        println!("never struck: {never}");
    }
    println!("took {:.0} s", System.moment().since(began).as_secs_f64());
    Ok(missing.is_empty())
}

fn a_round(cli: &Cli, settings: &Settings, seed: u64) -> (Tally, Vec<Breach>) {
    let mut plans = round(seed, cli.crashes);
    if let Some(world) = cli.world {
        plans.retain(|plan| plan.world == world);
    }
    let bar = bar(plans.iter().map(|plan| plan.story.deaths()).sum());
    let done = run(settings, &plans, &|tally| bar.set_position(tally.deaths));
    bar.finish_and_clear();
    done
}

fn bar(deaths: usize) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} killed, {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(deaths as u64), target).with_style(style)
}

fn tell(breach: &Breach, cli: &Cli, seed: u64) {
    let Breach { plan: Plan { world, story, .. }, wrong, folder, logs } = breach;
    println!("BROKEN in world {world} of seed {seed}:");
    for wrong in wrong {
        println!("  {wrong}");
    }
    println!("  what happens in it:\n{story}  logs:\n  {logs}");
    println!("  left in {}", folder.display());
    println!("  again: cargo run -p proof --bin crashes -- --crashes {} --seed {seed} --world {world}", cli.crashes);
}

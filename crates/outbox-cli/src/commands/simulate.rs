//! `outbox simulate`: relay and inbox in a simulated world where everything goes wrong, over and over.

use std::{
    num::NonZeroUsize,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outbox::{
    Clock as _, System,
    testing::simulator::{Campaign, Fault, Findings, Schedule, play},
};
use serde_json::json;

use crate::{
    exit::{Exit, Failure, Outcome},
    output::{Align, Output, Paint, Table, counted, number},
};

mod failed;

/// Below so many schedules a fault that never struck is no wonder.
const EXERCISES_ALL: u64 = 5_000;

/// What to play.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each schedule is one world: services that write, relays and a consumer that are killed, stores and targets that fail, \
operators in the middle of it, all drawn from the schedule's seed. After every step the contract is checked, and at the \
end everything has to have come right. The same seed gives the same run, to the byte.

It needs no configuration and touches no file. A long run goes on where another ended: give it the seed behind the last. \
From 5,000 schedules on a fault that never struck is a failure.")]
pub(crate) struct Args {
    /// How many schedules
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    schedules: u64,
    /// The first one's seed; the others follow
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// On so many threads [default: one a processor]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Of one schedule, leave out all incidents but these
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    only: Option<Vec<usize>>,
    /// Of one schedule, print what happens, line by line
    #[arg(long)]
    trace: bool,
}

/// Plays the schedules that `args` say.
pub(crate) fn run(out: Output, args: &Args) -> Outcome {
    if args.trace || args.only.is_some() {
        return one(out, args);
    }
    let end = args.seed.checked_add(args.schedules).ok_or_else(|| {
        Failure::usage("--seed and --schedules together are beyond the last seed; nothing was done")
            .help("begin with a smaller --seed")
    })?;
    let mut campaign = Campaign::new(args.seed..end);
    campaign.threads = args.threads.unwrap_or(campaign.threads);
    let bar = out.progress(Some(args.schedules), "schedules");
    let (began, interrupted) = (System.moment(), on_interrupt()?);
    let findings = campaign.run(|played| {
        bar.inc(played);
        !interrupted.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    let findings = findings.map_err(|error| no_runtime(&error))?;
    let never = findings.tally.never();
    let unexercised = findings.schedules >= EXERCISES_ALL && !never.is_empty();
    let sound = findings.failures.is_empty() && !unexercised && !interrupted.load(Ordering::Relaxed);
    if out.json {
        out.value(&as_json(args, &findings, System.moment().since(began), sound));
    } else {
        show(out, &campaign, &findings, System.moment().since(began));
        if let Some(first) = findings.failures.first() {
            failed::explain(out, first)?;
        }
    }
    Ok(if sound { Exit::Ok } else { Exit::Failed })
}

/// Plays one schedule, or a part of it, before everybody's eyes.
fn one(out: Output, args: &Args) -> Outcome {
    if args.schedules != 1 {
        return Err(
            Failure::usage("--trace and --only are for one schedule; nothing was done").help("add --schedules 1")
        );
    }
    let whole = Schedule::draw(args.seed);
    let schedule = args.only.as_ref().map_or_else(|| whole.clone(), |kept| whole.only(kept));
    let played = play(&schedule, args.trace).map_err(|error| no_runtime(&error))?;
    if out.json {
        let breaches: Vec<String> = played.breaches.iter().map(ToString::to_string).collect();
        out.value(&json!({ "seed": args.seed, "trace": played.trace, "breaches": breaches }));
    } else {
        out.line(schedule.to_string());
        for line in &played.trace {
            out.line(line);
        }
        for breach in &played.breaches {
            out.line(out.paint.bad(&breach.to_string()));
        }
        if played.breaches.is_empty() {
            out.line(out.paint.good("every point of the contract held"));
        }
    }
    Ok(if played.breaches.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Set by Ctrl-C, so that what was found until then is shown.
fn on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let set = interrupted.clone();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(|error| no_runtime(&error))?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            set.store(true, Ordering::Relaxed);
        }
    });
    Ok(interrupted)
}

fn no_runtime(error: &std::io::Error) -> Failure {
    Failure::new("no runtime for a simulated world could be made")
        .because(error)
        .help("raise the limits on threads and files")
}

fn seeds(range: &Range<u64>) -> String {
    format!("seeds {} to {}", number(range.start), number(range.end - 1))
}

fn show(out: Output, campaign: &Campaign, findings: &Findings, took: Duration) {
    let mut faults = Table::new([("struck", Align::Right), ("fault", Align::Left)]);
    for &fault in Fault::ALL {
        faults.row([number(findings.tally.of(fault)).into(), fault.name().into()]);
    }
    out.line(faults.render(out.paint));
    out.line(format!(
        "\n{} of {}, in {:.1} s on {}: {}, {} of relays",
        counted(findings.schedules, "schedule", "schedules"),
        seeds(&campaign.seeds),
        took.as_secs_f64(),
        counted(campaign.threads.get() as u64, "thread", "threads"),
        counted(findings.events, "event", "events"),
        counted(findings.steps, "I/O", "I/Os"),
    ));
    let never = findings.tally.never();
    if !never.is_empty() {
        let names: Vec<&str> = never.iter().map(|fault| fault.name()).collect();
        let paint = if findings.schedules >= EXERCISES_ALL { Paint::bad } else { Paint::warn };
        out.line(paint(out.paint, &format!("never struck: {}", names.join("; "))));
    }
    if findings.failures.is_empty() {
        out.line(out.paint.good("every point of the contract held in all of them"));
    } else {
        let failed = counted(findings.failures.len() as u64, "schedule", "schedules");
        out.line(out.paint.bad(&format!("{failed} broke the contract")));
        for failure in &findings.failures {
            for breach in failure.breaches.iter().take(1) {
                out.line(format!("  seed {:<8} {breach}", failure.seed));
            }
        }
    }
    if findings.schedules < campaign.seeds.end - campaign.seeds.start {
        out.line(out.paint.warn("not all schedules were played"));
    }
}

fn as_json(args: &Args, findings: &Findings, took: Duration, sound: bool) -> serde_json::Value {
    let faults: serde_json::Map<_, _> =
        Fault::ALL.iter().map(|&fault| (fault.name().to_owned(), findings.tally.of(fault).into())).collect();
    let failures: Vec<_> = findings
        .failures
        .iter()
        .map(|failure| {
            let breaches: Vec<String> = failure.breaches.iter().map(ToString::to_string).collect();
            json!({ "seed": failure.seed, "breaches": breaches })
        })
        .collect();
    json!({
        "sound": sound,
        "first_seed": args.seed,
        "schedules": findings.schedules,
        "seconds": took.as_secs_f64(),
        "events": findings.events,
        "steps": findings.steps,
        "faults": faults,
        "failures": failures,
    })
}

//! `outbox simulate`: relay and inbox in a simulated world where everything goes wrong, over and over.

use std::{fmt, num::NonZeroUsize};

use outbox::{
    Clock as _, System,
    testing::simulator::{Campaign, Findings, Schedule},
};

use crate::{
    exit::{Failure, Outcome},
    output::{Milestones, Output},
};

mod failed;
mod interrupt;
mod one;
mod report;

use failed::Smallest;
use interrupt::Interrupt;
use report::Report;

/// Schedules of a run that does not say how many.
const SCHEDULES: u64 = 10_000;

/// What to play.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each schedule is one world: services that write, relays and a consumer that are killed, stores and targets that fail, \
operators in the middle of it, all drawn from the schedule's seed. After every step the contract is checked, and at the \
end everything has to have come right. The same seed gives the same run, to the byte. One that fails is shown with the \
fewest incidents that still go wrong, by number, and the command that plays them again.

It needs no configuration and touches no file. A long run goes on where another ended: give it the seed behind the last. \
Ctrl-C shows what was found until then, and that seed; another one, a second later, ends it at once. From 5,000 schedules on a fault that \
never struck is a failure, and from 20,000 on an I/O before or after which no relay was killed. So is a schedule that panics, or takes longer than a minute.")]
pub(crate) struct Args {
    /// How many schedules [default: 10000, or 1 with --trace or --only]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    schedules: Option<u64>,
    /// The first one's seed; the others follow
    #[arg(long, value_name = "SEED", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// On so many threads [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Of one schedule, leave out all incidents but these, by number: 3,9,17; or none
    #[arg(long, value_name = "NUMBERS", value_parser = part)]
    only: Option<Part>,
    /// Of one schedule, print what happens, line by line
    #[arg(long)]
    trace: bool,
}

/// A part of a schedule: the numbers of its incidents, rising.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part(Vec<usize>);

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

fn part(text: &str) -> Result<Part, String> {
    if text == "none" {
        return Ok(Part(Vec::new()));
    }
    let number = |text: &str| {
        let what = format!("`{text}` is no number of an incident: give numbers with commas between them, or `none`");
        text.trim().parse::<usize>().map_err(|_| what)
    };
    let mut numbers = text.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Part(numbers))
}

/// Plays the schedules that `args` say.
pub(crate) fn run(out: Output, args: &Args) -> Outcome {
    if args.trace || args.only.is_some() {
        return one::run(out, args);
    }
    let end = args.seed.checked_add(args.schedules.unwrap_or(SCHEDULES)).ok_or_else(|| {
        Failure::usage("--seed and --schedules together are beyond the last seed; nothing was done")
            .help("begin with a smaller --seed")
    })?;
    let mut campaign = Campaign::new(args.seed..end);
    let threads = args.threads.map_or(campaign.threads.get() as u64, u64::from).min(end - args.seed);
    campaign.threads = usize::try_from(threads).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
    let (began, interrupt) = (System.moment(), Interrupt::awaited()?);
    let findings = play(out, &campaign, &interrupt)?;
    let interrupted = interrupt.came() && findings.next < end;
    let report = Report { campaign, findings, took: System.moment().since(began), interrupted };
    if out.json {
        let smallest: Result<Vec<_>, _> =
            report.findings.failures.iter().map(|failed| Smallest::of(out, failed, &interrupt)).collect();
        out.value(&report.json(&smallest?));
        return Ok(report.exit());
    }
    out.line(report.text(out.paint));
    if let Some(first) = report.findings.failures.first() {
        let smallest = Smallest::of(out, first, &interrupt)?;
        let text = smallest.map_or_else(|| failed::unexplained(first), |smallest| smallest.text(out.paint));
        out.line(format!("\n{text}"));
    }
    Ok(report.exit())
}

fn play(out: Output, campaign: &Campaign, interrupt: &Interrupt) -> Result<Findings, Failure> {
    let all = campaign.seeds.end - campaign.seeds.start;
    let bar = out.progress(all, "schedules");
    let mut milestones = Milestones::new(out, &System);
    let findings = campaign.run(|played| {
        bar.inc(played);
        milestones.reached(&System, bar.position(), all, "schedules");
        !interrupt.came()
    });
    bar.finish_and_clear();
    findings.map_err(|error| no_runtime(&error))
}

fn no_runtime(error: &std::io::Error) -> Failure {
    Failure::new("no runtime for a simulated world could be made")
        .because(error)
        .help("raise the limits on threads and files")
}

/// The world of a schedule, and its incidents, each on one line with its number.
fn texts(schedule: &Schedule) -> [Vec<String>; 2] {
    [schedule.world(), schedule.incidents()].map(|lines| lines.iter().map(|line| line.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_sorted_and_has_nothing_twice() {
        assert_eq!(part("3,3,2, 10").unwrap().to_string(), "2,3,10");
        assert_eq!(part("none").unwrap(), Part(Vec::new()));
        assert_eq!(part(&Part(Vec::new()).to_string()).unwrap(), Part(Vec::new()));
        for wrong in ["", "3,", "x", "-1", "none,3"] {
            assert!(part(wrong).unwrap_err().contains("is no number of an incident"), "{wrong}");
        }
    }
}

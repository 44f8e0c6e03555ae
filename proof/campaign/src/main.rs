//! Plays schedules of the simulator until one breaks the contract, and says which. What `scripts/test` plays, and what `planted`
//! builds for each bug: it needs `outbox` and `serde_json`, and nothing else.

use std::{ops::Range, process::ExitCode};

use outbox::testing::simulator::{Campaign, Failure};
use serde_json::{Value, json};

const HELP: &str = "\
Plays schedules of the simulator until one breaks the contract, and says so as a line of JSON: how many were played, what
broke, and which faults never struck.

usage: campaign FIRST-SEED SCHEDULES

Exit code 0 if all kept the contract, 1 if one did not or if there were enough of them that each fault should have struck and
one never did, 2 if none were played.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let Some(seeds) = seeds(&arguments) else {
        eprintln!("error: two whole numbers are needed, and schedules to play, whose seeds end below 2^64\n\n{HELP}");
        return ExitCode::from(2);
    };
    let first = seeds.start;
    let campaign = Campaign { most_failures: 1, ..Campaign::new(seeds) };
    match campaign.run(|_played| true) {
        Ok(findings) => {
            let broken = findings.failures.first();
            // All below it were played, whatever other threads came to meanwhile.
            let played = broken.map_or(findings.next, |failure| failure.seed + 1) - first;
            println!("{}", json!({ "played": played, "broken": broken.map(told), "never_struck": findings.never() }));
            // A schedule that comes to no end goes on: it ends with the process.
            ExitCode::from(u8::from(broken.is_some() || !findings.is_exercised()))
        }
        Err(error) => {
            eprintln!("error: no runtime could be made: {error}");
            ExitCode::from(2)
        }
    }
}

fn seeds(arguments: &[String]) -> Option<Range<u64>> {
    let numbers: Vec<u64> = arguments.iter().map(|number| number.parse()).collect::<Result<_, _>>().ok()?;
    let &[first, schedules] = numbers.as_slice() else { return None };
    (schedules > 0).then_some(first..first.checked_add(schedules)?)
}

/// By which rule it failed first, and how; and what plays it again.
fn told(failure: &Failure) -> Value {
    let (rule, what) = failure.breaches.first().map_or(("", ""), |breach| (breach.rule.name(), &breach.what));
    let command = format!("outbox simulate --seed {} --trace", failure.seed);
    json!({ "seed": failure.seed, "rule": rule, "what": what, "command": command })
}

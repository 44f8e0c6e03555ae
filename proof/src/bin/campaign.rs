//! Plays schedules of the simulator until one breaks the contract, and says which. What `planted` builds for each bug: it
//! needs `outbox` and `serde_json`, and nothing else.

use std::process::ExitCode;

use outbox::testing::simulator::{Campaign, Failure};
use serde_json::{Value, json};

const USAGE: &str = "usage: campaign FIRST-SEED SCHEDULES";

fn main() -> ExitCode {
    let numbers: Result<Vec<u64>, _> = std::env::args().skip(1).map(|number| number.parse()).collect();
    let Ok(&[first, schedules]) = numbers.as_deref() else {
        eprintln!("error: {USAGE}");
        return ExitCode::from(2);
    };
    let campaign = Campaign { most_failures: 1, ..Campaign::new(first..first.saturating_add(schedules)) };
    match campaign.run(|_played| true) {
        Ok(findings) => {
            let broken = findings.failures.first();
            // All below it were played, whatever other threads came to meanwhile.
            let played = broken.map_or(findings.next, |failure| failure.seed + 1) - first;
            let never: Vec<_> = findings.tally.never().iter().map(|fault| fault.name()).collect();
            println!("{}", json!({ "played": played, "broken": broken.map(told), "never_struck": never }));
            // A schedule that comes to no end goes on: it ends with the process.
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: no runtime could be made: {error}");
            ExitCode::from(2)
        }
    }
}

/// By which rule it failed first, and how.
fn told(failure: &Failure) -> Value {
    let (rule, what) = failure.breaches.first().map_or(("", ""), |breach| (breach.rule.name(), &breach.what));
    json!({ "seed": failure.seed, "rule": rule, "what": what })
}

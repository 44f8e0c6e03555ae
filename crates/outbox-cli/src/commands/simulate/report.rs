//! What came of a run.

use std::time::Duration;

use outbox::testing::simulator::{Campaign, Failure as Failed, Fault, Findings};
use serde_json::{Value, json};

use super::failed::{self, Smallest};
use crate::{
    exit::Exit,
    output::{Align, Paint, Table, counted, number, width, wrapped},
};

/// What came of a run, and of how much of it.
pub(super) struct Report {
    pub(super) campaign: Campaign,
    pub(super) findings: Findings,
    pub(super) took: Duration,
    /// Somebody wanted it to end.
    pub(super) interrupted: bool,
}

impl Report {
    /// Schedules that were not played.
    fn left(&self) -> u64 {
        self.campaign.seeds.end - self.findings.next
    }

    fn held(&self) -> bool {
        self.findings.failures.is_empty() && self.findings.is_exercised()
    }

    /// A broken contract is worse news than an interruption.
    pub(super) fn exit(&self) -> Exit {
        match (self.held(), self.left()) {
            (true, 0) => Exit::Ok,
            (true, _) => Exit::Interrupted,
            (false, _) => Exit::Failed,
        }
    }

    /// As people read it.
    pub(super) fn text(&self, paint: Paint) -> String {
        let Self { campaign, findings, took, .. } = self;
        let mut table = Table::new([("struck", Align::Right), ("fault", Align::Left)]);
        for &fault in Fault::ALL {
            table.row([number(findings.tally.of(fault)).into(), fault.name().into()]);
        }
        let mut lines = vec![table.render(paint), String::new()];
        let played = format!(
            "{}{}, in {:.1} s on {}: {}, {} of relays",
            counted(findings.schedules, "schedule", "schedules"),
            self.seeds(),
            took.as_secs_f64(),
            counted(campaign.threads.get() as u64, "thread", "threads"),
            counted(findings.events, "event", "events"),
            counted(findings.steps, "I/O", "I/Os"),
        );
        lines.extend(wrapped(&played, width()));
        lines.extend(wrapped(&self.killed(), width()));
        let never = findings.never();
        if !never.is_empty() {
            let paint = |text: &String| if findings.is_exercised() { paint.warn(text) } else { paint.bad(text) };
            lines.extend(wrapped(&format!("never struck: {}", never.join("; ")), width()).iter().map(paint));
        }
        lines.extend(self.verdict(paint));
        if self.left() > 0 {
            lines.extend(self.rest().iter().map(|line| paint.warn(line)));
        }
        lines.join("\n")
    }

    /// At which of their I/Os relays were killed, in a sentence: the numbers are for programs.
    fn killed(&self) -> String {
        let points: Vec<_> = self.findings.tally.killed().collect();
        let struck = points.iter().filter(|(_, _, times)| *times > 0).count();
        let Some((io, side, least)) = points.iter().min_by_key(|(_, _, times)| times) else { return String::new() };
        let most = points.iter().map(|(_, _, times)| *times).max().unwrap_or_default();
        format!(
            "relays were killed at {struck} of {} points, {} to {} times at each, least often {side} {io}",
            points.len(),
            number(*least),
            number(most)
        )
    }

    fn seeds(&self) -> String {
        let (first, next) = (self.campaign.seeds.start, self.findings.next);
        if first == next { String::new() } else { format!(" of seeds {} to {}", number(first), number(next - 1)) }
    }

    fn verdict(&self, paint: Paint) -> Vec<String> {
        let failures = &self.findings.failures;
        if failures.is_empty() && !self.findings.is_exercised() {
            let never = counted(self.findings.never().len() as u64, "fault", "faults");
            let text = format!("failed: nothing broke the contract, but {never} never struck in so many schedules");
            return wrapped(&text, width()).iter().map(|text| paint.bad(text)).collect();
        }
        if failures.is_empty() && self.left() == 0 {
            return vec![paint.good("every point of the contract held in all of them")];
        }
        if failures.is_empty() {
            return vec!["every point of the contract held in those that were played".to_owned()];
        }
        let failed = counted(failures.len() as u64, "schedule", "schedules");
        let mut lines = vec![paint.bad(&format!("{failed} broke the contract"))];
        for failure in failures {
            for breach in failure.breaches.iter().take(1) {
                let seed = format!("  seed {:<8} ", failure.seed);
                let indent = " ".repeat(seed.len());
                let told = wrapped(&breach.to_string(), width().saturating_sub(seed.len()));
                lines.extend(told.iter().enumerate().map(|(nth, told)| {
                    let before = if nth == 0 { &seed } else { &indent };
                    format!("{before}{told}")
                }));
            }
        }
        lines
    }

    /// What was not played, and why, and how to go on.
    fn rest(&self) -> [String; 2] {
        let why = if self.interrupted { "interrupted" } else { "stopped by what broke the contract" };
        let all = self.campaign.seeds.end - self.campaign.seeds.start;
        let (played, all) = (number(self.findings.schedules), counted(all, "schedule", "schedules"));
        [
            format!("{why}: {played} of {all} were played"),
            format!("go on with --seed {} --schedules {}", self.findings.next, self.left()),
        ]
    }

    /// As programs read it, with the smallest part of each that failed, where there is one.
    pub(super) fn json(&self, smallest: &[Option<Smallest>]) -> Value {
        let findings = &self.findings;
        let faults: serde_json::Map<_, _> =
            Fault::ALL.iter().map(|&fault| (fault.name().to_owned(), findings.tally.of(fault).into())).collect();
        let killed: Vec<_> = findings
            .tally
            .killed()
            .map(|(io, side, times)| json!({ "io": io.name(), "side": side.name(), "times": times }))
            .collect();
        let smallest = smallest.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        let failures: Vec<_> =
            findings.failures.iter().zip(smallest).map(|(failed, smallest)| failure(failed, smallest)).collect();
        json!({
            "sound": self.exit() == Exit::Ok,
            "interrupted": self.interrupted,
            "first_seed": self.campaign.seeds.start,
            "next_seed": findings.next,
            "schedules": findings.schedules,
            "seconds": self.took.as_secs_f64(),
            "events": findings.events,
            "steps": findings.steps,
            "faults": faults,
            "killed": killed,
            "never": findings.never(),
            "failures": failures,
        })
    }
}

fn failure(failed: &Failed, smallest: Option<&Smallest>) -> Value {
    let breaches: Vec<String> = failed.breaches.iter().map(ToString::to_string).collect();
    json!({
        "seed": failed.seed,
        "breaches": breaches,
        "command": failed::command(failed.seed, None),
        "smallest": smallest.map(Smallest::json),
    })
}

#[cfg(test)]
mod tests {
    use outbox::testing::simulator::{Breach, Rule};

    use super::*;

    fn report(next: u64, failures: Vec<Failed>) -> Report {
        let findings = Findings { schedules: next - 100, next, failures, ..Findings::default() };
        let campaign = Campaign::new(100..1_100);
        Report { campaign, findings, took: Duration::from_secs(2), interrupted: next < 1_100 }
    }

    fn broken() -> Vec<Failed> {
        vec![Failed { seed: 104, breaches: vec![Breach { rule: Rule::Once, what: "applied twice".to_owned() }] }]
    }

    #[test]
    fn an_interrupted_run_says_what_was_played_and_where_to_go_on() {
        let report = report(400, Vec::new());
        let text = report.text(Paint::plain());
        assert!(text.contains("300 schedules of seeds 100 to 399"), "{text}");
        assert!(text.contains("held in those that were played") && !text.contains("in all of them"), "{text}");
        let rest = "interrupted: 300 of 1,000 schedules were played\ngo on with --seed 400 --schedules 700";
        assert!(text.ends_with(rest), "{text}");
        assert_eq!(report.exit(), Exit::Interrupted);
        let json = report.json(&[]);
        assert_eq!((&json["interrupted"], &json["sound"]), (&true.into(), &false.into()));
        assert_eq!((&json["next_seed"], &json["first_seed"]), (&400.into(), &100.into()));
        assert_eq!(json["never"].as_array().unwrap().len(), Fault::ALL.len());
    }

    #[test]
    fn lines_break_between_words_where_a_screen_ends() {
        let what = "a call beyond the limits of its sink: ".to_owned() + &"key/3@1.12.0 ".repeat(20);
        let failures = vec![Failed { seed: 104, breaches: vec![Breach { rule: Rule::Bounded, what }] }];
        let mut report = report(400, failures);
        report.campaign.seeds.end = 12_345_678_901;
        let text = report.text(Paint::plain());
        let long: Vec<_> = text.lines().filter(|line| line.chars().count() > crate::output::WIDTH).collect();
        assert!(long.is_empty(), "{long:#?}");
        assert!(text.contains("key/3@1.12.0\n                key/3@1.12.0"), "{text}");
        assert!(text.ends_with("go on with --seed 400 --schedules 12345678501"), "{text}");
    }

    #[test]
    fn how_often_relays_were_killed_at_each_io_is_told_to_programs() {
        let report = report(400, Vec::new());
        assert!(report.text(Paint::plain()).contains("relays were killed at 0 of "));
        let json = report.json(&[]);
        let killed = json["killed"].as_array().unwrap();
        let points = report.findings.tally.killed().count();
        assert_eq!(killed.len(), points);
        assert!(killed.iter().any(|point| point["io"] == "Settle" && point["side"] == "after" && point["times"] == 0));
    }

    #[test]
    fn a_run_that_was_interrupted_at_once_played_nothing() {
        let text = report(100, Vec::new()).text(Paint::plain());
        assert!(text.contains("\n\n0 schedules, in 2.0 s"), "{text}");
        assert!(text.contains("go on with --seed 100 --schedules 1000"), "{text}");
    }

    #[test]
    fn a_whole_run_is_sound() {
        let report = report(1_100, Vec::new());
        assert!(report.text(Paint::plain()).ends_with("every point of the contract held in all of them"));
        assert_eq!((report.exit(), &report.json(&[])["sound"]), (Exit::Ok, &true.into()));
    }

    #[test]
    fn a_broken_contract_is_told_whether_interrupted_or_not() {
        let report = report(400, broken());
        let text = report.text(Paint::plain());
        assert!(text.contains("1 schedule broke the contract\n  seed 104      once: applied twice"), "{text}");
        assert_eq!(report.exit(), Exit::Failed);
        let json = report.json(&[None]);
        assert_eq!(json["failures"][0]["command"], "outbox simulate --seed 104 --trace");
        assert!(json["failures"][0]["smallest"].is_null());
    }

    #[test]
    fn a_fault_that_never_struck_in_many_schedules_is_a_failure() {
        let mut report = report(1_100, Vec::new());
        report.findings.schedules = 5_000;
        assert_eq!(report.exit(), Exit::Failed);
        let text = report.text(Paint::plain());
        assert!(text.contains("\nfailed: nothing broke the contract, but ") && !text.contains("held"), "{text}");
    }

    #[test]
    fn an_io_at_which_no_relay_was_killed_in_very_many_schedules_never_struck() {
        let mut report = report(1_100, Vec::new());
        let named = |report: &Report| {
            let json = report.json(&[]);
            json["never"].as_array().unwrap().iter().any(|never| never == "relay killed after Settle")
        };
        report.findings.schedules = 19_999;
        assert!(!named(&report));
        report.findings.schedules = 20_000;
        assert!(named(&report));
        let points = report.findings.tally.killed().count();
        let never = format!("but {} faults never struck", Fault::ALL.len() + points);
        let text = report.text(Paint::plain()).replace('\n', " ");
        assert!(text.contains("relay killed after Settle") && text.contains(&never), "{text}");
    }
}

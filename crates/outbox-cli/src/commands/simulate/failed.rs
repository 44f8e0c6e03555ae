//! A schedule that broke the contract, made small and readable.

use std::{fmt::Write as _, ops::Range};

use outbox::testing::simulator::{Failure as Failed, Played, Schedule, shrink};
use serde_json::{Value, json};

use super::{Part, interrupt::Interrupt, no_runtime, texts};
use crate::{
    exit::Failure,
    output::{Output, Paint, counted},
};

/// So many lines of the trace are shown,
const SHOWN: usize = 60;
/// and of these so many behind that of the first breach.
const AFTERWARDS: usize = 9;

/// The smallest part of a schedule that still goes wrong.
pub(super) struct Smallest {
    whole: Schedule,
    kept: Vec<usize>,
    played: Played,
    /// Somebody did not want to wait for it: it may have incidents to spare.
    is_unfinished: bool,
}

impl Smallest {
    /// Looks for it. There is none if the schedule comes to no end, or if nobody wants to wait any more.
    ///
    /// # Errors
    /// [`Failure`] if no runtime could be made.
    pub(super) fn of(out: Output, failed: &Failed, interrupt: &Interrupt) -> Result<Option<Self>, Failure> {
        if interrupt.came() || is_endless(failed) {
            return Ok(None);
        }
        let whole = Schedule::draw(failed.seed);
        let waiting = out.waiting("looking for the smallest that still goes wrong (Ctrl-C: show what there is)");
        let shrunk = shrink(&whole, || !interrupt.came());
        waiting.finish_and_clear();
        let (kept, played) = shrunk.map_err(|error| no_runtime(&error))?;
        Ok(Some(Self { whole, kept, played, is_unfinished: interrupt.came() }))
    }

    /// What happens in it, line by line, and how to see it again.
    pub(super) fn text(&self, paint: Paint) -> String {
        let Self { whole, kept, played, .. } = self;
        let all = counted(whole.len() as u64, "incident", "incidents");
        let mut text = paint.strong(&format!("seed {}, with {} of its {all}", whole.seed, kept.len()));
        text.push('\n');
        if self.is_unfinished {
            text.push_str("interrupted: it may have more to spare\n");
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", whole.only(kept));
        let shown = around(played);
        let left_out = |text: &mut String, lines: usize| {
            if lines > 0 {
                let lines = counted(lines as u64, "line", "lines");
                let left_out = format!("{lines} of the trace left out here: the last command below prints all");
                let _ = writeln!(text, "{}", paint.faint(&left_out));
            }
        };
        left_out(&mut text, shown.start);
        for (at, line) in played.trace[shown.clone()].iter().enumerate() {
            let is_first = played.broken_at() == Some(shown.start + at);
            let _ = writeln!(text, "{}", if is_first { paint.bad(line) } else { line.clone() });
        }
        left_out(&mut text, played.trace.len() - shown.end);
        for breach in &played.breaches {
            let _ = writeln!(text, "{}", paint.bad(&breach.to_string()));
        }
        if played.breaches.is_empty() {
            let differs =
                "played again, it kept the contract: two runs of one seed differ, which is a defect of its own";
            let _ = writeln!(text, "{}", paint.bad(differs));
        }
        let _ = writeln!(text, "\nall of it: {}", command(whole.seed, None));
        let _ = write!(text, "this part: {}", self.command());
        text
    }

    /// The same for programs, with the whole trace.
    pub(super) fn json(&self) -> Value {
        let [world, incidents] = texts(&self.whole.only(&self.kept));
        let breaches: Vec<String> = self.played.breaches.iter().map(ToString::to_string).collect();
        json!({
            "only": self.kept,
            "of": self.whole.len(),
            "unfinished": self.is_unfinished,
            "world": world,
            "incidents": incidents,
            "trace": self.played.trace,
            "breaches": breaches,
            "command": self.command(),
        })
    }

    fn command(&self) -> String {
        command(self.whole.seed, Some(&Part(self.kept.clone())))
    }
}

/// The lines of the trace around the first breach; the last ones, where none is in it.
fn around(played: &Played) -> Range<usize> {
    let all = played.trace.len();
    let end = played.broken_at().map_or(all, |at| (at + 1 + AFTERWARDS).min(all));
    let start = end.saturating_sub(SHOWN);
    start..(start + SHOWN).min(all)
}

fn is_endless(failed: &Failed) -> bool {
    failed.breaches.iter().any(|breach| breach.rule.is_endless())
}

/// What to do about a schedule of which there is no smallest part.
pub(super) fn unexplained(failed: &Failed) -> String {
    let seed = failed.seed;
    if is_endless(failed) {
        return format!(
            "seed {seed} comes to no end, so that it can be neither traced nor made smaller\n\
             again:     outbox simulate --seed {seed} --schedules 1"
        );
    }
    format!("to see it small: outbox simulate --seed {seed} --schedules 1")
}

/// Shows a schedule again, or a part of it, with its trace.
pub(super) fn command(seed: u64, part: Option<&Part>) -> String {
    let part = part.map_or_else(String::new, |part| format!(" --only {part}"));
    format!("outbox simulate --seed {seed}{part} --trace")
}

#[cfg(test)]
mod tests {
    use outbox::testing::simulator::{Breach, Rule, play};

    use super::*;

    fn smallest(kept: &[usize], lines: usize) -> Smallest {
        let whole = Schedule::draw(7);
        let mut played = play(&whole.only(&[]), false).unwrap();
        played.trace = (0..lines).map(|line| format!("line {line} of the trace")).collect();
        played.breaches = vec![Breach { rule: Rule::InOrder, what: "overtaken".to_owned() }];
        Smallest { whole, kept: kept.to_vec(), played, is_unfinished: false }
    }

    #[test]
    fn what_is_shown_says_how_to_see_the_same_part_again() {
        let text = smallest(&[1, 4], 3).text(Paint::plain());
        assert!(text.contains("\n   1  ") && text.contains("\n   4  "), "{text}");
        assert!(text.contains("line 0 of the trace") && text.contains("in order: overtaken"), "{text}");
        assert!(text.ends_with("this part: outbox simulate --seed 7 --only 1,4 --trace"), "{text}");
        assert!(!text.contains("left out"), "{text}");
    }

    #[test]
    fn a_part_without_incidents_is_not_taken_for_the_whole() {
        let none = smallest(&[], 0);
        assert!(none.text(Paint::plain()).ends_with("--only none --trace"));
        assert_eq!(none.json()["command"], "outbox simulate --seed 7 --only none --trace");
    }

    #[test]
    fn a_long_trace_says_how_much_is_left_out_and_where_it_is() {
        let long = smallest(&[1], 100);
        let text = long.text(Paint::plain());
        assert!(!text.contains("line 39 ") && text.contains("line 40 "), "{text}");
        assert!(text.contains("40 lines of the trace left out here: the last command below prints all"), "{text}");
        assert_eq!(long.json()["trace"].as_array().unwrap().len(), 100);
    }

    #[test]
    fn of_a_long_trace_the_lines_around_the_first_breach_are_shown() {
        let mut long = smallest(&[1], 300);
        for broken in [150, 250] {
            long.played.trace[broken] = format!("{:>10.3} BROKEN: line {broken}", 9.5);
        }
        let text = long.text(Paint::plain());
        assert!(text.contains("line 150\n") && text.contains("line 100 ") && text.contains("line 159 "), "{text}");
        assert!(!text.contains("line 99 ") && !text.contains("line 160 "), "{text}");
        assert!(text.contains("100 lines of the trace left out") && text.contains("140 lines of the trace"), "{text}");
    }

    #[test]
    fn a_schedule_without_an_end_is_not_played_again() {
        let hung = Breach { rule: Rule::Hung, what: "no end".to_owned() };
        let text = unexplained(&Failed { seed: 3, breaches: vec![hung] });
        assert!(text.contains("comes to no end") && text.contains("--seed 3 --schedules 1"), "{text}");
    }
}

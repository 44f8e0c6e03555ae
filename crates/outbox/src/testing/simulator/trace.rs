//! What happens in a run, line by line, for people.

use std::{collections::BTreeMap, time::Duration};

use crate::testing::Io;

/// How a line begins that tells of a breach, behind its time.
pub(super) const BROKEN: &str = "BROKEN: ";
/// So many characters of each line are its time.
pub(super) const STAMP: usize = 11;
/// How a line ends whose call has not taken effect.
const UNDER_WAY: &str = " …";

/// The lines so far.
#[derive(Default)]
pub(super) struct Trace {
    lines: Vec<String>,
    /// What was answered last to each call that looks whether something changed.
    answered: BTreeMap<String, String>,
}

impl Trace {
    pub(super) fn note(&mut self, at: Duration, text: &str) {
        self.lines.push(format!("{:>10.3} {text}", at.as_secs_f64()));
    }

    /// A call is on its way.
    pub(super) fn begins(&mut self, at: Duration, call: &str) {
        self.note(at, &format!("{call}{UNDER_WAY}"));
    }

    /// The call took effect. One that happened at once has one line; one that looks whether something changed, and finds
    /// what it found before, has none.
    pub(super) fn ends(&mut self, at: Duration, io: Io, call: &str, answer: &str) {
        let is_its_beginning =
            |line: &String| line.get(STAMP..).and_then(|text| text.strip_suffix(UNDER_WAY)) == Some(call);
        let begun = self.lines.iter().rposition(is_its_beginning);
        let changed = !looks(io) || self.answered.insert(call.to_owned(), answer.to_owned()).as_deref() != Some(answer);
        if let Some(begun) = begun.filter(|begun| !changed || begun + 1 == self.lines.len()) {
            self.lines.remove(begun);
        }
        if changed {
            self.note(at, &format!("{call} → {}", if answer.is_empty() { "done" } else { answer }));
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

/// Whether a relay does this over and over, and mostly hears what it heard before.
fn looks(io: Io) -> bool {
    matches!(
        io,
        Io::Lease
            | Io::Renew
            | Io::OperatorChanges
            | Io::Paused
            | Io::Replays
            | Io::Partitions
            | Io::Read
            | Io::Backlog
            | Io::KeptCounts
            | Io::Tombstones
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(trace: Trace) -> Vec<String> {
        trace.into_lines().iter().map(|line| line[STAMP..].to_owned()).collect()
    }

    #[test]
    fn a_call_between_which_nothing_happens_has_one_line() {
        let mut trace = Trace::default();
        trace.begins(Duration::ZERO, "relay: Keep a");
        trace.ends(Duration::ZERO, Io::Keep, "relay: Keep a", "generation 1");
        trace.begins(Duration::ZERO, "relay: Settle a");
        trace.note(Duration::ZERO, "relay 2 is killed");
        trace.ends(Duration::ZERO, Io::Settle, "relay: Settle a", "");
        let expected =
            ["relay: Keep a → generation 1", "relay: Settle a …", "relay 2 is killed", "relay: Settle a → done"];
        assert_eq!(lines(trace), expected);
    }

    #[test]
    fn a_look_that_finds_what_it_found_before_has_no_line() {
        let mut trace = Trace::default();
        for answer in ["beat 1", "beat 1", "beat 2"] {
            trace.begins(Duration::ZERO, "relay: Lease");
            trace.note(Duration::ZERO, "something");
            trace.ends(Duration::ZERO, Io::Lease, "relay: Lease", answer);
        }
        let expected = [
            "relay: Lease …",
            "something",
            "relay: Lease → beat 1",
            "something",
            "relay: Lease …",
            "something",
            "relay: Lease → beat 2",
        ];
        assert_eq!(lines(trace), expected);
    }
}

//! How far a long command is, where no terminal shows it.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use outbox::{Clock, Moment};

use super::{Output, age, number};

/// How often it is said.
const EVERY: Duration = Duration::from_secs(15);

/// Lines on standard error, now and then: in a log, minutes without a word look like a command that hangs. None on a
/// terminal, which has a progress bar, and none beside JSON.
#[derive(Debug)]
pub(crate) struct Milestones {
    is_wanted: bool,
    began: Moment,
    said: Moment,
}

impl Milestones {
    /// For a command that begins now.
    pub(crate) fn new(out: Output, clock: &impl Clock) -> Self {
        let now = clock.moment();
        Self { is_wanted: !out.json && !std::io::stderr().is_terminal(), began: now, said: now }
    }

    /// So many of `all` are done.
    pub(crate) fn reached(&mut self, clock: &impl Clock, done: u64, all: u64, what: &str) {
        if let Some(line) = self.line(clock.moment(), done, all, what) {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    fn line(&mut self, now: Moment, done: u64, all: u64, what: &str) -> Option<String> {
        if !self.is_wanted || now.since(self.said) < EVERY {
            return None;
        }
        self.said = now;
        Some(format!("{} of {} {what} after {}", number(done), number(all), age(now.since(self.began))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_zero(Duration::from_secs(seconds))
    }

    #[test]
    fn how_far_it_is_is_said_now_and_then() {
        let mut milestones = Milestones { is_wanted: true, began: at(100), said: at(100) };
        let said: Vec<_> = (100..=131)
            .filter_map(|second| milestones.line(at(second), (second - 100) * 100, 100_000, "schedules"))
            .collect();
        assert_eq!(said, ["1,500 of 100,000 schedules after 15 s", "3,000 of 100,000 schedules after 30 s"]);
    }

    #[test]
    fn beside_a_progress_bar_nothing_is_said() {
        let mut milestones = Milestones { is_wanted: false, began: at(0), said: at(0) };
        assert_eq!(milestones.line(at(1_000), 1, 2, "schedules"), None);
    }
}

//! Watching schedules from outside: one that spins, or waits for what will never be, says nothing itself.

use std::{collections::BTreeMap, time::Duration};

use super::super::rule::{Breach, Rule};
use crate::clock::{Clock as _, Moment, System};

/// How often it is looked.
pub(in super::super) const LOOK: Duration = Duration::from_millis(20);
/// Between two looks no more time than this counts: if more has passed, the whole process stood still.
const MOST_AT_ONCE: Duration = Duration::from_secs(1);
/// A sound schedule needs a few MiB: if the process has so many KiB more than before, something grows without bound.
const GROWN: u64 = 3 << 20;

/// Schedules that are being played, and for how long.
pub(in super::super) struct Watch {
    patience: Duration,
    playing: BTreeMap<u64, Duration>,
    last: Moment,
    /// Memory of the process before, in KiB, where the system tells.
    before: Option<u64>,
}

/// A schedule that does not come to an end.
pub(in super::super) struct Endless {
    pub(in super::super) seed: u64,
    pub(in super::super) breach: Breach,
}

impl Watch {
    pub(in super::super) fn new(patience: Duration) -> Self {
        Self { patience, playing: BTreeMap::new(), last: System.moment(), before: resident() }
    }

    /// A schedule begins.
    pub(in super::super) fn begins(&mut self, seed: u64) {
        self.playing.insert(seed, Duration::ZERO);
    }

    /// A schedule came to its end. Says whether it was not given up on before.
    pub(in super::super) fn ends(&mut self, seed: u64) -> bool {
        self.playing.remove(&seed).is_some()
    }

    /// The lowest seed that is being played.
    pub(in super::super) fn lowest(&self) -> Option<u64> {
        self.playing.keys().next().copied()
    }

    /// Gives up on a schedule that takes too long, or too much.
    pub(in super::super) fn look(&mut self) -> Option<Endless> {
        let now = System.moment();
        let passed = now.since(self.last).min(MOST_AT_ONCE);
        self.last = now;
        self.playing.values_mut().for_each(|taken| *taken += passed);
        let (&seed, &taken) = self.playing.iter().max_by_key(|(_, taken)| **taken)?;
        let breach = if taken >= self.patience {
            Breach::new(Rule::Hung, format!("no end after {} s of real time", self.patience.as_secs_f64()))
        } else if self.has_grown() {
            Breach::new(Rule::Grown, format!("the process took {} GiB more memory", GROWN >> 20))
        } else {
            return None;
        };
        self.playing.remove(&seed);
        Some(Endless { seed, breach })
    }

    fn has_grown(&self) -> bool {
        let grown = |before| resident().is_some_and(|now| now.saturating_sub(before) > GROWN);
        self.before.is_some_and(grown)
    }
}

/// How much memory this process has, in KiB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

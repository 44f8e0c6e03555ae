//! Faults by chance, from a seed.

use std::time::Duration;

use super::{Call, Fault, entries};

/// How often what happens, in thousandths. What they leave is how often a call passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    /// Of calls: the service asks for a pause.
    pub throttled: u16,
    /// Of transactions: cancelled for a conflict at a position drawn.
    pub conflict: u16,
    /// Of calls: an internal error, without effect.
    pub internal: u16,
    /// Of calls: the connection ends before they get there.
    pub lost_call: u16,
    /// Of calls: they take effect, and the connection ends in place of the answer.
    pub lost_answer: u16,
    /// Of calls: they take effect, and the answer comes [`slow_by`](Self::slow_by) later.
    pub slow: u16,
    /// How much later.
    pub slow_by: Duration,
    /// Of the entries of a `PutEvents`: turned away, half of them as throttled and half by an internal failure.
    pub entry: u16,
}

/// A seed's draws.
pub(super) struct Chance {
    rng: fastrand::Rng,
    odds: Odds,
}

impl Chance {
    pub(super) fn new(seed: u64, odds: Odds) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), odds }
    }

    pub(super) fn decide(&mut self, call: &Call) -> Fault {
        let odds = self.odds;
        let mut drawn = self.rng.u16(0..1000);
        let mut within = |thousandths: u16| {
            let hit = drawn < thousandths;
            drawn = drawn.saturating_sub(thousandths);
            hit
        };
        if within(odds.throttled) {
            return Fault::error("ThrottlingException");
        }
        if within(odds.conflict) && call.operation == "TransactWriteItems" {
            return self.conflict(call);
        }
        if within(odds.internal) {
            return Fault::error("InternalFailure");
        }
        if within(odds.lost_call) {
            return Fault::LoseCall;
        }
        if within(odds.lost_answer) {
            return Fault::LoseAnswer;
        }
        if within(odds.slow) {
            return Fault::Slow(odds.slow_by);
        }
        self.some_entries(call)
    }

    fn conflict(&mut self, call: &Call) -> Fault {
        let actions = call.body["TransactItems"].as_array().map_or(1, Vec::len).max(1);
        let mut codes = vec!["None"; actions];
        codes[self.rng.usize(0..actions)] = "TransactionConflict";
        Fault::cancelled(&codes)
    }

    fn some_entries(&mut self, call: &Call) -> Fault {
        let mut refused = Vec::new();
        for position in 0..entries::count(call) {
            if self.rng.u16(0..1000) < self.odds.entry {
                refused.push((position, if self.rng.bool() { "ThrottlingException" } else { "InternalFailure" }));
            }
        }
        if refused.is_empty() { Fault::Pass } else { Fault::entries(refused) }
    }
}

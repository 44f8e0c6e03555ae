//! What a gate knows: where it stops, and what has come so far.

use std::collections::{BTreeMap, BTreeSet};

use super::{Side, Step};
use crate::testing::io::Io;

/// Where a gate stops.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Counting,
    CrashAt(u64),
    CrashAtIo(Io, Side, usize),
    StallAt(u64),
    ByHand,
}

/// What has come to a gate.
#[derive(Default)]
pub(super) struct State {
    pub(super) trace: Vec<Step>,
    /// Whether nothing goes on any more.
    pub(super) stopped: bool,
    pub(super) crashed: Option<Step>,
    pub(super) stalled: Option<Step>,
    pub(super) waiting: BTreeMap<u64, Step>,
    pub(super) passed: BTreeSet<u64>,
}

impl State {
    /// Counts a step; gives whether its call stops here.
    pub(super) fn count(&mut self, mode: Mode, io: Io, side: Side) -> (Step, bool) {
        let step = Step { number: self.trace.len() as u64 + 1, io, side };
        if self.stopped {
            return (step, true);
        }
        self.trace.push(step);
        let crashes = match mode {
            Mode::Counting => false,
            Mode::CrashAt(number) => number == step.number,
            Mode::CrashAtIo(io, side, nth) => {
                let of_this_kind = |step: &&Step| (step.io, step.side) == (io, side);
                of_this_kind(&&step) && self.trace.iter().filter(of_this_kind).count() == nth
            }
            Mode::StallAt(number) => {
                if number == step.number {
                    self.stalled = Some(step);
                    return (step, true);
                }
                false
            }
            Mode::ByHand => {
                self.waiting.insert(step.number, step);
                false
            }
        };
        if crashes {
            self.stopped = true;
            self.crashed = Some(step);
        }
        (step, self.stopped)
    }
}

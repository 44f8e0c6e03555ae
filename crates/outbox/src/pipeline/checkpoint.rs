//! When progress is stored.

use super::{
    Effect, WriteId,
    machine::{Pipeline, Write},
};
use crate::clock::Moment;

impl Pipeline {
    /// Whether nothing is under way that a last checkpoint would have to wait for.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.is_empty() && !self.writes.values().any(|write| matches!(write, Write::Keep { .. }))
    }

    pub(super) fn checkpoint(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.window.is_storing() || self.checkpoint_not_before.is_some_and(|until| now < until) {
            return;
        }
        let finished = self.ended && self.window.is_settled();
        let progress = if finished && !self.finishing {
            self.finishing = true;
            Some(self.window.begin_final_checkpoint())
        } else if self.checkpoint_is_due(now) {
            self.window.begin_checkpoint()
        } else {
            None
        };
        if let Some(progress) = progress {
            let write = self.new_write(Write::Checkpoint);
            let (position, witness) = (progress.position, progress.witness);
            effects.push(Effect::Checkpoint { write, position, witness, finished });
        }
    }

    /// Whether what is done, if anything, is to be stored now.
    fn checkpoint_is_due(&self, now: Moment) -> bool {
        let stopping = !self.is_running() && self.is_quiet();
        let waited = self.checkpointed.is_none_or(|last| now >= last + self.settings.checkpoint_after);
        stopping || waited || self.window.uncovered() >= self.settings.window.events / 4
    }

    pub(super) fn stored(&mut self, now: Moment, write: WriteId) {
        match self.writes.remove(&write) {
            Some(Write::Checkpoint) => {
                self.checkpointed = Some(now);
                self.checkpoint_failures = 0;
                self.window.checkpoint_stored();
            }
            Some(Write::Keep { lane, items }) => self.kept(lane, &items),
            None => {}
        }
    }

    pub(super) fn store_failed(&mut self, now: Moment, write: WriteId) {
        match self.writes.remove(&write) {
            Some(Write::Checkpoint) => {
                self.window.checkpoint_failed();
                self.finishing = false;
                self.checkpoint_failures += 1;
                let delay = crate::backoff::delay(&self.settings.retry, self.checkpoint_failures, &mut self.rng);
                self.checkpoint_not_before = Some(now + delay);
            }
            Some(Write::Keep { lane, items }) => self.keep_failed(now, lane, items),
            None => {}
        }
    }

    /// When the next checkpoint is due, if there is something for one.
    pub(super) fn next_checkpoint(&self) -> Option<Moment> {
        let last = self.ended && self.window.is_settled() && !self.finishing;
        if !(self.window.uncovered() > 0 || last) || self.window.is_storing() {
            return None;
        }
        let interval = self.checkpointed.map(|last| last + self.settings.checkpoint_after);
        interval.max(self.checkpoint_not_before)
    }
}

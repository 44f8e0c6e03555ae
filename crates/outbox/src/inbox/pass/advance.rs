//! The short way for keys whose arrivals come in turn: their marks are moved on without being loaded.
//!
//! Most batches are nothing else, and reading a mark to write it again costs as much as a small effect does. It is only
//! gone where a failure takes the whole transaction back, the marks with it; the second try goes the long way.

use std::ops::Range;

use super::{Executor, Pass, admit::Arrival};
use crate::{
    error::StoreError,
    event::Event,
    inbox::{
        applied::Applied,
        decision::{Verdict, judge, life_after},
        handler::Answer,
        settings::Mode,
    },
    inbox_store::{Abort, InboxTx, Isolation, LaneRecord, LaneStep, Life},
};

use super::executor::Attempt;

impl<T: InboxTx, X: Executor<T>> Pass<'_, T, X> {
    /// Moves on the keys of which all `arrivals` are next in turn, and notes that in them: what is left to do for those
    /// is their effect. A key that keeps something, or stands elsewhere, is left as it is.
    pub(super) async fn advance(&mut self, arrivals: &mut [Arrival<'_>]) -> Result<(), StoreError> {
        if self.isolation != Isolation::Whole || self.settings.mode != Mode::InOrder || !X::AT_ONCE {
            return Ok(());
        }
        let mut steps = Vec::new();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for run in arrivals.chunk_by(|left, right| left.lane == right.lane) {
            let range = start..start + run.len();
            start = range.end;
            if let Some(step) = self.step(run) {
                steps.push(step);
                ranges.push(range);
            }
        }
        if steps.is_empty() {
            return Ok(());
        }
        let moved = self.tx.advance(&steps).await?;
        for (range, _) in ranges.into_iter().zip(moved).filter(|(_, moved)| *moved) {
            for arrival in &mut arrivals[range] {
                arrival.advanced = true;
            }
        }
        Ok(())
    }

    /// The step that takes a key over all of `run`, its arrivals: if each follows the one before, and none says anything
    /// of whether what the key names is there.
    fn step<'r>(&self, run: &'r [Arrival<'_>]) -> Option<LaneStep<'r>> {
        let lane = &run.first()?.lane;
        let from = run.first()?.basis.after()?;
        let mut record = LaneRecord { mark: from, ..LaneRecord::default() };
        for Arrival { basis, event, .. } in run {
            let next = judge(self.settings, &record, basis, event) == Verdict::Try { history_back: false };
            if !next || life_after(self.settings, Life::Unknown, event) != Life::Unknown {
                return None;
            }
            record.mark = basis.place();
        }
        // A lane that this pass has loaded is its own to write.
        (!self.slots.contains_key(lane)).then_some(LaneStep { lane, from, to: record.mark })
    }

    /// The effect of an event whose key was moved on.
    pub(super) async fn follow(&mut self, event: &Event) -> Result<Applied, Abort> {
        match self.executor.attempt(self.tx, self.isolation, event).await? {
            Attempt::Answered(Answer::Done) => {
                self.done.counts.applied += 1;
                Ok(Applied::Applied)
            }
            Attempt::Answered(Answer::Retry { .. } | Answer::GiveUp { .. }) | Attempt::Deferred(_) => Err(Abort::Redo),
        }
    }
}

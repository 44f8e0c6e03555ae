//! What is stored of a lane once its call is back, and what follows from that.

use std::{collections::VecDeque, time::Duration};

use super::{
    Effect, FrontPlan, TroubleDraft,
    lanes::{Phase, Unsettled},
    machine::Keeper,
};
use crate::{
    bookkeeping::{Kept, Lane, SettleOutcome},
    clock::Moment,
    pipeline::{FrontDraft, WriteId},
};

impl Keeper {
    /// The state of a front that has not been tried.
    pub(super) fn fresh_front() -> FrontDraft {
        FrontDraft {
            retry_in: Some(Duration::ZERO),
            attempts: 0,
            failed_for: Duration::ZERO,
            reason: "waits behind an event that failed".to_owned(),
        }
    }

    /// Removes the first `done` events of the lane and notes how the front fares that is left.
    pub(super) fn settle(
        &mut self,
        lane: &Lane,
        kept: VecDeque<Kept>,
        done: usize,
        front: FrontDraft,
        effects: &mut Vec<Effect>,
    ) {
        self.write_settlement(lane, kept, done, None, front, effects);
    }

    /// As [`settle`](Self::settle); if there is a lane `apart`, the first of these is a dead letter that moves there.
    pub(super) fn write_settlement(
        &mut self,
        lane: &Lane,
        mut kept: VecDeque<Kept>,
        done: usize,
        apart: Option<(Lane, FrontDraft)>,
        front: FrontDraft,
        effects: &mut Vec<Effect>,
    ) {
        let write = WriteId(self.next_id());
        let ticket = self.ticket(lane);
        let Some(entry) = self.lanes.get_mut(lane) else { return };
        let remove: Vec<_> = kept.drain(..done.min(kept.len())).map(|kept| kept.id).collect();
        if front.retry_in != Some(Duration::ZERO) {
            // The next one may not go out at once, so it need not stay in memory.
            kept.clear();
        }
        let discarded = entry.discard.is_some();
        entry.phase = Phase::Settling(kept);
        entry.unsettled = Some(Unsettled { remove: remove.clone(), apart: apart.clone(), front: front.clone() });
        // What is stored from now on has a time of its own.
        entry.overdue = None;
        self.writes.insert(write, ticket);
        let (lane, generation) = (lane.clone(), entry.generation);
        effects.push(Effect::Settle { write, lane, generation, remove, apart, discarded, front: Some(front) });
    }

    pub(super) fn settled(&mut self, write: WriteId, outcome: SettleOutcome, effects: &mut Vec<Effect>) {
        let ticket = self.writes.remove(&write);
        let Some(lane) = self.lane_of(ticket) else { return };
        let Some(entry) = self.lanes.get_mut(&lane) else { return };
        let Phase::Settling(kept) = std::mem::replace(&mut entry.phase, Phase::Ready) else { return };
        let unsettled = entry.unsettled.take();
        let (stale, goes_on) = (entry.stale, entry.next_goes_on());
        if outcome != SettleOutcome::Changed {
            self.look_apart(unsettled);
        }
        match outcome {
            SettleOutcome::Released if !stale => self.release(&lane, effects),
            // First, so that no more than a few lanes have events in memory; its turn ends with those loaded.
            SettleOutcome::Left(_) if !stale && !kept.is_empty() && goes_on => self.go_on_with(&lane, kept),
            // What is left has to be looked at as the store has it: a front that waits or is dead, one that an operator
            // changed, or events beyond those loaded.
            SettleOutcome::Released | SettleOutcome::Left(_) | SettleOutcome::Changed => self.ready.push_back(lane),
        }
    }

    /// Repeats a settlement that had no effect, as what it removes still stands in front: those events are done, and
    /// must not go out again. Otherwise gives back what was loaded.
    pub(super) fn settle_again(
        &mut self,
        lane: &Lane,
        kept: VecDeque<Kept>,
        effects: &mut Vec<Effect>,
    ) -> Option<VecDeque<Kept>> {
        let unsettled = self.lanes.get_mut(lane).and_then(|entry| entry.unsettled.take());
        let Some(unsettled) = unsettled else { return Some(kept) };
        let done = kept.iter().take_while(|kept| unsettled.remove.contains(&kept.id)).count();
        if done == 0 {
            self.look_apart(Some(unsettled));
            return Some(kept);
        }
        let Unsettled { apart, front, .. } = unsettled;
        self.write_settlement(lane, kept, done, apart, front, effects);
        None
    }

    /// A settlement took effect: if it moved a dead letter to a lane of its own, the store says how that one stands.
    pub(super) fn look_apart(&mut self, unsettled: Option<Unsettled>) {
        let Some((lane, front)) = unsettled.and_then(|unsettled| unsettled.apart) else { return };
        let state = FrontPlan::Dead;
        let (attempts, failed_for) = (front.attempts, front.failed_for);
        self.opened(self.now, TroubleDraft { lane, generation: 0, state, attempts, failed_for });
    }

    pub(super) fn store_failed(&mut self, now: Moment, write: WriteId) {
        let ticket = self.writes.remove(&write);
        let Some(lane) = self.lane_of(ticket) else { return };
        let delay = crate::backoff::delay(&self.settings.retry, 3, &mut self.rng);
        self.wait(&lane, now + delay);
    }
}

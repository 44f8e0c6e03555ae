//! The lanes in trouble: what is known of each, and what the store says of them.

use std::collections::{BTreeSet, VecDeque};

use super::{Effect, FrontPlan, TroubleDraft, machine::Keeper};
use crate::{
    bookkeeping::{Kept, KeptId, Lane},
    clock::Moment,
    pipeline::FrontDraft,
};

/// A lane in trouble.
pub(super) struct LaneState {
    pub(super) generation: u64,
    pub(super) phase: Phase,
    pub(super) discard: Option<String>,
    /// Attempts that counted against the front.
    pub(super) counted: u32,
    /// All its failed attempts seen by this keeper: what the delay grows by.
    pub(super) failures: u32,
    pub(super) failed_first: Moment,
    pub(super) failed_last: Moment,
    /// When a front that waits goes out at the latest. When it is due is stored in wall-clock time: after the clock was
    /// set back, the store goes on saying that it is not.
    pub(super) overdue: Option<Moment>,
    /// What the bookkeeping may not have stored: repeated if the lane turns out to be as it was.
    pub(super) unsettled: Option<Unsettled>,
    /// The front was refused for good by the call that accepted what stood before it: it is not tried again.
    pub(super) refused: Option<(KeptId, FrontDraft)>,
    /// Somebody changed the front in the store meanwhile: load it again before anything else.
    pub(super) stale: bool,
}

/// What a lane does now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    Dead,
    Waiting(Moment),
    /// Its time has come, or it was redriven: it stands in the queue.
    Ready,
    Loading,
    /// Loaded, and its first event can go out.
    Loaded(VecDeque<Kept>),
    InCall(VecDeque<Kept>),
    /// What became of its last call is being stored.
    Settling(VecDeque<Kept>),
}

/// A settlement whose answer is awaited, or that failed.
pub(super) struct Unsettled {
    pub(super) remove: Vec<KeptId>,
    pub(super) apart: Option<(Lane, FrontDraft)>,
    pub(super) front: FrontDraft,
}

/// Which trouble a load or a write is about. The pipeline may have opened a new one when the answer comes.
pub(super) struct Ticket {
    pub(super) lane: Lane,
    generation: u64,
}

impl Keeper {
    /// The pipeline stored a front. If the lane was known already, as when the answer to an earlier try was lost, an
    /// operator may have changed the front since: the store knows.
    pub(super) fn opened(&mut self, now: Moment, trouble: TroubleDraft) {
        match self.lanes.get_mut(&trouble.lane) {
            Some(entry) if entry.is_busy() => entry.stale = true,
            Some(entry) if entry.generation >= trouble.generation => self.wait(&trouble.lane, now),
            _ => {
                let dead = trouble.state == FrontPlan::Dead;
                let lane = trouble.lane.clone();
                self.adopt(now, trouble);
                if dead {
                    // After a lost answer the store may have another front: a look makes sure.
                    self.wait(&lane, now);
                }
            }
        }
    }

    pub(super) fn trouble(&mut self, now: Moment, trouble: TroubleDraft) {
        match self.lanes.get_mut(&trouble.lane) {
            Some(entry) if entry.is_busy() => entry.stale = true,
            _ => self.adopt(now, trouble),
        }
    }

    pub(super) fn troubles(&mut self, now: Moment, troubles: &[TroubleDraft]) {
        let named: BTreeSet<&Lane> = troubles.iter().map(|trouble| &trouble.lane).collect();
        let mut gone = Vec::new();
        for (lane, entry) in self.lanes.iter_mut().filter(|(lane, _)| !named.contains(lane)) {
            if entry.is_busy() {
                entry.stale = true;
            } else {
                gone.push(lane.clone());
            }
        }
        for lane in gone {
            // The list may be older than the trouble: only a look at the lane itself can release it.
            self.wait(&lane, now);
        }
        for trouble in troubles {
            self.trouble(now, trouble.clone());
        }
    }

    /// Takes over what the store says of a lane.
    pub(super) fn adopt(&mut self, now: Moment, trouble: TroubleDraft) {
        let mut known = self.lanes.remove(&trouble.lane).filter(|entry| entry.generation == trouble.generation);
        let (phase, discard, overdue) = match trouble.state {
            FrontPlan::Dead => (Phase::Dead, None, None),
            FrontPlan::Retry(delay) => {
                let same = known.as_ref().filter(|entry| entry.counted == trouble.attempts);
                let overdue = same.and_then(|entry| entry.overdue).unwrap_or(now + self.settings.retry.max_delay);
                let due = (now + delay).min(overdue);
                // What its target has asked for since is not stored.
                let due = match same.map(|entry| &entry.phase) {
                    Some(Phase::Waiting(until)) => due.max(*until),
                    _ => due,
                };
                self.due.insert((due, trouble.lane.clone()));
                (Phase::Waiting(due), None, Some(overdue))
            }
            FrontPlan::Discard(reason) => {
                self.due.insert((now, trouble.lane.clone()));
                (Phase::Waiting(now), Some(reason), None)
            }
        };
        let stored_first = now.before(trouble.failed_for);
        let entry = LaneState {
            generation: trouble.generation,
            phase,
            discard,
            counted: trouble.attempts,
            failures: known.as_ref().map_or(trouble.attempts, |entry| entry.failures),
            // Since this front failed first, if that was seen: it may have waited unpublished for long before.
            failed_first: known.as_ref().map_or(stored_first, |entry| entry.failed_first.max(stored_first)),
            failed_last: known.as_ref().map_or(now, |entry| entry.failed_last),
            overdue,
            unsettled: known.as_mut().and_then(|entry| entry.unsettled.take()),
            refused: None,
            stale: false,
        };
        self.lanes.insert(trouble.lane, entry);
    }

    pub(super) fn release(&mut self, lane: &Lane, effects: &mut Vec<Effect>) {
        self.lanes.remove(lane);
        if self.lanes.is_empty() {
            self.health.nothing_waits();
        }
        effects.push(Effect::Released { lane: lane.clone() });
    }

    pub(super) fn wait(&mut self, lane: &Lane, until: Moment) {
        if let Some(entry) = self.lanes.get_mut(lane) {
            entry.phase = Phase::Waiting(until);
            self.due.insert((until, lane.clone()));
        }
    }

    /// Notes that an answer is awaited for what is known of the lane now.
    pub(super) fn ticket(&self, lane: &Lane) -> Ticket {
        let generation = self.lanes.get(lane).map_or(0, |entry| entry.generation);
        Ticket { lane: lane.clone(), generation }
    }

    /// The lane of a ticket, unless its trouble is over.
    pub(super) fn lane_of(&self, ticket: Option<Ticket>) -> Option<Lane> {
        let Ticket { lane, generation } = ticket?;
        (self.lanes.get(&lane)?.generation == generation).then_some(lane)
    }
}

impl LaneState {
    /// Whether something is under way that the store's present state must not overtake.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Loading | Phase::Loaded(_) | Phase::InCall(_) | Phase::Settling(_))
    }

    /// Another attempt failed.
    pub(super) fn failed(&mut self, now: Moment) {
        if self.counted == 0 && self.failures == 0 {
            self.failed_first = now;
        }
        self.failures += 1;
        self.failed_last = now;
    }

    /// Whether the last settlement removed the front, so that the next event may go out at once. Behind one that was
    /// discarded there may be another: the store knows.
    pub(super) fn next_goes_on(&self) -> bool {
        self.counted == 0 && self.discard.is_none()
    }
}

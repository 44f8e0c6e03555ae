//! What goes out next: loading a lane's first kept events, and publishing them.

use std::collections::VecDeque;

use super::{
    Effect, LoadId, TroubleDraft,
    lanes::Phase,
    machine::{Call, Keeper},
    outgoing,
};
use crate::{
    bookkeeping::{Kept, Lane},
    clock::Moment,
    entry::EventRef,
    pipeline::{CallId, health::Gate},
};

/// The most kept events of a lane that are in memory at a time.
const LOADED: usize = 100;
/// The same where each goes out in a call of its own.
const LOADED_SINGLY: usize = 16;
/// Settlements under way for each call that may be: a slow bookkeeping holds the keeper back and is not flooded.
const WRITES_PER_CALL: usize = 4;

impl Keeper {
    /// The keeper takes half of the sink's calls at most, so that redriving much doesn't stop what flows.
    pub(super) fn dispatch(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let most = match self.health.gate(now) {
            Gate::Open => self.settings.sink.keeper_calls(),
            Gate::Probe => 1,
            Gate::Closed => 0,
        };
        let writes = most * WRITES_PER_CALL;
        while self.calls.len() + self.loads.len() < most && self.writes.len() < writes {
            let Some(lane) = self.ready.pop_front() else { break };
            let Some(entry) = self.lanes.get_mut(&lane) else { continue };
            match std::mem::replace(&mut entry.phase, Phase::Loading) {
                Phase::Ready => self.load(lane, effects),
                // Changed since it was read: erased, perhaps.
                Phase::Loaded(_) if entry.stale => self.load(lane, effects),
                Phase::Loaded(kept) => self.publish(now, lane, kept, effects),
                other => entry.phase = other,
            }
        }
    }

    fn load(&mut self, lane: Lane, effects: &mut Vec<Effect>) {
        let load = LoadId(self.next_id());
        self.loads.insert(load, self.ticket(&lane));
        if let Some(entry) = self.lanes.get_mut(&lane) {
            entry.stale = false;
        }
        let limit = if self.settings.sink.ordered_calls { LOADED } else { LOADED_SINGLY };
        effects.push(Effect::Load { load, lane, limit });
    }

    pub(super) fn loaded(
        &mut self,
        now: Moment,
        load: LoadId,
        trouble: Option<TroubleDraft>,
        kept: Vec<Kept>,
        effects: &mut Vec<Effect>,
    ) {
        let ticket = self.loads.remove(&load);
        let Some(lane) = self.lane_of(ticket) else { return };
        let stale = self.lanes.get_mut(&lane).is_some_and(|entry| std::mem::take(&mut entry.stale));
        if stale {
            // Somebody changed it while it was read: this may be how it was before.
            self.wait(&lane, now);
            return;
        }
        let Some(trouble) = trouble.filter(|_| !kept.is_empty()) else {
            let unsettled = self.lanes.get_mut(&lane).and_then(|entry| entry.unsettled.take());
            self.look_apart(unsettled);
            self.release(&lane, effects);
            return;
        };
        self.adopt(now, trouble);
        let wanted =
            self.lanes.get(&lane).is_some_and(|entry| matches!(entry.phase, Phase::Waiting(due) if due <= now));
        let kept = VecDeque::from(kept);
        let Some(kept) = self.settle_again(&lane, kept, effects) else { return };
        let Some(entry) = self.lanes.get_mut(&lane).filter(|_| wanted) else { return };
        entry.phase = Phase::Loaded(kept);
        self.ready.push_front(lane);
    }

    pub(super) fn load_failed(&mut self, now: Moment, load: LoadId) {
        let ticket = self.loads.remove(&load);
        if let Some(lane) = self.lane_of(ticket) {
            let delay = crate::backoff::delay(&self.settings.retry, 3, &mut self.rng);
            self.wait(&lane, now + delay);
        }
    }

    /// The lane's next call takes no more than these.
    pub(super) fn go_on_with(&mut self, lane: &Lane, kept: VecDeque<Kept>) {
        if let Some(entry) = self.lanes.get_mut(lane) {
            entry.phase = Phase::Loaded(kept);
            self.ready.push_front(lane.clone());
        }
    }

    fn publish(&mut self, now: Moment, lane: Lane, kept: VecDeque<Kept>, effects: &mut Vec<Effect>) {
        let Some(entry) = self.lanes.get(&lane) else { return };
        if let Some(reason) = entry.discard.clone() {
            self.publish_marker(now, lane, kept, &reason, effects);
            return;
        }
        let first = kept.front().map(|first| first.id);
        let refused = self.lanes.get_mut(&lane).and_then(|entry| entry.refused.take());
        if let Some((_, front)) = refused.filter(|(id, _)| Some(*id) == first) {
            self.set_back(&lane, kept, 0, front, effects);
            return;
        }
        let discarded = kept.iter().take_while(|kept| self.was_discarded(kept)).count();
        if discarded > 0 {
            self.front_is_new(now, &lane);
            self.settle(&lane, kept, discarded, Self::fresh_front(), effects);
            return;
        }
        let events = self.first_events(now, &kept);
        if events.is_empty() {
            self.condemn(&lane, kept, effects);
            return;
        }
        self.call(lane, kept, events, effects);
    }

    /// The lane's first events, as many as a call takes; none if the first can never go out.
    fn first_events(&self, now: Moment, kept: &VecDeque<Kept>) -> Vec<EventRef> {
        let sink = &self.settings.sink;
        // One is enough to find out whether the sink is back.
        let probes = self.health.gate(now) == Gate::Probe;
        let most = if sink.ordered_calls && !probes { sink.max_events } else { 1 };
        let mut bytes = 0;
        kept.iter()
            .take(most)
            .take_while(|kept| !self.was_discarded(kept))
            .map_while(|kept| outgoing(&kept.content, None))
            .take_while(|event| {
                let size = (self.settings.size)(event);
                bytes += size;
                size <= sink.max_event_bytes && bytes <= sink.max_bytes
            })
            .collect()
    }

    /// A discarded event leaves a marker in its place where consumers count; elsewhere it just goes.
    fn publish_marker(
        &mut self,
        now: Moment,
        lane: Lane,
        kept: VecDeque<Kept>,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let marker =
            kept.front().filter(|_| self.settings.gapless).and_then(|front| outgoing(&front.content, Some(reason)));
        if let Some(marker) = marker {
            self.call(lane, kept, vec![marker], effects);
        } else {
            self.front_is_new(now, &lane);
            self.settle(&lane, kept, 1, Self::fresh_front(), effects);
        }
    }

    fn call(&mut self, lane: Lane, kept: VecDeque<Kept>, events: Vec<EventRef>, effects: &mut Vec<Effect>) {
        let call = CallId(self.next_id());
        if let Some(entry) = self.lanes.get_mut(&lane) {
            entry.phase = Phase::InCall(kept);
        }
        self.calls.insert(call, Call { lane, events: events.len() });
        effects.push(Effect::Publish { call, events });
    }
}

//! Choosing what goes out next.

use super::{
    Effect,
    health::Gate,
    lanes::{Item, LaneId, State},
    machine::{Group, Pipeline},
};
use crate::{clock::Moment, entry::EventRef};

impl Pipeline {
    /// Sends what can go out: as many calls as the sink takes, or one small one to find out whether it is back.
    pub(super) fn dispatch(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        match self.health.gate(now) {
            Gate::Open => {
                while self.calls.len() < self.settings.sink.max_calls {
                    let Some(items) = self.next_batch(now) else { break };
                    self.publish(items, effects);
                }
            }
            Gate::Probe if self.calls.is_empty() => {
                if let Some(items) = self.next_probe(now) {
                    self.publish(items, effects);
                }
            }
            Gate::Probe | Gate::Closed => {}
        }
    }

    fn publish(&mut self, items: Vec<(LaneId, Item)>, effects: &mut Vec<Effect>) {
        let events = items
            .iter()
            .filter_map(|(_, item)| EventRef::new(self.window.record_of(item.slot, item.carried)?.clone(), item.index))
            .collect();
        let call = self.new_call();
        self.calls.insert(call, items);
        effects.push(Effect::Publish { call, events });
    }

    fn next_batch(&mut self, now: Moment) -> Option<Vec<(LaneId, Item)>> {
        self.due_group(now).or_else(|| {
            let sink = self.settings.sink;
            // Where many lanes wait, each gets few places, so that a hot one doesn't fill the call.
            let share = if sink.ordered_calls { (sink.max_events / (self.ready.len() + 1)).max(1) } else { 1 };
            let mut batch = Batch { items: Vec::new(), events: sink.max_events.max(1), bytes: sink.max_bytes };
            while batch.events > 0 {
                let Some(lane) = self.next_ready() else { break };
                if !self.fill(&mut batch, lane, share) {
                    self.settle_lane(lane);
                    break;
                }
            }
            (!batch.items.is_empty()).then_some(batch.items)
        })
    }

    /// One event, of a key that has not failed if there is one: if it is accepted, the failures were not the sink's.
    fn next_probe(&mut self, now: Moment) -> Option<Vec<(LaneId, Item)>> {
        let unblamed = |pipeline: &Self, id: LaneId| {
            let lane = pipeline.lanes.get(id);
            lane.state == State::Ready && lane.queue.front().is_some_and(|item| item.failures.is_none() && !item.doomed)
        };
        let first = self.ready.iter().copied().find(|&(_, id)| unblamed(self, id));
        let lane = if let Some(ready) = first {
            self.ready.remove(&ready);
            ready.1
        } else if let Some(group) = self.due_group(now) {
            return Some(group);
        } else {
            self.next_ready()?
        };
        let mut batch = Batch { items: Vec::new(), events: 1, bytes: self.settings.sink.max_bytes };
        self.fill(&mut batch, lane, 1);
        Some(batch.items)
    }

    fn due_group(&mut self, now: Moment) -> Option<Vec<(LaneId, Item)>> {
        let index = self.groups.iter().position(|group| group.due <= now)?;
        self.groups.remove(index).map(|Group { items, .. }| items)
    }

    /// The next lane whose first event may go out; one whose first event never goes out is set aside.
    fn next_ready(&mut self) -> Option<LaneId> {
        while let Some((_, id)) = self.ready.pop_first() {
            if self.lanes.get(id).state != State::Ready {
                continue;
            }
            match self.lanes.get(id).queue.front() {
                Some(item) if item.doomed => self.condemn_doomed(id),
                Some(_) => return Some(id),
                None => self.settle_lane(id),
            }
        }
        None
    }

    /// Moves events of the lane into the batch, `share` of them at most; false if not even the first one fits.
    fn fill(&mut self, batch: &mut Batch, id: LaneId, share: usize) -> bool {
        let lane = self.lanes.get_mut(id);
        let most = share.min(lane.call_limit).min(batch.events);
        let mut taken = 0;
        while taken < most {
            let Some(item) = lane.queue.front() else { break };
            let fits = item.size <= batch.bytes || batch.items.is_empty();
            if item.doomed || !fits {
                break;
            }
            let Some(item) = lane.queue.pop_front() else { break };
            batch.bytes = batch.bytes.saturating_sub(item.size);
            batch.events -= 1;
            batch.items.push((id, item));
            taken += 1;
        }
        if taken == 0 {
            return false;
        }
        lane.state = State::InCall;
        true
    }
}

/// A call being filled.
struct Batch {
    items: Vec<(LaneId, Item)>,
    /// Places left.
    events: usize,
    /// Bytes left.
    bytes: usize,
}

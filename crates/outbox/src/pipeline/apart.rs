//! Dead letters that their key goes on without: each waits in a lane of its own.

use std::sync::Arc;

use super::{
    FrontDraft,
    lanes::{Item, LaneId, State},
    machine::Pipeline,
};
use crate::{bookkeeping::Lane, entry::Content, route::AfterDeadLetter};

impl Pipeline {
    /// The lane in which the event with this id waits apart from its key, also when it is read again.
    pub(super) fn apart(&self, id: &Arc<str>) -> Option<Lane> {
        let goes_on = self.settings.retry.after_dead_letter == AfterDeadLetter::Continue;
        let apart = (goes_on && !self.lanes.troubled.is_empty()).then(|| Lane::Event(id.clone()))?;
        self.lanes.troubled.contains(&apart).then_some(apart)
    }

    /// Gives the lane's first event a lane of its own, as a dead letter that nothing waits behind.
    pub(super) fn detach(&mut self, id: LaneId, front: FrontDraft) {
        let Some(item) = self.lanes.get_mut(id).queue.pop_front() else { return };
        self.lanes.release(id, &item);
        if let Some((content, _)) = self.content(&item) {
            let alone = self.lanes.enter(Lane::Event(content.id().into()));
            self.lanes.push(alone, item);
            self.leave(alone, front);
        }
        self.settle_lane(id);
    }

    /// What waits in a lane apart goes back to its key's, now that the dead letter is gone: two lanes of a key could go
    /// out side by side.
    pub(super) fn rejoin(&mut self, id: LaneId) {
        let state = self.lanes.get_mut(id);
        if !matches!(state.lane, Lane::Event(_)) {
            return;
        }
        let apart = state.lane.clone();
        for item in std::mem::take(&mut state.queue) {
            match self.own_lane(&item) {
                Some(own) if own != apart => {
                    self.lanes.release(id, &item);
                    self.insert(own, item);
                }
                _ => self.lanes.get_mut(id).queue.push_back(item),
            }
        }
        self.lanes.leave_if_empty(id);
    }

    /// The lane that the event belongs to, unless it is a dead letter.
    fn own_lane(&self, item: &Item) -> Option<Lane> {
        match &self.window.record_of(item.slot, item.carried)?.content {
            Content::Events(events) => events.get(item.index as usize).map(Lane::of),
            Content::Undecodable(row) => Some(Lane::of_undecodable(row)),
        }
    }

    /// Takes the event into the lane at the place where it was read.
    fn insert(&mut self, lane: Lane, item: Item) {
        let id = self.lanes.enter(lane);
        let state = self.lanes.get(id);
        if let (State::Ready, Some(first)) = (&state.state, state.queue.front()) {
            self.ready.remove(&(first.slot, id));
        }
        self.lanes.insert(id, item);
        if self.holds_too_much(id) {
            self.hot.insert(id);
        }
        if matches!(self.lanes.get(id).state, State::Idle | State::Ready) {
            self.settle_lane(id);
        }
    }
}

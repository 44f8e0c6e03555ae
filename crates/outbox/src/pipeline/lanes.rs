//! Lanes: the events of one key, in order, and what each lane waits for.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::FrontDraft;
use crate::{bookkeeping::Lane, clock::Moment};

/// An event in the window.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The slot of its record.
    pub(super) slot: u64,
    /// Its number in the record.
    pub(super) index: u32,
    /// The record: 0 for the slot's own, or the number of one that the slot carries.
    pub(super) carried: u16,
    /// Its bytes by the sink's measure.
    pub(super) size: usize,
    /// Why it never goes out: undecodable, or too large for the sink.
    pub(super) doomed: bool,
    /// How it has failed, if it has.
    pub(super) failures: Option<Box<Failures>>,
}

/// How an event has failed so far.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    /// Attempts that count against it.
    pub(super) counted: u32,
    /// All failed attempts: what the delay grows by.
    pub(super) all: u32,
    /// When it failed first.
    pub(super) first: Moment,
    /// When it failed last.
    pub(super) last: Moment,
}

/// What a lane does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing: it is empty.
    Idle,
    /// It stands in the queue of lanes that could be published.
    Ready,
    /// Its first events are in a call, or in a group that will be one.
    InCall,
    /// It waits for a time.
    Waiting(Moment),
    /// What it held is being stored.
    Keeping,
}

/// Who publishes the lane's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This pipeline.
    Pipeline,
    /// This pipeline until its events are stored, with the front as given; then the keeper.
    Leaving(FrontDraft),
    /// The keeper: what comes is parked.
    Keeper,
}

pub(super) struct LaneState {
    pub(super) lane: Lane,
    pub(super) queue: VecDeque<Item>,
    pub(super) state: State,
    pub(super) owner: Owner,
    /// Events it holds in the window, wherever they are.
    pub(super) held: usize,
    /// Their bytes.
    pub(super) held_bytes: usize,
    /// How many events may share a call; lowered to find the culprit of a rejected call.
    pub(super) call_limit: usize,
    /// Before when the sink asked not to be sent its events again.
    pub(super) asked: Option<Moment>,
}

/// Names a lane while it holds events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId(u32);

/// All lanes that hold events. Only looked up by key and never walked, so the order of hashing does not show.
#[derive(Default)]
pub(super) struct Lanes {
    by_lane: FxHashMap<Lane, LaneId>,
    states: Vec<LaneState>,
    free: Vec<LaneId>,
    /// Lanes that the keeper owns, whether they hold events here or not.
    pub(super) troubled: std::collections::BTreeSet<Lane>,
}

impl Item {
    /// Where it stands among those of its lane: what a slot carries was there before the slot's own record.
    fn turn(&self) -> (u64, bool, u16, u32) {
        (self.slot, self.carried == 0, self.carried, self.index)
    }
}

impl LaneState {
    fn hold(&mut self, item: &Item) {
        self.held += 1;
        self.held_bytes += item.size;
    }
}

impl Lanes {
    /// The lane's state, made if it is new.
    pub(super) fn enter(&mut self, lane: Lane) -> LaneId {
        if let Some(&id) = self.by_lane.get(&lane) {
            return id;
        }
        let owner = if self.troubled.contains(&lane) { Owner::Keeper } else { Owner::Pipeline };
        let id = if let Some(id) = self.free.pop() {
            let state = &mut self.states[id.0 as usize];
            state.lane = lane.clone();
            state.owner = owner;
            state.call_limit = usize::MAX;
            state.asked = None;
            id
        } else {
            let id = LaneId(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
            self.states.push(LaneState {
                lane: lane.clone(),
                queue: VecDeque::new(),
                state: State::Idle,
                owner,
                held: 0,
                held_bytes: 0,
                call_limit: usize::MAX,
                asked: None,
            });
            id
        };
        self.by_lane.insert(lane, id);
        id
    }

    pub(super) fn find(&self, lane: &Lane) -> Option<LaneId> {
        self.by_lane.get(lane).copied()
    }

    pub(super) fn get(&self, id: LaneId) -> &LaneState {
        &self.states[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: LaneId) -> &mut LaneState {
        &mut self.states[id.0 as usize]
    }

    /// Forgets the lane if it holds nothing any more.
    pub(super) fn leave_if_empty(&mut self, id: LaneId) {
        let state = &mut self.states[id.0 as usize];
        if state.held == 0 && self.by_lane.get(&state.lane) == Some(&id) {
            state.state = State::Idle;
            state.held_bytes = 0;
            self.by_lane.remove(&state.lane);
            self.free.push(id);
        }
    }

    /// Takes an event into the lane's queue.
    pub(super) fn push(&mut self, id: LaneId, item: Item) {
        let state = self.get_mut(id);
        state.hold(&item);
        state.queue.push_back(item);
    }

    /// Takes an event into the lane's queue, in front of those that were read after it.
    pub(super) fn insert(&mut self, id: LaneId, item: Item) {
        let state = self.get_mut(id);
        state.hold(&item);
        let behind = state.queue.iter().position(|other| other.turn() > item.turn());
        state.queue.insert(behind.unwrap_or(state.queue.len()), item);
    }

    /// An event of the lane left the window's open part.
    pub(super) fn release(&mut self, id: LaneId, item: &Item) {
        let state = self.get_mut(id);
        state.held -= 1;
        state.held_bytes -= item.size;
    }

    /// Puts events back in front of the lane's queue, in their order.
    pub(super) fn put_back(&mut self, id: LaneId, items: Vec<Item>) {
        let queue = &mut self.get_mut(id).queue;
        for item in items.into_iter().rev() {
            queue.push_front(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Key;

    fn item(slot: u64, carried: u16, index: u32) -> Item {
        Item { slot, index, carried, size: 7, doomed: false, failures: None }
    }

    #[test]
    fn a_lane_holds_no_more_than_what_has_not_left_it() {
        let mut lanes = Lanes::default();
        let id = lanes.enter(Lane::Key(Key::new("a").unwrap()));
        lanes.push(id, item(1, 0, 0));
        lanes.push(id, item(2, 0, 0));
        lanes.release(id, &item(1, 0, 0));
        assert_eq!((lanes.get(id).held, lanes.get(id).held_bytes), (1, 7));
    }

    #[test]
    fn what_a_slot_carries_stands_before_its_own_record_and_behind_what_was_read_before() {
        let mut lanes = Lanes::default();
        let id = lanes.enter(Lane::Key(Key::new("a").unwrap()));
        for (slot, carried, index) in [(2, 0, 1), (3, 0, 0), (2, 2, 0), (1, 0, 0), (2, 0, 0), (2, 1, 0)] {
            lanes.insert(id, item(slot, carried, index));
        }
        let turns: Vec<_> = lanes.get(id).queue.iter().map(|item| (item.slot, item.carried, item.index)).collect();
        assert_eq!(turns, [(1, 0, 0), (2, 1, 0), (2, 2, 0), (2, 0, 0), (2, 0, 1), (3, 0, 0)]);
    }
}

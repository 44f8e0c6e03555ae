//! The machine itself: its state, and one step of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use fastrand::Rng;

use super::{
    CallId, Effect, Input, Settings, WriteId,
    health::{Gate, RouteHealth},
    lanes::{Item, LaneId, Lanes, Owner, State},
    trouble::Starvation,
    turns::Turns,
    window::Window,
};
use crate::{
    bookkeeping::Lane,
    clock::Moment,
    entry::{Content, Position},
    source::Limit,
};

/// Where a pipeline goes on, from its bookkeeping.
#[derive(Clone, Debug)]
pub struct Resume {
    /// The route's checkpoint in the partition, or its start.
    pub position: Position,
    /// The route's lanes in trouble.
    pub troubled: Vec<Lane>,
    /// Ids of discarded events that may be read again, each with the position behind its record.
    pub tombstones: Vec<(Arc<str>, Position)>,
}

/// Publishes one partition of a source to one route; see the [module](super).
pub struct Pipeline {
    pub(super) settings: Settings,
    pub(super) rng: Rng,
    pub(super) window: Window,
    /// Watches the order of keys, where the source does not promise it.
    pub(super) turns: Option<Turns>,
    pub(super) lanes: Lanes,
    /// Lanes that could be published, each with the slot of its first event. The one furthest back goes first, so that
    /// what is done grows from the front and a restart repeats little.
    pub(super) ready: BTreeSet<(u64, LaneId)>,
    /// Parts of calls that were rejected as a whole, to be tried by themselves.
    pub(super) groups: VecDeque<Group>,
    /// Lanes whose events have to be stored.
    pub(super) to_keep: VecDeque<LaneId>,
    pub(super) calls: BTreeMap<CallId, Vec<(LaneId, Item)>>,
    pub(super) writes: BTreeMap<WriteId, Write>,
    pub(super) timers: BTreeSet<(Moment, LaneId)>,
    /// Lanes that hold more than their share, to be set aside if that keeps others waiting.
    pub(super) hot: BTreeSet<LaneId>,
    /// How long they have done so.
    pub(super) starvation: Starvation,
    pub(super) health: RouteHealth,
    pub(super) tombstones: BTreeMap<Arc<str>, Vec<Position>>,
    mode: Mode,
    pub(super) reading: bool,
    pub(super) ended: bool,
    pub(super) finishing: bool,
    pub(super) checkpointed: Option<Moment>,
    pub(super) checkpoint_not_before: Option<Moment>,
    pub(super) checkpoint_failures: u32,
    next_call: u64,
    next_write: u64,
    wake: Option<Moment>,
}

/// Events that go out together once `due`.
pub(super) struct Group {
    pub(super) due: Moment,
    pub(super) items: Vec<(LaneId, Item)>,
}

/// A write under way.
pub(super) enum Write {
    Checkpoint,
    Keep { lane: LaneId, items: Vec<Item> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    Paused,
    Draining,
    Finished,
    Lost,
}

impl Pipeline {
    /// A pipeline that goes on where `resume` says. It does nothing before its first step.
    pub fn new(settings: Settings, resume: Resume) -> Self {
        let limit = Limit { events: settings.window.events, bytes: settings.window.bytes };
        let mut lanes = Lanes::default();
        lanes.troubled = resume.troubled.into_iter().collect();
        let mut pipeline = Self {
            rng: Rng::with_seed(settings.seed),
            window: Window::new(limit, resume.position),
            turns: settings.observed.map(Turns::new),
            lanes,
            ready: BTreeSet::new(),
            groups: VecDeque::new(),
            to_keep: VecDeque::new(),
            calls: BTreeMap::new(),
            writes: BTreeMap::new(),
            timers: BTreeSet::new(),
            hot: BTreeSet::new(),
            starvation: Starvation::default(),
            health: RouteHealth::default(),
            tombstones: BTreeMap::new(),
            mode: Mode::Running,
            reading: false,
            ended: false,
            finishing: false,
            checkpointed: None,
            checkpoint_not_before: None,
            checkpoint_failures: 0,
            next_call: 0,
            next_write: 0,
            wake: None,
            settings,
        };
        pipeline.bury(resume.tombstones);
        pipeline
    }

    /// Takes one input in and appends what has to be done to `effects`. Never fails and never blocks; inputs that
    /// answer nothing are ignored.
    pub fn step(&mut self, now: Moment, input: Input, effects: &mut Vec<Effect>) {
        if matches!(self.mode, Mode::Lost | Mode::Finished) {
            return;
        }
        match input {
            Input::Read { records, next, end } => self.read(records, next, end, effects),
            Input::Fetched { fetch, records } => self.fetched(now, fetch, records, effects),
            Input::FetchFailed { fetch } => self.fetch_failed(now, fetch),
            Input::Answered { call, outcomes } => self.answered(now, call, &outcomes),
            Input::CallFailed { call, fault, retry_after, reason } => {
                self.call_failed(now, call, fault, retry_after, &reason);
            }
            Input::Stored { write } => self.stored(now, write),
            Input::KeyFree { write } => self.key_free(write),
            Input::StoreFailed { write } => self.store_failed(now, write),
            Input::Troubled { lane } => self.troubled(lane),
            Input::Released { lane } => self.released(&lane),
            Input::Discarded { tombstones } => self.bury(tombstones),
            Input::Pause if self.mode == Mode::Running => self.mode = Mode::Paused,
            Input::Resume if self.mode == Mode::Paused => self.mode = Mode::Running,
            Input::Drain => self.mode = Mode::Draining,
            Input::LeaseLost => {
                self.mode = Mode::Lost;
                return;
            }
            Input::Pause | Input::Resume | Input::Tick => {}
        }
        self.proceed(now, effects);
    }

    /// Events published and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.calls.values().map(Vec::len).sum()
    }

    /// Lanes that the keeper owns.
    pub fn troubled_lanes(&self) -> usize {
        self.lanes.troubled.len()
    }

    /// Whether events may go out at all.
    pub(super) fn is_running(&self) -> bool {
        self.mode == Mode::Running
    }

    pub(super) fn new_call(&mut self) -> CallId {
        self.next_call += 1;
        CallId(self.next_call)
    }

    pub(super) fn new_write(&mut self, write: Write) -> WriteId {
        self.next_write += 1;
        self.writes.insert(WriteId(self.next_write), write);
        WriteId(self.next_write)
    }

    /// Puts a lane that nothing is under way for where it belongs.
    pub(super) fn settle_lane(&mut self, id: LaneId) {
        let lane = self.lanes.get_mut(id);
        if lane.held == 0 {
            self.hot.remove(&id);
            self.lanes.leave_if_empty(id);
            return;
        }
        lane.state = State::Idle;
        let Some(first) = lane.queue.front() else { return };
        if lane.owner == Owner::Pipeline {
            lane.state = State::Ready;
            self.ready.insert((first.slot, id));
        } else {
            self.to_keep.push_back(id);
        }
    }

    /// Lets a lane wait until `until`.
    pub(super) fn let_wait(&mut self, id: LaneId, until: Moment) {
        self.lanes.get_mut(id).state = State::Waiting(until);
        self.timers.insert((until, id));
    }

    /// An event is accepted, filtered out, or durably kept.
    pub(super) fn done(&mut self, id: LaneId, item: &Item) {
        self.lanes.release(id, item);
        self.window.done_of(item.slot, item.carried);
    }

    /// What this pipeline holds of the lane waits behind what another one left. A call under way is let finish.
    fn troubled(&mut self, lane: Lane) {
        let found = self.lanes.find(&lane);
        self.lanes.troubled.insert(lane);
        let Some(id) = found else { return };
        let state = self.lanes.get_mut(id);
        if state.owner != Owner::Pipeline {
            return;
        }
        state.owner = Owner::Keeper;
        if matches!(state.state, State::Ready | State::Waiting(_)) {
            self.ready.retain(|(_, ready)| *ready != id);
            self.settle_lane(id);
        }
    }

    fn released(&mut self, lane: &Lane) {
        self.lanes.troubled.remove(lane);
        let Some(id) = self.lanes.find(lane) else { return };
        let state = self.lanes.get_mut(id);
        if state.owner == Owner::Keeper && state.state != State::Keeping {
            state.owner = Owner::Pipeline;
            self.drop_discarded(id);
            self.rejoin(id);
            if self.lanes.get(id).state == State::Idle {
                self.settle_lane(id);
            }
        }
    }

    fn bury(&mut self, tombstones: Vec<(Arc<str>, Position)>) {
        for (id, position) in tombstones {
            let positions = self.tombstones.entry(id).or_default();
            if !positions.contains(&position) {
                positions.push(position);
            }
        }
    }

    /// Whether the event that was read at `position` was discarded. A producer may give an id again, so its place counts
    /// too; but not where order is observed: what was fetched is kept at the place of the record that came too early, and
    /// comes again at its own.
    pub(super) fn is_buried(&self, id: &Arc<str>, position: &Position) -> bool {
        let discarded = self.tombstones.get(id);
        let is_it = |at: &Position| at.record() == position.record();
        discarded.is_some_and(|positions| self.turns.is_some() || positions.iter().any(is_it))
    }

    /// What was read again before it was discarded does not go out either, now that its lane is free.
    pub(super) fn drop_discarded(&mut self, id: LaneId) {
        if self.tombstones.is_empty() {
            return;
        }
        for item in std::mem::take(&mut self.lanes.get_mut(id).queue) {
            let is_discarded = self.window.record_of(item.slot, item.carried).is_some_and(|record| {
                let name = match &record.content {
                    Content::Events(events) => events.get(item.index as usize).map(|event| &event.id),
                    Content::Undecodable(row) => Some(&row.id),
                };
                name.is_some_and(|name| self.is_buried(name, &record.position))
            });
            if is_discarded {
                self.done(id, &item);
            } else {
                self.lanes.get_mut(id).queue.push_back(item);
            }
        }
    }

    fn proceed(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.fire_timers(now);
        if self.is_running() {
            self.ask_for_missing(now, effects);
            self.set_hot_lanes_aside(now);
            self.dispatch(now, effects);
            self.set_blocking_lane_aside(now);
            self.emit_keeps(now, effects);
        }
        self.checkpoint(now, effects);
        self.ask_for_records(now, effects);
        if self.window.is_settled() && self.health.gate(now) != Gate::Closed {
            self.health.nothing_waits();
        }
        self.report_health(effects);
        self.finish(effects);
        self.ask_to_wake(now, effects);
    }

    fn fire_timers(&mut self, now: Moment) {
        while let Some(&(due, id)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            if self.lanes.get(id).state == State::Waiting(due) {
                self.settle_lane(id);
            }
        }
    }

    /// Asks for records once a good part of the window is free. While the route backs off nothing is read, unless the
    /// window has nothing left to find out with whether the sink is back.
    fn ask_for_records(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let nothing_left = self.ready.is_empty() && self.groups.is_empty() && self.calls.is_empty();
        let open = match self.health.gate(now) {
            Gate::Open => true,
            Gate::Probe => nothing_left,
            Gate::Closed => false,
        };
        if !open || self.reading || self.ended || !self.is_running() || self.is_overloaded() {
            return;
        }
        if self.has_room() {
            self.reading = true;
            effects.push(Effect::Read { credit: self.window.credit() });
        }
    }

    /// Whether so much of the window is free that reading is worth its while.
    pub(super) fn has_room(&self) -> bool {
        let (credit, limit) = (self.window.credit(), &self.settings.window);
        credit.events >= (limit.events / 4).max(1) && credit.bytes >= (limit.bytes / 4).max(1)
    }

    /// Whether so many keys are in trouble that nothing new is read; ends only below nine tenths.
    fn is_overloaded(&mut self) -> bool {
        let limit = self.settings.window.troubled_keys;
        let troubled = self.lanes.troubled.len();
        let overloaded = if self.health.overloaded { troubled * 10 >= limit * 9 } else { troubled >= limit };
        self.health.overloaded = overloaded;
        overloaded
    }

    fn report_health(&mut self, effects: &mut Vec<Effect>) {
        if let Some(health) = self.health.changed() {
            effects.push(Effect::Health(health));
        }
    }

    fn finish(&mut self, effects: &mut Vec<Effect>) {
        let drained = self.mode == Mode::Draining && self.is_quiet() && self.window.uncovered() == 0;
        if (drained || self.finishing) && self.writes.is_empty() {
            self.mode = Mode::Finished;
            effects.push(Effect::Finished);
        }
    }

    fn ask_to_wake(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let others = [
            self.timers.first().map(|&(due, _)| due),
            self.health.closed_until(),
            self.starvation.due(),
            self.turns.as_ref().and_then(Turns::due),
            self.next_checkpoint(),
        ];
        let dues = self.groups.iter().map(|group| group.due).chain(others.into_iter().flatten());
        let wake = dues.filter(|&due| due > now).min();
        if wake != self.wake && self.mode != Mode::Finished {
            self.wake = wake;
            if let Some(due) = wake {
                effects.push(Effect::WakeAt(due));
            }
        }
    }
}

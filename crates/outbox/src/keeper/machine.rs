//! The machine itself: its state, and one step of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use fastrand::Rng;

use super::{
    Effect, Input, LoadId,
    lanes::{LaneState, Phase, Ticket},
};
use crate::{
    bookkeeping::{Kept, Lane},
    clock::Moment,
    event::Event,
    pipeline::{CallId, WriteId, health::RouteHealth},
    route::RetryPolicy,
    sink::SinkLimits,
};

/// What a keeper works by; does not change while it lives.
#[derive(Clone)]
pub struct Settings {
    /// What one call takes.
    pub sink: SinkLimits,
    /// An event's bytes by the sink's measure.
    pub size: Arc<dyn Fn(&Event) -> usize + Send + Sync>,
    /// How failures are retried.
    pub retry: RetryPolicy,
    /// Whether a discarded event leaves a marker in its place.
    pub gapless: bool,
    /// Seeds the jitter.
    pub seed: u64,
}

/// Owns a route's kept events; see the [module](super).
pub struct Keeper {
    pub(super) settings: Settings,
    pub(super) rng: Rng,
    pub(super) lanes: BTreeMap<Lane, LaneState>,
    pub(super) due: BTreeSet<(Moment, Lane)>,
    /// Lanes whose next event can be published, the one that waits longest first.
    pub(super) ready: VecDeque<Lane>,
    pub(super) loads: BTreeMap<LoadId, Ticket>,
    pub(super) calls: BTreeMap<CallId, Call>,
    pub(super) writes: BTreeMap<WriteId, Ticket>,
    /// Events of which no further copy goes out.
    discarded: BTreeSet<Arc<str>>,
    pub(super) health: RouteHealth,
    mode: Mode,
    /// The time of this step.
    pub(super) now: Moment,
    next: u64,
    wake: Option<Moment>,
}

/// Events of a lane under way.
pub(super) struct Call {
    pub(super) lane: Lane,
    pub(super) events: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    Paused,
    Draining,
    Finished,
    Lost,
}

impl Keeper {
    /// A keeper that knows of no trouble yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            rng: Rng::with_seed(settings.seed),
            lanes: BTreeMap::new(),
            due: BTreeSet::new(),
            ready: VecDeque::new(),
            loads: BTreeMap::new(),
            calls: BTreeMap::new(),
            writes: BTreeMap::new(),
            discarded: BTreeSet::new(),
            health: RouteHealth::default(),
            mode: Mode::Running,
            now: Moment::default(),
            next: 0,
            wake: None,
            settings,
        }
    }

    /// Takes one input in and appends what has to be done to `effects`. Never fails and never blocks; inputs that
    /// answer nothing are ignored.
    pub fn step(&mut self, now: Moment, input: Input, effects: &mut Vec<Effect>) {
        if matches!(self.mode, Mode::Lost | Mode::Finished) {
            return;
        }
        self.now = now;
        match input {
            Input::Trouble(trouble) => self.opened(now, trouble),
            Input::Discarded { ids } => self.discarded.extend(ids),
            Input::Troubles(troubles) => self.troubles(now, &troubles),
            Input::Loaded { load, trouble, kept } => self.loaded(now, load, trouble, kept, effects),
            Input::LoadFailed { load } => self.load_failed(now, load),
            Input::Answered { call, outcomes } => self.answered(now, call, &outcomes, effects),
            Input::CallFailed { call, fault, retry_after, reason } => {
                self.call_failed(now, call, fault, retry_after, &reason, effects);
            }
            Input::Settled { write, outcome } => self.settled(write, outcome, effects),
            Input::StoreFailed { write } => self.store_failed(now, write),
            Input::OthersAccepted => {
                self.health.alive();
                self.health.accepted(now);
            }
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

    /// The lanes in trouble: every one whose trouble is stored, and perhaps some that were just released.
    pub fn troubled(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.keys()
    }

    /// Whether the event was discarded when another copy of it was in front.
    pub(super) fn was_discarded(&self, kept: &Kept) -> bool {
        !self.discarded.is_empty() && self.discarded.contains(kept.content.id())
    }

    /// How many lanes are in trouble.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether events of `lane` are published and not yet answered.
    pub fn is_publishing(&self, lane: &Lane) -> bool {
        self.calls.values().any(|call| call.lane == *lane)
    }

    /// Events published and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.calls.values().map(|call| call.events).sum()
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn proceed(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        while let Some((due, _)) = self.due.first() {
            if *due > now {
                break;
            }
            let Some((due, lane)) = self.due.pop_first() else { break };
            if let Some(entry) = self.lanes.get_mut(&lane).filter(|entry| entry.phase == Phase::Waiting(due)) {
                entry.phase = Phase::Ready;
                self.ready.push_back(lane);
            }
        }
        if self.mode == Mode::Running {
            self.dispatch(now, effects);
        }
        if let Some(health) = self.health.changed() {
            effects.push(Effect::Health(health));
        }
        if self.mode == Mode::Draining && self.calls.is_empty() && self.writes.is_empty() {
            self.mode = Mode::Finished;
            effects.push(Effect::Finished);
            return;
        }
        let wake = [self.due.first().map(|(due, _)| *due), self.health.closed_until()];
        let wake = wake.into_iter().flatten().filter(|&due| due > now).min();
        if wake != self.wake {
            self.wake = wake;
            effects.extend(wake.map(Effect::WakeAt));
        }
    }
}

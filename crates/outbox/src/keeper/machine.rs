//! The machine itself: its state, and one step of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use fastrand::Rng;

use super::{Effect, FrontPlan, Input, LoadId, TroubleDraft, outgoing};
use crate::{
    bookkeeping::{Kept, KeptContent, Lane, SettleOutcome},
    clock::Moment,
    entry::EventRef,
    event::Event,
    pipeline::{
        CallId, FrontDraft, WriteId,
        health::{Gate, RouteHealth},
    },
    route::RetryPolicy,
    sink::SinkLimits,
};

/// The most kept events of a lane that are in memory at a time.
const LOADED: usize = 100;
/// The same where each goes out in a call of its own.
const LOADED_SINGLY: usize = 16;

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
    pub(super) lanes: BTreeMap<Lane, Entry>,
    due: BTreeSet<(Moment, Lane)>,
    /// Lanes whose next event can be published, the one that waits longest first.
    ready: VecDeque<Lane>,
    pub(super) loads: BTreeMap<LoadId, Ticket>,
    pub(super) calls: BTreeMap<CallId, Call>,
    pub(super) writes: BTreeMap<WriteId, Ticket>,
    pub(super) health: RouteHealth,
    mode: Mode,
    /// The time of this step.
    pub(super) now: Moment,
    next: u64,
    wake: Option<Moment>,
}

/// A lane in trouble.
pub(super) struct Entry {
    pub(super) generation: u64,
    pub(super) phase: Phase,
    pub(super) discard: Option<String>,
    /// Attempts that counted against the front.
    pub(super) counted: u32,
    /// All its failed attempts seen by this keeper: what the delay grows by.
    pub(super) failures: u32,
    pub(super) failed_first: Moment,
    pub(super) failed_last: Moment,
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

/// Which trouble a load or a write is about. The pipeline may have opened a new one when the answer comes.
pub(super) struct Ticket {
    lane: Lane,
    generation: u64,
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
            Input::Troubles(troubles) => self.troubles(now, &troubles),
            Input::Loaded { load, trouble, kept } => self.loaded(now, load, trouble, kept, effects),
            Input::LoadFailed { load } => self.load_failed(now, load),
            Input::Answered { call, outcomes } => self.answered(now, call, &outcomes, effects),
            Input::CallFailed { call, fault, retry_after, reason } => {
                self.call_failed(now, call, fault, retry_after, &reason, effects);
            }
            Input::Settled { write, outcome } => self.settled(write, outcome, effects),
            Input::Detached { write } => self.detached(write, effects),
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

    /// Lanes in trouble.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Events published and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.calls.values().map(|call| call.events).sum()
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The pipeline stored a front. If the lane was known already, as when the answer to an earlier try was lost, an
    /// operator may have changed the front since: the store knows.
    fn opened(&mut self, now: Moment, trouble: TroubleDraft) {
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

    fn trouble(&mut self, now: Moment, trouble: TroubleDraft) {
        match self.lanes.get_mut(&trouble.lane) {
            Some(entry) if entry.is_busy() => entry.stale = true,
            _ => self.adopt(now, trouble),
        }
    }

    /// Takes over what the store says of a lane.
    fn adopt(&mut self, now: Moment, trouble: TroubleDraft) {
        let (phase, discard) = match trouble.state {
            FrontPlan::Dead => (Phase::Dead, None),
            FrontPlan::Retry(delay) => {
                let due = now + delay.min(self.settings.retry.max_delay);
                self.due.insert((due, trouble.lane.clone()));
                (Phase::Waiting(due), None)
            }
            FrontPlan::Discard(reason) => {
                self.due.insert((now, trouble.lane.clone()));
                (Phase::Waiting(now), Some(reason))
            }
        };
        let known = self.lanes.get(&trouble.lane).filter(|entry| entry.generation == trouble.generation);
        let entry = Entry {
            generation: trouble.generation,
            phase,
            discard,
            counted: trouble.attempts,
            failures: known.map_or(trouble.attempts, |entry| entry.failures),
            failed_first: now.before(trouble.failed_for),
            failed_last: known.map_or(now, |entry| entry.failed_last),
            stale: false,
        };
        self.lanes.insert(trouble.lane, entry);
    }

    fn troubles(&mut self, now: Moment, troubles: &[TroubleDraft]) {
        let named: BTreeSet<&Lane> = troubles.iter().map(|trouble| &trouble.lane).collect();
        let gone: Vec<Lane> = self
            .lanes
            .iter()
            .filter(|(lane, entry)| !named.contains(lane) && !entry.is_busy())
            .map(|(lane, _)| lane.clone())
            .collect();
        for lane in gone {
            // The list may be older than the trouble: only a look at the lane itself can release it.
            self.wait(&lane, now);
        }
        for trouble in troubles {
            self.trouble(now, trouble.clone());
        }
    }

    pub(super) fn release(&mut self, lane: &Lane, effects: &mut Vec<Effect>) {
        self.lanes.remove(lane);
        effects.push(Effect::Released { lane: lane.clone() });
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

    /// The keeper takes half of the sink's calls at most, so that redriving much doesn't stop what flows.
    fn dispatch(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let most = match self.health.gate(now) {
            Gate::Open => (self.settings.sink.max_calls / 2).max(1),
            Gate::Probe => 1,
            Gate::Closed => 0,
        };
        while self.calls.len() + self.loads.len() < most {
            let Some(lane) = self.ready.pop_front() else { break };
            let Some(entry) = self.lanes.get_mut(&lane) else { continue };
            match std::mem::replace(&mut entry.phase, Phase::Loading) {
                Phase::Ready => self.load(lane, effects),
                Phase::Loaded(kept) => self.publish(lane, kept, effects),
                other => entry.phase = other,
            }
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

    fn load(&mut self, lane: Lane, effects: &mut Vec<Effect>) {
        let load = LoadId(self.next_id());
        self.loads.insert(load, self.ticket(&lane));
        let limit = if self.settings.sink.ordered_calls { LOADED } else { LOADED_SINGLY };
        effects.push(Effect::Load { load, lane, limit });
    }

    fn loaded(
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
        let Some(trouble) = trouble.filter(|_| !kept.is_empty()) else {
            // A lane that got into trouble again while it was read has to be read again.
            if stale {
                self.wait(&lane, now);
            } else {
                self.release(&lane, effects);
            }
            return;
        };
        let wanted = matches!(&trouble.state, FrontPlan::Discard(_))
            || matches!(&trouble.state, FrontPlan::Retry(delay) if delay.is_zero());
        self.adopt(now, trouble);
        let Some(entry) = self.lanes.get_mut(&lane).filter(|_| wanted) else { return };
        entry.phase = Phase::Loaded(kept.into());
        self.ready.push_front(lane);
    }

    fn load_failed(&mut self, now: Moment, load: LoadId) {
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

    pub(super) fn wait(&mut self, lane: &Lane, until: Moment) {
        if let Some(entry) = self.lanes.get_mut(lane) {
            entry.phase = Phase::Waiting(until);
            self.due.insert((until, lane.clone()));
        }
    }

    fn publish(&mut self, lane: Lane, kept: VecDeque<Kept>, effects: &mut Vec<Effect>) {
        let Some(entry) = self.lanes.get(&lane) else { return };
        if let Some(reason) = entry.discard.clone() {
            self.publish_marker(lane, kept, &reason, effects);
            return;
        }
        let events = self.first_events(&kept);
        if events.is_empty() {
            self.condemn(&lane, kept, effects);
            return;
        }
        self.call(lane, kept, events, effects);
    }

    /// The lane's first events, as many as a call takes; none if the first can never go out.
    fn first_events(&self, kept: &VecDeque<Kept>) -> Vec<EventRef> {
        let sink = &self.settings.sink;
        let most = if sink.ordered_calls { sink.max_events } else { 1 };
        let mut bytes = 0;
        kept.iter()
            .take(most)
            .map_while(|kept| outgoing(&kept.content, None))
            .take_while(|event| {
                let size = (self.settings.size)(event);
                bytes += size;
                size <= sink.max_event_bytes && bytes <= sink.max_bytes
            })
            .collect()
    }

    /// A discarded event leaves a marker in its place where consumers count; elsewhere it just goes.
    fn publish_marker(&mut self, lane: Lane, kept: VecDeque<Kept>, reason: &str, effects: &mut Vec<Effect>) {
        let marker =
            kept.front().filter(|_| self.settings.gapless).and_then(|front| outgoing(&front.content, Some(reason)));
        match marker {
            Some(marker) => self.call(lane, kept, vec![marker], effects),
            None => self.settle(&lane, kept, 1, Some(Self::fresh_front()), effects),
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

    /// The state of a front that has not been tried.
    pub(super) fn fresh_front() -> FrontDraft {
        FrontDraft {
            retry_in: Some(std::time::Duration::ZERO),
            attempts: 0,
            failed_for: std::time::Duration::ZERO,
            reason: "waits behind an event that failed".to_owned(),
        }
    }

    /// Removes the first `done` events of the lane and notes how the front fares that is left.
    pub(super) fn settle(
        &mut self,
        lane: &Lane,
        mut kept: VecDeque<Kept>,
        done: usize,
        front: Option<FrontDraft>,
        effects: &mut Vec<Effect>,
    ) {
        let write = WriteId(self.next_id());
        let ticket = self.ticket(lane);
        let Some(entry) = self.lanes.get_mut(lane) else { return };
        let remove = kept.drain(..done.min(kept.len())).map(|kept| kept.id).collect();
        let discarded = entry.discard.is_some();
        entry.phase = Phase::Settling(kept);
        self.writes.insert(write, ticket);
        let (lane, generation) = (lane.clone(), entry.generation);
        effects.push(Effect::Settle { write, lane, generation, remove, discarded, front });
    }

    fn settled(&mut self, write: WriteId, outcome: SettleOutcome, effects: &mut Vec<Effect>) {
        let ticket = self.writes.remove(&write);
        let Some(lane) = self.lane_of(ticket) else { return };
        let Some(entry) = self.lanes.get_mut(&lane) else { return };
        let Phase::Settling(kept) = std::mem::replace(&mut entry.phase, Phase::Ready) else { return };
        match outcome {
            SettleOutcome::Released if !entry.stale => self.release(&lane, effects),
            SettleOutcome::Left(_) if !entry.stale && !kept.is_empty() && entry.next_goes_on() => {
                // First, so that no more than a few lanes have events in memory; its turn ends with those loaded.
                entry.phase = Phase::Loaded(kept);
                self.ready.push_front(lane);
            }
            // What is left has to be looked at as the store has it: a front that waits or is dead, one that an operator
            // changed, or events beyond those loaded.
            SettleOutcome::Released | SettleOutcome::Left(_) | SettleOutcome::Changed => self.ready.push_back(lane),
        }
    }

    fn store_failed(&mut self, now: Moment, write: WriteId) {
        let ticket = self.writes.remove(&write);
        let Some(lane) = self.lane_of(ticket) else { return };
        let delay = crate::backoff::delay(&self.settings.retry, 3, &mut self.rng);
        self.wait(&lane, now + delay);
    }
}

impl Entry {
    /// Whether something is under way that the store's present state must not overtake.
    fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Loading | Phase::Loaded(_) | Phase::InCall(_) | Phase::Settling(_))
    }

    /// Whether the last settlement removed the front, so that the next event may go out at once.
    fn next_goes_on(&self) -> bool {
        self.counted == 0 && self.failures == 0 && self.discard.is_none()
    }
}

/// An undecodable row or an event that is too large never goes out.
pub(super) fn doom_reason(kept: &Kept, limit: usize) -> String {
    match &kept.content {
        KeptContent::Undecodable(row) => row.reason.clone(),
        KeptContent::Event(_) => format!("the event is larger than the {limit} bytes that the sink takes"),
    }
}

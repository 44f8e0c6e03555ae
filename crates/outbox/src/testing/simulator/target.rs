//! A route's target: takes events as its mood allows, and looks at what it is sent.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::time::sleep;

use super::{
    checks,
    fault::Fault,
    operator,
    process::Around,
    rule::Rule,
    schedule::{CallFault, Unwanted},
    worker::{CALL_TIMEOUT, DRAIN_LIMIT, FAILOVER, LEASE},
    world::{State, World},
};
use crate::{
    bookkeeping::{Bookkeeping as _, Lane},
    clock::Moment,
    cloudevents::{Envelope, json},
    event::Event,
    sink::{self, Batch, Outcome, Sink, SinkError, SinkLimits},
    testing::{Hook as _, Io},
};

/// The largest event that targets take.
pub(super) const MAX_EVENT_BYTES: usize = 64 << 10;

/// No event of a run has so many bytes.
const LARGEST: usize = 1 << 10;

/// A route's sink, in one life of a relay.
pub(super) struct Target {
    pub(super) around: Around,
    pub(super) route: usize,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Default)]
struct UnderWay {
    lanes: BTreeSet<Lane>,
    calls: usize,
}

/// A call while it is under way, its future dropped or not.
struct Call {
    lanes: Vec<Lane>,
    under_way: Arc<Mutex<UnderWay>>,
    around: Around,
    began: Moment,
    /// Whether it came to an end, whichever.
    is_over: bool,
    route: usize,
    /// The numbers of its events, for as long as nobody has said whose fault it is.
    events: Vec<usize>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.calls -= 1;
        for lane in &self.lanes {
            under_way.lanes.remove(lane);
        }
        let world = &self.around.world;
        let now = world.now();
        let is_waited_for = |since: Moment| now.since(since) < DRAIN_LIMIT && now.since(self.began) < CALL_TIMEOUT;
        // A relay whose place another has taken waits for nothing.
        let owns = || matches!(world.books.lease(LEASE).now_or_never(), Some(Ok(lease)) if lease.holder == self.around.life.name);
        if !self.is_over && self.around.life.stops_since().is_some_and(is_waited_for) && owns() {
            world.breach(Rule::Bounded, "a relay that stopped in order did not wait for its calls");
        }
        let mut state = world.state();
        let doubted = &mut state.truth.routes[self.route].doubted;
        for number in std::mem::take(&mut self.events) {
            doubted.entry(number).or_insert(now);
        }
    }
}

impl Target {
    pub(super) fn new(around: Around, route: usize) -> Self {
        Self { around, route, under_way: Arc::default() }
    }

    fn world(&self) -> &World {
        &self.around.world
    }

    /// Some targets take only a few events in a call by their bytes; no event is too large by itself.
    fn max_bytes(&self) -> usize {
        let mut rng = self.world().chance(("bytes", self.route));
        if rng.bool() { rng.usize(LARGEST..4 * LARGEST) } else { MAX_EVENT_BYTES }
    }

    /// Looks whether the call keeps the sink's limits, and whether a key is in one call at a time only.
    fn begin(&self, batch: &Batch) -> Call {
        let limits = self.limits();
        let bytes: usize = batch.events.iter().map(|event| self.size(event)).sum();
        let lanes: BTreeSet<Lane> = batch.events.iter().map(|event| Lane::of(event)).collect();
        let breach = |rule: Rule, what: &str| {
            let events: Vec<&str> = batch.events.iter().map(|event| event.id()).collect();
            self.world().breach(rule, format!("{what}: {events:?}"));
        };
        if batch.events.is_empty() || batch.events.len() > limits.max_events || bytes > limits.max_bytes {
            breach(Rule::Bounded, "a call beyond the sink's limits");
        }
        if !limits.ordered_calls && lanes.len() < batch.events.len() {
            breach(Rule::InOrder, "two events of a key in a call that keeps no order");
        }
        // Whoever waits for a lease to end may take it from this moment on.
        let ended = self.around.life.last_renewed().is_none_or(|last| self.world().now().since(last) >= FAILOVER);
        if ended {
            breach(Rule::Bounded, "a call by a relay whose lease has ended");
        }
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.calls += 1;
        if under_way.calls > limits.max_calls {
            breach(Rule::Bounded, "more calls at the same time than the sink takes");
        }
        // A replay is a publisher of its own; where a route goes on without dead letters, so is each of these.
        let alone = batch.replay.is_some() || self.world().scene.routes[self.route].goes_on;
        let lanes: Vec<Lane> = if alone { Vec::new() } else { lanes.into_iter().collect() };
        for lane in &lanes {
            if !under_way.lanes.insert(lane.clone()) {
                breach(Rule::InOrder, "a key in two calls at the same time");
            }
        }
        let events = {
            let state = self.world().state();
            batch.events.iter().filter_map(|event| state.truth.find(event.id())).collect()
        };
        let (under_way, around, began) = (self.under_way.clone(), self.around.clone(), self.world().now());
        Call { lanes, under_way, around, began, is_over: false, route: self.route, events }
    }

    fn call_fault(&self, state: &mut State) -> Option<CallFault> {
        if state.healed {
            return None;
        }
        let index = state.armed.calls.iter().position(|armed| armed.0 == self.route)?;
        if state.armed.calls[index].1 > 0 {
            state.armed.calls[index].1 -= 1;
            return None;
        }
        let (_, _, fault) = state.armed.calls.remove(index);
        state.strikes(match fault {
            CallFault::Fails(_) => Fault::CallFails,
            CallFault::Throttled(_) => Fault::CallThrottled,
            CallFault::AnswerLost => Fault::CallAnswerLost,
            CallFault::ShortAnswer => Fault::CallShortAnswer,
            CallFault::HalfAccepted => Fault::CallHalfAccepted,
            CallFault::Hangs { .. } => Fault::CallHangs,
        });
        Some(fault)
    }

    /// What is wrong with the target as a whole now.
    fn outage(&self) -> Option<sink::Fault> {
        let now = self.world().now();
        let mut state = self.world().state();
        let (until, fault) = state.targets[self.route].outage?;
        if now >= until || state.healed {
            state.targets[self.route].outage = None;
            return None;
        }
        state.strikes(Fault::Outage);
        Some(fault)
    }

    /// Whether the call holds an event that makes it fail.
    fn bomb(&self, batch: &Batch) -> Option<sink::Fault> {
        let mut state = self.world().state();
        let found = batch.events.iter().find_map(|event| {
            let number = state.truth.find(event.id())?;
            let marker = event.kind() == crate::event::SKIPPED;
            state.targets[self.route].unwanted.iter().find_map(|unwanted| match unwanted {
                (unwanted, Unwanted::Bomb(fault)) if *unwanted == number && !marker => Some(*fault),
                _ => None,
            })
        });
        if found.is_some() {
            state.strikes(Fault::Bomb);
        }
        found
    }

    /// Takes the first `most` events of the call, as far as each is wanted.
    fn take(&self, batch: &Batch, began: Moment, most: usize) -> Vec<Outcome> {
        let mut held = BTreeSet::new();
        let outcomes = batch.events.iter().enumerate().map(|(index, event)| {
            let lane = Lane::of(event);
            if index >= most || held.contains(&lane) {
                held.insert(lane);
                return Outcome::Throttled { after: None };
            }
            if let Some(refusal) = self.refusal(event) {
                held.insert(lane);
                return refusal;
            }
            self.arrive(event, batch, began);
            Outcome::Accepted
        });
        outcomes.collect()
    }

    fn refusal(&self, event: &Event) -> Option<Outcome> {
        let mut state = self.world().state();
        let number = state.truth.find(event.id())?;
        if event.kind() == crate::event::SKIPPED {
            return None;
        }
        let unwanted = state.targets[self.route].unwanted.iter_mut().find(|unwanted| unwanted.0 == number)?;
        let permanent = match &mut unwanted.1 {
            Unwanted::Refused(0) | Unwanted::Bomb(_) => return None,
            Unwanted::Refused(times) => {
                *times -= 1;
                false
            }
            Unwanted::ForGood => true,
        };
        state.truth.routes[self.route].refused.insert(number);
        state.strikes(if permanent { Fault::RefusedForGood } else { Fault::Refused });
        Some(Outcome::Refused { permanent, reason: "simulated: not wanted".to_owned() })
    }

    fn arrive(&self, event: &Event, batch: &Batch, began: Moment) {
        self.world().note(|| {
            let replay = batch.replay.as_ref().map_or_else(String::new, |id| format!(" by replay {id}"));
            let marker = if event.kind() == crate::event::SKIPPED { "marker of " } else { "" };
            format!("{} takes {marker}{}{replay}", self.world().routes[self.route], event.id())
        });
        let arrived = {
            let mut state = self.world().state();
            match &batch.replay {
                Some(replay) => operator::within(self.world(), &state, replay, event)
                    .and_then(|()| state.truth.replayed(self.route, replay, event)),
                None => state.truth.arrived(self.route, event, began),
            }
        };
        if let Err(breach) = arrived {
            let what = format!("route `{}`: {}", self.world().routes[self.route], breach.what);
            self.world().breach(breach.rule, what);
        }
        if self.route == 0 {
            let envelope = Envelope { gapless: batch.gapless, replay: batch.replay.as_deref() };
            self.world().send(json::encode(event, envelope));
        }
    }

    async fn answer(&self, batch: &Batch, began: Moment) -> Result<Vec<Outcome>, SinkError> {
        let all = batch.events.len();
        if let Some(fault) = self.outage() {
            return Err(SinkError::new(fault, "simulated: the target is out"));
        }
        let fault = self.call_fault(&mut self.world().state());
        if let Some(fault) = fault {
            self.world().note(|| format!("{}: {fault:?}", self.world().routes[self.route]));
        }
        if let (None | Some(CallFault::AnswerLost | CallFault::ShortAnswer | CallFault::HalfAccepted), Some(fault)) =
            (fault, self.bomb(batch))
        {
            return Err(SinkError::new(fault, "simulated: something in this call is wrong"));
        }
        match fault {
            None => Ok(self.take(batch, began, all)),
            Some(CallFault::Fails(fault)) => Err(SinkError::new(fault, "simulated: the call failed")),
            Some(CallFault::Throttled(after)) => Ok(vec![Outcome::Throttled { after }; all]),
            Some(CallFault::HalfAccepted) => Ok(self.take(batch, began, all.div_ceil(2).min(all - 1))),
            Some(CallFault::AnswerLost) => {
                self.world().excuse(self.route, all);
                self.take(batch, began, all);
                Err(SinkError::new(sink::Fault::Unknown, "simulated: the answer was lost").uncertain())
            }
            Some(CallFault::ShortAnswer) => {
                self.world().excuse(self.route, all);
                // Whether the one that nothing is said of was taken nobody can know.
                let taken = all - self.world().chance(("short", batch.events[0].id())).usize(0..=1);
                let mut outcomes = self.take(batch, began, taken);
                outcomes.pop();
                Ok(outcomes)
            }
            Some(CallFault::Hangs { lasts, effect }) => {
                if effect {
                    self.world().excuse(self.route, all);
                    let outcomes = self.take(batch, began, all);
                    sleep(lasts).await;
                    return Ok(outcomes);
                }
                sleep(lasts).await;
                Err(SinkError::new(sink::Fault::Unknown, "simulated: no answer came").uncertain())
            }
        }
    }
}

#[async_trait]
impl Sink for Target {
    fn limits(&self) -> SinkLimits {
        let scene = &self.world().scene.routes[self.route];
        SinkLimits {
            ordered_calls: scene.ordered_calls,
            max_events: scene.max_events,
            max_bytes: self.max_bytes(),
            max_event_bytes: MAX_EVENT_BYTES,
            max_calls: scene.max_calls,
        }
    }

    fn size(&self, event: &Event) -> usize {
        event.weight()
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let mut call = self.begin(batch);
        checks::window_is_bounded(self.world(), self.route, batch);
        let failed = |error: crate::StoreError| {
            let failed = SinkError::new(sink::Fault::Unknown, error.to_string());
            if error.is_uncertain() { failed.uncertain() } else { failed }
        };
        let answered = async {
            self.around.before(Io::Publish).await.map_err(failed)?;
            let answer = self.answer(batch, call.began).await;
            self.around.after(Io::Publish).await.map_err(failed)?;
            Ok(answer)
        };
        let answered = answered.await;
        call.is_over = true;
        let answer = answered?;
        match &answer {
            Ok(outcomes) if outcomes.len() < batch.events.len() => {}
            Err(SinkError { fault: sink::Fault::Unknown, .. }) => {}
            Err(SinkError { fault: sink::Fault::Event, .. }) => {
                let events = std::mem::take(&mut call.events);
                self.world().state().truth.routes[self.route].refused.extend(events);
            }
            Ok(_) | Err(SinkError { fault: sink::Fault::Sink | sink::Fault::Throttle, .. }) => call.events.clear(),
        }
        drop(call);
        answer
    }
}

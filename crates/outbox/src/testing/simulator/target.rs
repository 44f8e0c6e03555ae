//! A route's target: takes events as its mood allows, and looks at what it is sent.

mod call;
mod landing;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use tokio::time::sleep;

use self::{call::UnderWay, landing::Landing};
use super::{
    checks,
    fault::Fault,
    operator, patience,
    process::Around,
    rule::{Breach, Rule},
    schedule::{CallFault, Unwanted},
    world::{Outage, State, World},
};
use crate::{
    StoreError,
    bookkeeping::Lane,
    clock::Moment,
    cloudevents::{Envelope, json},
    event::Event,
    route::RouteName,
    sink::{self, Batch, Outcome, Sink, SinkError, SinkLimits},
    testing::{Call, Hook as _, Io},
};

/// The largest event that targets take.
pub(super) const MAX_EVENT_BYTES: usize = 64 << 10;

/// No event of a run has so many bytes.
const LARGEST: usize = 1 << 10;

/// A route's sink, in one life of a relay.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) around: Around,
    pub(super) route: usize,
    under_way: Arc<Mutex<UnderWay>>,
}

impl Target {
    pub(super) fn new(around: Around, route: usize) -> Self {
        Self { around, route, under_way: Arc::default() }
    }

    /// The name of its route.
    fn name(&self) -> &RouteName {
        &self.world().routes[self.route]
    }

    fn world(&self) -> &World {
        &self.around.world
    }

    /// Some targets take only a few events in a call by their bytes; no event is too large by itself.
    fn max_bytes(&self) -> usize {
        let mut rng = self.world().chance(("bytes", self.route));
        if rng.bool() { rng.usize(LARGEST..4 * LARGEST) } else { MAX_EVENT_BYTES }
    }

    /// The fault that is armed for this call.
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
        Some(fault)
    }

    /// The call suffers `fault`, which the tally counts if it makes a difference to it.
    fn suffers(&self, fault: CallFault, batch: &Batch) {
        self.world().note(|| format!("{}: {fault}", self.name()));
        if fault == CallFault::HalfAccepted && batch.events.len() == 1 {
            return;
        }
        self.world().state().strikes(match fault {
            CallFault::Fails(fault) => match fault {
                sink::Fault::Sink | sink::Fault::Event => Fault::CallFails,
                sink::Fault::Throttle => Fault::CallTooFast,
                sink::Fault::Unknown => Fault::CallFailsUnknown,
            },
            CallFault::Throttled(_) => Fault::CallThrottled,
            CallFault::AnswerLost => Fault::CallAnswerLost,
            CallFault::ShortAnswer => Fault::CallShortAnswer,
            CallFault::HalfAccepted => Fault::CallHalfAccepted,
            CallFault::Hangs { .. } => Fault::CallHangs,
        });
    }

    /// What is wrong with the target as a whole now.
    fn outage(&self) -> Option<sink::Fault> {
        let now = self.world().now();
        let mut state = self.world().state();
        let Outage { until, fault, struck } = state.targets[self.route].outage?;
        if now >= until || state.healed {
            state.targets[self.route].outage = None;
            return None;
        }
        if !struck {
            state.targets[self.route].outage = Some(Outage { until, fault, struck: true });
            state.strikes(match fault {
                sink::Fault::Sink | sink::Fault::Event => Fault::Outage,
                sink::Fault::Throttle => Fault::OutageThrottled,
                sink::Fault::Unknown => Fault::OutageUnknown,
            });
        }
        Some(fault)
    }

    /// Whether the call holds an event that makes it fail.
    fn bomb(&self, batch: &Batch) -> Option<sink::Fault> {
        let mut state = self.world().state();
        let found = batch.events.iter().find_map(|event| {
            let number = state.truth.find(event.id())?;
            let marker = event.kind() == crate::event::SKIPPED;
            state.targets[self.route].unwanted.iter().find_map(|unwanted| match unwanted {
                (unwanted, Unwanted::Bomb(fault)) if *unwanted == number && !marker => Some((number, *fault)),
                _ => None,
            })
        });
        // Alone in a call, it is to blame.
        if let Some((number, sink::Fault::Event)) = found
            && batch.events.len() == 1
            && batch.replay.is_none()
        {
            state.truth.routes[self.route].refuses(number, true);
        }
        if let Some((_, fault)) = found {
            state.strikes(if fault == sink::Fault::Event { Fault::Bomb } else { Fault::BombUnknown });
        }
        found.map(|(_, fault)| fault)
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
            if let Some(refusal) = self.refusal(event, batch) {
                held.insert(lane);
                return refusal;
            }
            self.arrive(event, batch, began);
            Outcome::Accepted
        });
        outcomes.collect()
    }

    fn refusal(&self, event: &Event, batch: &Batch) -> Option<Outcome> {
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
            Unwanted::Failing => {
                state.strikes(Fault::Failing);
                return Some(Outcome::Failed { reason: "simulated: something went wrong".to_owned() });
            }
        };
        if batch.replay.is_none() {
            state.truth.routes[self.route].refuses(number, permanent);
        }
        state.strikes(if permanent { Fault::RefusedForGood } else { Fault::Refused });
        Some(Outcome::Refused { permanent, reason: "simulated: not wanted".to_owned() })
    }

    fn arrive(&self, event: &Event, batch: &Batch, began: Moment) {
        self.world().note(|| {
            let replay = batch.replay.as_ref().map_or_else(String::new, |id| format!(" by replay {id}"));
            let marker = if event.kind() == crate::event::SKIPPED { "marker of " } else { "" };
            format!("{} takes {marker}{}{replay}", self.name(), event.id())
        });
        let arrived = {
            let mut state = self.world().state();
            match &batch.replay {
                Some(replay) => operator::within(self.world(), &state, replay, event)
                    .and_then(|()| state.truth.replayed(self.route, replay, event)),
                None => self.arrived(&mut state, event, began),
            }
        };
        if let Err(breach) = arrived {
            let what = format!("route `{}`: {}", self.name(), breach.what);
            self.world().breach(breach.rule, what);
        }
        if self.route == 0 {
            let envelope = Envelope { gapless: batch.gapless, replay: batch.replay.as_deref() };
            self.world().send(json::encode(event, envelope));
        }
    }

    /// An event arrived that is none of a replay's.
    fn arrived(&self, state: &mut State, event: &Event, began: Moment) -> Result<(), Breach> {
        let again = state.truth.arrived(self.route, event, began, self.world().now())?;
        let overtaken = !self.around.is_owner();
        if overtaken {
            state.strikes(Fault::Overtaken);
        }
        match again {
            // Two relays know nothing of each other's calls.
            None if overtaken => {
                if let Some(number) = state.truth.find(event.id()) {
                    state.excuses.add(self.route, number);
                }
            }
            Some(number)
                if !overtaken
                    && state.truth.knows_duplicates(self.route)
                    && !state.excuses.use_up(self.route, number) =>
            {
                let what = format!("{} arrived again, and nothing that went wrong excuses it", event.id());
                return Err(Breach::new(Rule::Bounded, what));
            }
            _ => {}
        }
        Ok(())
    }

    async fn answer(&self, batch: &Batch, began: Moment) -> Result<Vec<Outcome>, SinkError> {
        let all = batch.events.len();
        let numbers = self.numbers(batch);
        if let Some(fault) = self.outage() {
            return Err(SinkError::new(fault, "simulated: the target is out"));
        }
        let fault = self.call_fault(&mut self.world().state());
        if let (None | Some(CallFault::AnswerLost | CallFault::ShortAnswer | CallFault::HalfAccepted), Some(fault)) =
            (fault, self.bomb(batch))
        {
            return Err(SinkError::new(fault, "simulated: something in this call is wrong"));
        }
        if let Some(fault) = fault {
            self.suffers(fault, batch);
        }
        match fault {
            None => Ok(self.take(batch, began, all)),
            Some(CallFault::Fails(fault)) => Err(SinkError::new(fault, "simulated: the call failed")),
            Some(CallFault::Throttled(after)) => Ok(vec![Outcome::Throttled { after }; all]),
            Some(CallFault::HalfAccepted) => Ok(self.take(batch, began, all.div_ceil(2).min(all - 1))),
            Some(CallFault::AnswerLost) => {
                self.take(batch, began, all);
                self.world().excuse_arrived(self.route, &numbers);
                Err(SinkError::new(sink::Fault::Unknown, "simulated: the answer was lost").uncertain())
            }
            Some(CallFault::ShortAnswer) => {
                // Whether the one that nothing is said of was taken nobody can know.
                let taken = all - self.world().chance(("short", batch.events[0].id())).usize(0..=1);
                let mut outcomes = self.take(batch, began, taken);
                self.world().excuse_arrived(self.route, &numbers);
                outcomes.pop();
                Ok(outcomes)
            }
            Some(CallFault::Hangs { lasts, effect }) => {
                if effect {
                    let outcomes = self.take(batch, began, all);
                    // For as long as it is not answered.
                    let arrived = self.world().excuse_arrived(self.route, &numbers);
                    sleep(lasts).await;
                    self.world().excuse_no_more(self.route, &arrived);
                    return Ok(outcomes);
                }
                sleep(lasts).await;
                Err(SinkError::new(sink::Fault::Unknown, "simulated: no answer came").uncertain())
            }
        }
    }
}

/// As the relay sees a target that cannot be reached.
fn failed(error: &StoreError) -> SinkError {
    let failed = SinkError::new(sink::Fault::Unknown, error.to_string());
    if error.is_uncertain() { failed.uncertain() } else { failed }
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
        let call = Call::new(Io::Check, self.name());
        self.around.before(&call).await.map_err(|error| failed(&error))?;
        self.around.after(&call, &()).await.map_err(|error| failed(&error))
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let mut call = self.begin(batch);
        checks::window_is_bounded(self.world(), self.route, batch);
        let asked = (self.name(), batch);
        let told = Call::new(Io::Publish, &asked);
        let landing = Landing::new(self, batch, call.began);
        let mut is_there = false;
        let answered = async {
            let sent = self.around.before(&told).await;
            landing.arrived();
            sent.map_err(|error| failed(&error))?;
            is_there = true;
            let answer = self.answer(batch, call.began).await;
            self.around.after(&told, &answer).await.map_err(|error| failed(&error))?;
            Ok(answer)
        };
        let answered = answered.await;
        call.is_over = true;
        if answered.is_err() && is_there {
            // The answer was lost on its way.
            self.world().excuse_arrived(self.route, &self.numbers(batch));
        }
        let answer = answered?;
        match &answer {
            Ok(outcomes) if outcomes.len() < batch.events.len() => {}
            Err(SinkError { fault: sink::Fault::Unknown, .. }) => {}
            Ok(outcomes) => {
                patience::answered(&self.around, self.route, batch, outcomes);
                let accepted = call.events.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Accepted);
                let doubted = &mut self.world().state().truth.routes[self.route].doubted;
                // What a replay hears is nothing to its route.
                for (number, _) in accepted.filter(|_| batch.replay.is_none()) {
                    doubted.remove(number);
                }
                let failed = outcomes.iter().map(|outcome| matches!(outcome, Outcome::Failed { .. }));
                let numbers = std::mem::take(&mut call.events).into_iter();
                call.events = numbers.zip(failed).filter_map(|(number, failed)| failed.then_some(number)).collect();
            }
            Err(SinkError { fault: sink::Fault::Event | sink::Fault::Sink | sink::Fault::Throttle, .. }) => {
                call.events.clear();
            }
        }
        drop(call);
        answer
    }
}

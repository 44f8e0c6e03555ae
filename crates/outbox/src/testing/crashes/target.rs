//! The other side of the sink: it outlives every relay, and knows what it wants.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    event::{Event, Key, SKIPPED},
    sink::{Batch, Fault, Outcome, Sink, SinkError, SinkLimits},
};

/// Small, so that few events make many calls.
pub(super) const LIMITS: SinkLimits =
    SinkLimits { ordered_calls: true, max_events: 3, max_bytes: 1 << 20, max_event_bytes: 64 << 10, max_calls: 2 };

/// An event that was accepted.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) id: String,
    /// The replay that brought it.
    pub(super) replay: Option<Arc<str>>,
    /// Whether it is the marker of a discarded event.
    pub(super) marker: bool,
}

#[derive(Clone, Default)]
pub(super) struct Target(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    arrivals: Vec<Arrival>,
    /// Refused by name until the rule is mended.
    refused: BTreeSet<String>,
    /// What attempts at an event are answered before it is accepted.
    answers: BTreeMap<String, VecDeque<Outcome>>,
    /// Whose call fails as a whole, once.
    failing: BTreeMap<String, Fault>,
    breaches: Vec<String>,
}

impl Target {
    pub(super) fn refuse(&self, ids: &[&str]) {
        self.state().refused = ids.iter().map(|&id| id.to_owned()).collect();
    }

    pub(super) fn answer(&self, id: &str, answers: impl Into<VecDeque<Outcome>>) {
        self.state().answers.insert(id.to_owned(), answers.into());
    }

    pub(super) fn fail(&self, id: &str, fault: Fault) {
        self.state().failing.insert(id.to_owned(), fault);
    }

    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.state().arrivals.clone()
    }

    /// Calls beyond the limits.
    pub(super) fn breaches(&self) -> Vec<String> {
        self.state().breaches.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn outcome(&mut self, event: &Event, batch: &Batch, held: &mut BTreeSet<Key>) -> Outcome {
        let marker = event.kind() == SKIPPED;
        if event.key().is_some_and(|key| held.contains(key)) {
            return Outcome::Throttled { after: None };
        }
        let scripted = self.answers.get_mut(event.id()).and_then(VecDeque::pop_front);
        let refused = self.refused.contains(event.id()) && !marker;
        let refusal = refused.then(|| Outcome::Refused { permanent: true, reason: "the rule forbids it".to_owned() });
        if let Some(outcome) = scripted.or(refusal) {
            held.extend(event.key().cloned());
            return outcome;
        }
        self.arrivals.push(Arrival { id: event.id().to_owned(), replay: batch.replay.clone(), marker });
        Outcome::Accepted
    }
}

#[async_trait]
impl Sink for Target {
    fn limits(&self) -> SinkLimits {
        LIMITS
    }

    fn size(&self, event: &Event) -> usize {
        event.weight()
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let mut state = self.state();
        if batch.events.is_empty() || batch.events.len() > LIMITS.max_events {
            state.breaches.push(format!("a call of {} events", batch.events.len()));
        }
        if let Some(fault) = batch.events.iter().find_map(|event| state.failing.remove(event.id())) {
            return Err(SinkError::new(fault, "the target is out for a moment"));
        }
        let mut held = BTreeSet::new();
        Ok(batch.events.iter().map(|event| state.outcome(event, batch, &mut held)).collect())
    }
}

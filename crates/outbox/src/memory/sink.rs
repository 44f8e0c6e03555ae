//! A sink that remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::lock;
use crate::{
    event::{Event, Key},
    place::Place,
    sink::{Batch, Fault, Outcome, Sink, SinkError, SinkLimits},
};

/// What a [`MemorySink`] takes unless told otherwise.
const LIMITS: SinkLimits =
    SinkLimits { ordered_calls: true, max_events: 100, max_bytes: 1 << 20, max_event_bytes: 256 << 10, max_calls: 8 };

/// A sink that remembers what it accepted, for tests to look at.
///
/// It can be broken as a whole, and told to refuse events by their id. Once it has refused or held back an event, it
/// takes no later event of the same key in the same call. For faults that come in a certain order see
/// `outbox::testing::faults`.
pub struct MemorySink {
    limits: SinkLimits,
    state: Mutex<State>,
    /// How many events were accepted, for those who wait for them.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    accepted: Vec<Accepted>,
    calls: u64,
    broken: Option<(Fault, String)>,
    refused: BTreeMap<String, Refusal>,
    breaches: Vec<String>,
}

#[derive(Clone)]
struct Refusal {
    permanent: bool,
    reason: String,
}

/// An event that the sink accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The event.
    pub event: Event,
    /// In which call it came, from 1.
    pub call: u64,
    /// Whether its route said that it takes every event of a key.
    pub gapless: bool,
    /// The replay that published it again.
    pub replay: Option<Arc<str>>,
}

impl Default for MemorySink {
    fn default() -> Self {
        Self::new(LIMITS)
    }
}

impl MemorySink {
    /// A sink that takes what `limits` say.
    pub fn new(limits: SinkLimits) -> Self {
        Self { limits, state: Mutex::default(), count: watch::Sender::new(0) }
    }

    /// What was accepted, in order, duplicates included.
    pub fn accepted(&self) -> Vec<Accepted> {
        lock(&self.state).accepted.clone()
    }

    /// The ids of what was accepted, in order, duplicates included.
    pub fn ids(&self) -> Vec<String> {
        lock(&self.state).accepted.iter().map(|accepted| accepted.event.id().to_owned()).collect()
    }

    /// How many calls came, failed ones included.
    pub fn calls(&self) -> u64 {
        lock(&self.state).calls
    }

    /// Waits until `count` events were accepted, duplicates included.
    pub async fn accepted_at_least(&self, count: usize) {
        // The sender lives as long as this sink, so waiting cannot fail.
        let _ = self.count.subscribe().wait_for(|accepted| *accepted >= count).await;
    }

    /// From now on every call fails as a whole, until [`mend`](Self::mend).
    pub fn break_down(&self, fault: Fault, message: &str) {
        lock(&self.state).broken = Some((fault, message.to_owned()));
    }

    /// From now on the event `id` is refused, until [`mend`](Self::mend).
    pub fn refuse(&self, id: &str, permanent: bool, reason: &str) {
        lock(&self.state).refused.insert(id.to_owned(), Refusal { permanent, reason: reason.to_owned() });
    }

    /// From now on everything is accepted.
    pub fn mend(&self) {
        let mut state = lock(&self.state);
        state.broken = None;
        state.refused.clear();
    }

    /// What was accepted against a promise: first publications of a key out of their order, and calls beyond the
    /// sink's limits. Empty unless the relay has a defect.
    pub fn breaches(&self) -> Vec<String> {
        let state = lock(&self.state);
        let mut breaches = state.breaches.clone();
        let mut latest = BTreeMap::<&Key, Place>::new();
        let mut seen = BTreeSet::new();
        for Accepted { event, replay, .. } in &state.accepted {
            if replay.is_some() || !seen.insert(event.id()) {
                continue;
            }
            let (Some(key), Some(placing)) = (event.key(), event.placing()) else { continue };
            let latest = latest.entry(key).or_insert(Place::ORIGIN);
            if placing.place < *latest {
                breaches.push(format!("`{}` was first published after {latest} of its key", event.id()));
            }
            *latest = placing.place.max(*latest);
        }
        breaches
    }
}

impl State {
    fn check_call(&mut self, limits: SinkLimits, sizes: usize, batch: &Batch) {
        let call = self.calls;
        let mut breach = |what: String| self.breaches.push(format!("call {call}: {what}"));
        if batch.events.is_empty() || batch.events.len() > limits.max_events {
            breach(format!("{} events, not 1 to {}", batch.events.len(), limits.max_events));
        }
        if sizes > limits.max_bytes {
            breach(format!("{sizes} bytes, more than {}", limits.max_bytes));
        }
        let mut keys = BTreeSet::new();
        let repeated = batch.events.iter().filter_map(|event| event.key()).any(|key| !keys.insert(key));
        if repeated && !limits.ordered_calls {
            breach("several events of a key, though calls are not ordered".to_owned());
        }
    }

    fn outcome(&mut self, event: &Event, batch: &Batch, held: &mut BTreeSet<Key>) -> Outcome {
        if event.key().is_some_and(|key| held.contains(key)) {
            return Outcome::Throttled { after: None };
        }
        if let Some(Refusal { permanent, reason }) = self.refused.get(event.id()).cloned() {
            held.extend(event.key().cloned());
            return Outcome::Refused { permanent, reason };
        }
        self.accepted.push(Accepted {
            event: event.clone(),
            call: self.calls,
            gapless: batch.gapless,
            replay: batch.replay.clone(),
        });
        Outcome::Accepted
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn limits(&self) -> SinkLimits {
        self.limits
    }

    fn size(&self, event: &Event) -> usize {
        event.weight()
    }

    async fn check(&self) -> Result<(), SinkError> {
        match &lock(&self.state).broken {
            Some((fault, message)) => Err(SinkError::new(*fault, message)),
            None => Ok(()),
        }
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let sizes = batch.events.iter().map(|event| self.size(event)).sum();
        let mut state = lock(&self.state);
        state.calls += 1;
        state.check_call(self.limits, sizes, batch);
        if let Some((fault, message)) = &state.broken {
            return Err(SinkError::new(*fault, message));
        }
        let mut held = BTreeSet::new();
        let outcomes = batch.events.iter().map(|event| state.outcome(event, batch, &mut held)).collect();
        let accepted = state.accepted.len();
        drop(state);
        self.count.send_replace(accepted);
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entry::EventRef, testing_event};

    fn batch(sequences: &[u64]) -> Batch {
        let events = sequences.iter().map(|n| EventRef::single(testing_event("t", Some("a"), *n))).collect();
        Batch { events, gapless: true, replay: None }
    }

    #[tokio::test]
    async fn nothing_of_a_key_is_accepted_behind_what_was_refused() {
        let sink = MemorySink::default();
        sink.refuse("a@1.2.0", true, "no");
        let outcomes = sink.publish(&batch(&[1, 2, 3])).await.unwrap();
        assert!(matches!(
            outcomes[..],
            [Outcome::Accepted, Outcome::Refused { permanent: true, .. }, Outcome::Throttled { .. }]
        ));
        assert_eq!(sink.ids(), ["a@1.1.0"]);
    }

    #[tokio::test]
    async fn a_first_publication_out_of_order_is_a_breach_and_a_duplicate_is_none() {
        let sink = MemorySink::default();
        for call in [&[1, 2][..], &[1], &[4], &[3]] {
            sink.publish(&batch(call)).await.unwrap();
        }
        assert_eq!(sink.breaches(), ["`a@1.3.0` was first published after 1.4.0 of its key"]);
    }

    #[tokio::test]
    async fn a_call_beyond_the_limits_is_a_breach() {
        let sink = MemorySink::new(SinkLimits { ordered_calls: false, max_events: 2, ..LIMITS });
        sink.publish(&batch(&[1, 2, 3])).await.unwrap();
        assert_eq!(sink.breaches().len(), 2);
    }

    #[tokio::test]
    async fn a_broken_sink_fails_each_call_until_it_is_mended() {
        let sink = MemorySink::default();
        sink.break_down(Fault::Sink, "not connected");
        assert_eq!(sink.publish(&batch(&[1])).await.unwrap_err().fault, Fault::Sink);
        sink.check().await.unwrap_err();
        sink.mend();
        sink.publish(&batch(&[1])).await.unwrap();
        assert_eq!((sink.calls(), sink.ids().len()), (2, 1));
    }
}

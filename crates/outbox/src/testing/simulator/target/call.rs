//! A call while it is under way: what has to hold of it, and what becomes of it if it is cut off.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    super::{
        operator, patience,
        process::Around,
        rule::{Breach, Rule},
        worker::{CALL_TIMEOUT, DRAIN_LIMIT, FAILOVER},
    },
    Target,
};
use crate::{
    bookkeeping::Lane,
    clock::Moment,
    sink::{Batch, Sink as _},
};

/// The calls of a route in one life of a relay.
#[derive(Default)]
pub(super) struct UnderWay {
    lanes: BTreeSet<Lane>,
    calls: usize,
}

/// A call while it is under way, its future dropped or not.
pub(super) struct Call {
    lanes: Vec<Lane>,
    under_way: Arc<Mutex<UnderWay>>,
    around: Around,
    pub(super) began: Moment,
    /// Whether it came to an end, whichever.
    pub(super) is_over: bool,
    route: usize,
    /// The numbers of its events.
    numbers: Vec<usize>,
    /// The same, for as long as they failed, or are under way, and nobody has said whose fault it is.
    pub(super) events: Vec<usize>,
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
        let is_awaited = self.around.life.stops_since().is_some_and(is_waited_for) && self.around.is_owner();
        if !self.is_over && is_awaited {
            world.breach(Rule::Bounded, "a relay that stopped in order did not wait for its calls");
        }
        if !self.is_over {
            world.excuse_arrived(self.route, &self.numbers);
        }
        let mut state = world.state();
        for number in std::mem::take(&mut self.events) {
            state.truth.routes[self.route].fails(number, now);
        }
    }
}

impl Target {
    /// The lanes that may be in no other call.
    fn lanes_alone(&self, batch: &Batch) -> Vec<Lane> {
        let state = self.world().state();
        let route = &state.truth.routes[self.route];
        let is_apart = |id: &str| state.truth.find(id).is_some_and(|number| route.is_passed_over(number));
        let in_turn = batch.events.iter().filter(|event| !is_apart(event.id())).map(|event| Lane::of(event));
        in_turn.collect::<BTreeSet<Lane>>().into_iter().collect()
    }

    /// The numbers of a call's events.
    pub(super) fn numbers(&self, batch: &Batch) -> Vec<usize> {
        let state = self.world().state();
        batch.events.iter().filter_map(|event| state.truth.find(event.id())).collect()
    }

    /// Looks whether the call keeps the sink's limits, and whether a key is in one call at a time only.
    pub(super) fn begin(&self, batch: &Batch) -> Call {
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
        if batch.gapless != operator::is_gapless(self.world(), self.route, batch.replay.as_deref()) {
            breach(Rule::Loud, &format!("a call that says that it is gapless: {}, which is not so", batch.gapless));
        }
        if let Some(Breach { rule, what }) = patience::begins(&self.around, self.route, batch) {
            breach(rule, &what);
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
        let lanes: Vec<Lane> = if batch.replay.is_some() { Vec::new() } else { self.lanes_alone(batch) };
        for lane in &lanes {
            if !under_way.lanes.insert(lane.clone()) {
                breach(Rule::InOrder, "a key in two calls at the same time");
            }
        }
        let events = self.numbers(batch);
        let (under_way, around, began) = (self.under_way.clone(), self.around.clone(), self.world().now());
        Call { lanes, under_way, around, began, is_over: false, route: self.route, numbers: events.clone(), events }
    }
}

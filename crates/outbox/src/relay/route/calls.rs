//! Calls to the sink: when one goes out, what its answer means, and counting both.

use std::{panic::AssertUnwindSafe, sync::atomic::Ordering};

use futures_util::FutureExt;
use metrics::{Counter, Histogram};
use tokio::time::{sleep, timeout};

use super::{
    Control, StoreError, Task,
    jobs::{Done, Machine},
};
use crate::{
    entry::EventRef,
    keeper,
    pipeline::{self, CallId},
    relay::metric,
    route::RouteName,
    sink::{Batch, Fault, Outcome, SinkError},
};

/// A route's metrics that every call touches: looked up once.
pub(super) struct Metrics {
    pub(super) checkpoints: Counter,
    calls: Counter,
    published: Counter,
    seconds: Histogram,
    lag: Histogram,
}

impl Metrics {
    pub(super) fn of(route: &RouteName) -> Self {
        let route = route.to_string();
        Self {
            checkpoints: metrics::counter!(metric::CHECKPOINTS, "route" => route.clone()),
            calls: metrics::counter!(metric::CALLS, "route" => route.clone()),
            published: metrics::counter!(metric::PUBLISHED, "route" => route.clone()),
            seconds: metrics::histogram!(metric::CALL_SECONDS, "route" => route.clone()),
            lag: metrics::histogram!(metric::LAG_SECONDS, "route" => route),
        }
    }
}

impl Task {
    pub(super) fn publish(&mut self, machine: Machine, call: CallId, events: Vec<EventRef>) {
        let replay = self.replay.as_ref().map(|replay| replay.id.as_str().into());
        let batch = Batch { events, gapless: self.gapless, replay };
        let (sink, guard, limiter) = (self.sink.clone(), self.guard.clone(), self.limiter.clone());
        let (limit, clock, seconds) = (self.parts.call_timeout, self.parts.clock.clone(), self.metrics.seconds.clone());
        let (calls, mut control, base) = (self.calls.clone(), self.control.clone(), self.base().clone());
        let seen = (machine == Machine::Keeper).then_some(self.operator);
        // Nearly always a call can go out at once.
        let at_once = if limiter.is_none() { calls.clone().try_acquire_owned().ok() } else { None };
        self.jobs.spawn(async move {
            let events = batch.events.len();
            let its_turn = async {
                loop {
                    let turn = calls.clone().acquire_owned().await.ok();
                    let Some(Err(wait)) = limiter.as_ref().map(|limiter| limiter.take(events)) else { return turn };
                    // Others may call meanwhile: a replay has a rate of its own.
                    drop(turn);
                    sleep(wait).await;
                }
            };
            let turn = if at_once.is_some() {
                at_once
            } else {
                // What still waits for its turn does not go out any more once the route is drained or paused, nor what is
                // kept once an operator changed something: it may have been erased.
                let withdrawn = |control: &Control| {
                    control.drain || control.paused.contains(&base) || seen.is_some_and(|seen| control.operator != seen)
                };
                tokio::select! {
                    biased;
                    _ = control.wait_for(withdrawn) => None,
                    turn = its_turn => turn,
                }
            };
            if turn.is_none() || !guard.holds() {
                return Done::NotCalled { machine, call, events };
            }
            let started = clock.moment();
            let published = AssertUnwindSafe(timeout(limit, async { sink.publish(&batch).await })).catch_unwind().await;
            let result = match published {
                Ok(Ok(result)) => result.and_then(|outcomes| one_for_each(outcomes, events)),
                Ok(Err(_)) => Err(SinkError::new(Fault::Unknown, "the sink gave no answer in time").uncertain()),
                Err(_) => Err(SinkError::new(Fault::Unknown, "the sink panicked; please report it").uncertain()),
            };
            seconds.record(clock.moment().since(started).as_secs_f64());
            Done::Called { machine, call, events: batch.events, result }
        });
    }

    pub(super) fn called(
        &mut self,
        machine: Machine,
        call: CallId,
        events: &[EventRef],
        result: Result<Vec<Outcome>, SinkError>,
    ) -> Result<(), StoreError> {
        self.count(events, &result);
        let accepted = result.as_ref().is_ok_and(|outcomes| outcomes.contains(&Outcome::Accepted));
        match machine {
            Machine::Pipeline(index) => {
                let input = match result {
                    Ok(outcomes) => pipeline::Input::Answered { call, outcomes },
                    Err(error) => {
                        let reason = error.with_causes();
                        let SinkError { fault, retry_after, .. } = error;
                        pipeline::Input::CallFailed { call, fault, retry_after, reason }
                    }
                };
                self.pipeline_input(index, input)?;
                if accepted && self.keeper.lanes() > 0 {
                    self.keeper_input(keeper::Input::OthersAccepted)?;
                }
                Ok(())
            }
            Machine::Keeper => self.keeper_input(match result {
                Ok(outcomes) => keeper::Input::Answered { call, outcomes },
                Err(error) => {
                    let reason = error.with_causes();
                    let SinkError { fault, retry_after, .. } = error;
                    keeper::Input::CallFailed { call, fault, retry_after, reason }
                }
            }),
        }
    }

    /// The events come again later. Neither they nor the sink are to blame.
    pub(super) fn not_called(&mut self, machine: Machine, call: CallId, events: usize) -> Result<(), StoreError> {
        let outcomes = vec![Outcome::Throttled { after: None }; events];
        match machine {
            Machine::Pipeline(index) => self.pipeline_input(index, pipeline::Input::Answered { call, outcomes }),
            Machine::Keeper => self.keeper_input(keeper::Input::Answered { call, outcomes }),
        }
    }

    fn count(&self, events: &[EventRef], result: &Result<Vec<Outcome>, SinkError>) {
        self.metrics.calls.increment(1);
        let not_accepted = |outcome: &'static str, count: u64| {
            if count > 0 {
                self.counts.not_accepted.fetch_add(count, Ordering::Relaxed);
                let route = self.name.to_string();
                metrics::counter!(metric::NOT_ACCEPTED, "route" => route, "outcome" => outcome).increment(count);
            }
        };
        let Ok(outcomes) = result else { return not_accepted("failed", 1) };
        let how_many = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count() as u64;
        let accepted = how_many(|outcome| matches!(outcome, Outcome::Accepted));
        self.counts.published.fetch_add(accepted, Ordering::Relaxed);
        self.metrics.published.increment(accepted);
        not_accepted("refused", how_many(|outcome| matches!(outcome, Outcome::Refused { .. })));
        not_accepted("failed", how_many(|outcome| matches!(outcome, Outcome::Failed { .. })));
        not_accepted("throttled", how_many(|outcome| matches!(outcome, Outcome::Throttled { .. })));
        // The first event of a call waited longest: one sample a call says what there is to know.
        if let (Some(first), Some(Outcome::Accepted)) = (events.first(), outcomes.first()) {
            let lag = self.parts.clock.wall().duration_since(first.recorded()).as_secs_f64();
            self.metrics.lag.record(lag.max(0.0));
        }
    }
}

/// Outcomes that cannot be told apart acknowledge nothing, and are counted as nothing that was published.
fn one_for_each(outcomes: Vec<Outcome>, events: usize) -> Result<Vec<Outcome>, SinkError> {
    if outcomes.len() == events {
        return Ok(outcomes);
    }
    let message = format!("the sink gave {} outcomes for {events} events; please report it", outcomes.len());
    Err(SinkError::new(Fault::Unknown, message).uncertain())
}

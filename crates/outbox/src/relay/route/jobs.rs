//! The I/O that machines asked for, each a task of its own, and what its result means for them.

use std::{panic::AssertUnwindSafe, sync::atomic::Ordering};

use futures_util::FutureExt;
use tokio::{task::JoinError, time::timeout};

use super::{ErrorKind, StoreError, Task};
use crate::{
    bookkeeping::{
        Checkpoint, Front, Keep, KeepOutcome, Kept, KeptContent, Lane, RouteHealth, SettleOutcome, Settlement, Trouble,
    },
    entry::{EventRef, Position},
    keeper::{self, LoadId},
    pipeline::{self, CallId, WriteId},
    relay::metric,
    sink::{Batch, Fault, Outcome, SinkError},
    store::Witness,
};

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// The pipeline of this partition.
    Pipeline(usize),
    Keeper,
}

/// What came of a job.
pub(super) enum Done {
    Called {
        machine: Machine,
        call: CallId,
        events: Vec<EventRef>,
        result: Result<Vec<Outcome>, SinkError>,
    },
    /// The call did not go out: the route was drained or paused while it waited for its turn.
    NotCalled {
        machine: Machine,
        call: CallId,
        events: usize,
    },
    Kept {
        index: usize,
        write: WriteId,
        lane: Lane,
        front: Option<Front>,
        result: Result<KeepOutcome, StoreError>,
    },
    Checkpointed {
        index: usize,
        write: WriteId,
        position: Position,
        result: Result<(), StoreError>,
    },
    Loaded {
        load: LoadId,
        result: Result<(Option<Trouble>, Vec<Kept>), StoreError>,
    },
    Settled {
        write: WriteId,
        result: Result<SettleOutcome, StoreError>,
    },
    Detached {
        write: WriteId,
        lane: Lane,
        front: Front,
        result: Result<KeepOutcome, StoreError>,
    },
    /// Nothing that a machine waits for.
    Noted(Result<(), StoreError>),
}

impl Task {
    pub(super) fn publish(&mut self, machine: Machine, call: CallId, events: Vec<EventRef>) {
        let replay = self.replay.as_ref().map(|replay| replay.id.as_str().into());
        let batch = Batch { events, gapless: self.gapless, replay };
        let (sink, guard, limiter) = (self.sink.clone(), self.guard.clone(), self.limiter.clone());
        let (limit, clock, route) = (self.parts.call_timeout, self.parts.clock.clone(), self.name.to_string());
        let (calls, mut control, base) = (self.calls.clone(), self.control.clone(), self.base().clone());
        self.jobs.spawn(async move {
            let its_turn = async {
                if let Some(limiter) = limiter {
                    limiter.acquire(batch.events.len()).await;
                }
                calls.acquire_owned().await
            };
            let stopped = control.wait_for(|control| control.drain || control.paused.contains(&base));
            // What still waits for its turn does not go out any more once the route is drained or paused.
            let turn = tokio::select! {
                biased;
                _ = stopped => None,
                turn = its_turn => Some(turn),
            };
            if turn.is_none() || !guard.holds() {
                return Done::NotCalled { machine, call, events: batch.events.len() };
            }
            let started = clock.moment();
            let published = AssertUnwindSafe(timeout(limit, async { sink.publish(&batch).await })).catch_unwind().await;
            let result = match published {
                Ok(Ok(result)) => result.and_then(|outcomes| one_for_each(outcomes, batch.events.len())),
                Ok(Err(_)) => Err(SinkError::new(Fault::Unknown, "the sink gave no answer in time").uncertain()),
                Err(_) => Err(SinkError::new(Fault::Unknown, "the sink panicked; please report it").uncertain()),
            };
            let seconds = clock.moment().since(started).as_secs_f64();
            metrics::histogram!(metric::CALL_SECONDS, "route" => route).record(seconds);
            Done::Called { machine, call, events: batch.events, result }
        });
    }

    pub(super) fn keep(&mut self, index: usize, write: WriteId, keep: Keep) {
        let (bookkeeping, guard) = (self.parts.bookkeeping.clone(), self.guard.clone());
        let (route, partition) = (self.name.clone(), self.partitions[index].partition.clone());
        self.jobs.spawn(async move {
            let result = bookkeeping.keep(guard.lease(), &route, &partition, &keep).await;
            Done::Kept { index, write, lane: keep.lane, front: keep.front, result }
        });
    }

    pub(super) fn checkpoint(
        &mut self,
        index: usize,
        write: WriteId,
        checkpoint: Checkpoint,
        witness: Option<Witness>,
    ) {
        let (bookkeeping, guard, route) = (self.parts.bookkeeping.clone(), self.guard.clone(), self.name.clone());
        let (source, tombstones) = (self.parts.source.clone(), self.tombstones);
        // What a replay reads its route has read, and noted: what it would note nobody would set back.
        let witness = witness.filter(|_| self.replay.is_none());
        self.jobs.spawn(async move {
            let result = async {
                bookkeeping.checkpoint(guard.lease(), &route, &checkpoint, witness.as_ref()).await?;
                if tombstones {
                    let passed: Vec<_> = bookkeeping
                        .tombstones(&route)
                        .await?
                        .into_iter()
                        .filter(|(_, partition, position)| {
                            *partition == checkpoint.partition && source.order(position, &checkpoint.position).is_le()
                        })
                        .collect();
                    if !passed.is_empty() {
                        bookkeeping.forget_tombstones(guard.lease(), &route, &passed).await?;
                    }
                }
                Ok(())
            };
            let result = result.await;
            Done::Checkpointed { index, write, position: checkpoint.position, result }
        });
    }

    pub(super) fn load(&mut self, load: LoadId, lane: Lane, limit: usize) {
        let (bookkeeping, route) = (self.parts.bookkeeping.clone(), self.name.clone());
        self.jobs.spawn(async move {
            let result = async {
                let trouble = bookkeeping.trouble(&route, &lane).await?;
                Ok((trouble, bookkeeping.kept(&route, &lane, limit).await?))
            };
            Done::Loaded { load, result: result.await }
        });
    }

    pub(super) fn settle(&mut self, write: WriteId, settlement: Settlement) {
        let (bookkeeping, guard, route) = (self.parts.bookkeeping.clone(), self.guard.clone(), self.name.clone());
        self.jobs.spawn(async move {
            let result = bookkeeping.settle(guard.lease(), &route, &settlement).await;
            Done::Settled { write, result }
        });
    }

    pub(super) fn detach(&mut self, write: WriteId, kept: Kept, front: Front) {
        let (bookkeeping, guard, route) = (self.parts.bookkeeping.clone(), self.guard.clone(), self.name.clone());
        let lane = Lane::Event(match &kept.content {
            KeptContent::Event(event) => event.id.clone(),
            KeptContent::Undecodable(row) => row.id.clone(),
        });
        self.jobs.spawn(async move {
            let events = vec![(kept.content, kept.position)];
            let keep = Keep { lane: lane.clone(), front: Some(front.clone()), events };
            let result = bookkeeping.keep(guard.lease(), &route, &kept.partition, &keep).await;
            Done::Detached { write, lane, front, result }
        });
    }

    pub(super) fn store_health(&mut self, health: RouteHealth) {
        let (bookkeeping, guard, route) = (self.parts.bookkeeping.clone(), self.guard.clone(), self.name.clone());
        self.jobs.spawn(async move { Done::Noted(bookkeeping.note_health(guard.lease(), &route, &health).await) });
    }

    /// Brings a job's result back to the machine that wanted it.
    pub(super) fn complete(&mut self, done: Result<Done, JoinError>) -> Result<(), StoreError> {
        let done = done.map_err(|error| {
            StoreError::new(ErrorKind::Invalid, "a task of the relay failed; please report it").because(error)
        })?;
        match done {
            Done::Called { machine, call, events, result } => self.called(machine, call, &events, result),
            Done::NotCalled { machine, call, events } => self.not_called(machine, call, events),
            Done::Kept { index, write, lane, front, result } => self.kept(index, write, lane, front, result),
            Done::Checkpointed { index, write, position, result } => {
                let input = match transient(result)? {
                    Ok(()) => {
                        self.partitions[index].stored = position;
                        metrics::counter!(metric::CHECKPOINTS, "route" => self.name.to_string()).increment(1);
                        pipeline::Input::Stored { write }
                    }
                    Err(_) => pipeline::Input::StoreFailed { write },
                };
                self.pipeline_input(index, input)
            }
            Done::Loaded { load, result } => {
                let input = match transient(result)? {
                    Ok((trouble, kept)) => {
                        keeper::Input::Loaded { load, trouble: trouble.map(|trouble| self.draft(&trouble)), kept }
                    }
                    Err(_) => keeper::Input::LoadFailed { load },
                };
                self.keeper_input(input)
            }
            Done::Settled { write, result } => {
                let input = match transient(result)? {
                    Ok(outcome) => keeper::Input::Settled { write, outcome },
                    Err(_) => keeper::Input::StoreFailed { write },
                };
                self.keeper_input(input)
            }
            Done::Detached { write, lane, front, result } => match transient(result)? {
                Ok(outcome) => {
                    self.opened(lane, Some(front), outcome)?;
                    self.keeper_input(keeper::Input::Detached { write })
                }
                Err(_) => self.keeper_input(keeper::Input::StoreFailed { write }),
            },
            Done::Noted(result) => transient(result).map(drop),
        }
    }

    fn called(
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
                        let reason = full_reason(&error);
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
                    let reason = full_reason(&error);
                    let SinkError { fault, retry_after, .. } = error;
                    keeper::Input::CallFailed { call, fault, retry_after, reason }
                }
            }),
        }
    }

    /// The events come again later. Neither they nor the sink are to blame.
    fn not_called(&mut self, machine: Machine, call: CallId, events: usize) -> Result<(), StoreError> {
        let outcomes = vec![Outcome::Throttled { after: None }; events];
        match machine {
            Machine::Pipeline(index) => self.pipeline_input(index, pipeline::Input::Answered { call, outcomes }),
            Machine::Keeper => self.keeper_input(keeper::Input::Answered { call, outcomes }),
        }
    }

    fn kept(
        &mut self,
        index: usize,
        write: WriteId,
        lane: Lane,
        front: Option<Front>,
        result: Result<KeepOutcome, StoreError>,
    ) -> Result<(), StoreError> {
        match transient(result)? {
            Ok(KeepOutcome::KeyFree) => self.pipeline_input(index, pipeline::Input::KeyFree { write }),
            Ok(outcome) => {
                self.pipeline_input(index, pipeline::Input::Stored { write })?;
                self.opened(lane, front, outcome)
            }
            Err(_) => self.pipeline_input(index, pipeline::Input::StoreFailed { write }),
        }
    }

    /// A lane got into trouble: the keeper owns it from now on.
    fn opened(&mut self, lane: Lane, front: Option<Front>, outcome: KeepOutcome) -> Result<(), StoreError> {
        let (Some(front), KeepOutcome::Stored { generation }) = (front, outcome) else { return Ok(()) };
        let draft = self.draft(&Trouble { lane, generation, front, kept: 0 });
        self.keeper_input(keeper::Input::Trouble(draft))
    }

    fn count(&self, events: &[EventRef], result: &Result<Vec<Outcome>, SinkError>) {
        let route = || self.name.to_string();
        metrics::counter!(metric::CALLS, "route" => route()).increment(1);
        let not_accepted = |outcome: &'static str, count: u64| {
            if count > 0 {
                self.counts.not_accepted.fetch_add(count, Ordering::Relaxed);
                metrics::counter!(metric::NOT_ACCEPTED, "route" => route(), "outcome" => outcome).increment(count);
            }
        };
        let Ok(outcomes) = result else { return not_accepted("failed", 1) };
        let how_many = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count() as u64;
        let accepted = how_many(|outcome| matches!(outcome, Outcome::Accepted));
        self.counts.published.fetch_add(accepted, Ordering::Relaxed);
        metrics::counter!(metric::PUBLISHED, "route" => route()).increment(accepted);
        not_accepted("refused", how_many(|outcome| matches!(outcome, Outcome::Refused { .. })));
        not_accepted("throttled", how_many(|outcome| matches!(outcome, Outcome::Throttled { .. })));
        // The first event of a call waited longest: one sample a call says what there is to know.
        if let (Some(first), Some(Outcome::Accepted)) = (events.first(), outcomes.first()) {
            let lag = self.parts.clock.wall().duration_since(first.recorded()).as_secs_f64();
            metrics::histogram!(metric::LAG_SECONDS, "route" => route()).record(lag.max(0.0));
        }
    }
}

/// A failure that may pass is told to the machine, which repeats the write; any other stops the relay.
fn transient<T>(result: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
    match result {
        Err(error) if !error.kind().retry() => Err(error.context("writing the bookkeeping")),
        Err(error) => {
            tracing::warn!(%error, "the bookkeeping could not be written; trying again");
            Ok(Err(error))
        }
        Ok(value) => Ok(Ok(value)),
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

/// What the sink said, with its causes.
fn full_reason(error: &SinkError) -> String {
    let mut reason = error.message.clone();
    let mut cause = error.cause.as_deref().map(|cause| cause as &dyn std::error::Error);
    while let Some(next) = cause {
        reason = format!("{reason}: {next}");
        cause = next.source();
    }
    reason
}

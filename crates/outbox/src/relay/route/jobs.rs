//! The I/O that machines asked for, each a task of its own, and what its result means for them. Calls to the sink are in
//! [`calls`](super::calls), what is fetched in [`order`](super::order).

use std::sync::Arc;

use tokio::task::JoinError;

use super::{ErrorKind, StoreError, Task, beginning::Begun, discarded, recovery::Recovering};
use crate::{
    bookkeeping::{
        Checkpoint, Front, Keep, KeepOutcome, Kept, Lane, RouteHealth, SettleOutcome, Settlement, Tombstone, Trouble,
    },
    entry::{EventRef, Record},
    keeper::{self, LoadId},
    pipeline::{self, CallId, FetchId, WriteId},
    relay::listing::Listing,
    sink::{Outcome, SinkError},
    source::PartitionId,
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
    /// The call did not go out: while it waited for its turn the route was drained or paused, or what is kept was changed.
    NotCalled {
        machine: Machine,
        call: CallId,
        events: usize,
    },
    Fetched {
        index: usize,
        fetch: FetchId,
        result: Result<Vec<Option<Arc<Record>>>, StoreError>,
    },
    Kept {
        index: usize,
        write: WriteId,
        lane: Lane,
        front: Option<Front>,
        /// The tombstones that there are, if the lane is free.
        buried: Vec<Tombstone>,
        result: Result<KeepOutcome, StoreError>,
    },
    Checkpointed {
        index: usize,
        write: WriteId,
        checkpoint: Checkpoint,
        /// The tombstones that it is past, and that are still needed.
        result: Result<Vec<Tombstone>, StoreError>,
    },
    /// A partition may be read.
    Begun {
        partition: PartitionId,
        result: Result<Begun, StoreError>,
    },
    /// Checkpoints of partitions that are gone were forgotten.
    Forgotten {
        gone: Vec<PartitionId>,
        result: Result<(), StoreError>,
    },
    RecoveryBegun {
        result: Result<Option<(Recovering, Vec<PartitionId>)>, StoreError>,
    },
    /// Every partition's checkpoint stands where it goes on after a recovery.
    Recovered {
        index: usize,
        write: WriteId,
        result: Result<(Listing, Vec<Checkpoint>), StoreError>,
    },
    Loaded {
        load: LoadId,
        result: Result<(Option<Trouble>, Vec<Kept>), StoreError>,
    },
    Settled {
        write: WriteId,
        /// Where a dead letter moved to, if one did.
        apart: Option<Lane>,
        /// The tombstones that there are, if something was discarded.
        buried: Vec<Tombstone>,
        result: Result<SettleOutcome, StoreError>,
    },
    HealthNoted {
        health: RouteHealth,
        result: Result<(), StoreError>,
    },
}

impl Task {
    pub(super) fn keep(&mut self, index: usize, write: WriteId, keep: Keep) {
        let (bookkeeping, guard) = (self.parts.bookkeeping.clone(), self.guard.clone());
        let Some(progress) = self.partitions.get(index) else { return };
        let (route, partition) = (self.name.clone(), progress.partition.clone());
        self.jobs.spawn(async move {
            let mut result = bookkeeping.keep(guard.lease(), &route, &partition, &keep).await;
            let mut buried = Vec::new();
            // The lane may be free because what is in it was discarded just now.
            if let Ok(KeepOutcome::KeyFree) = result {
                match discarded::tombstones(&*bookkeeping, &guard, &route).await {
                    Ok(tombstones) => buried = tombstones,
                    Err(error) => result = Err(error),
                }
            }
            Done::Kept { index, write, lane: keep.lane, front: keep.front, buried, result }
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
        let (source, tombstones, ripe) = (self.parts.source.clone(), self.tombstones, self.passed.ripe(self.now()));
        // What a replay reads its route has read, and noted: what it would note nobody would set back.
        let witness = witness.filter(|_| self.replay.is_none());
        self.jobs.spawn(async move {
            let result = async {
                bookkeeping.checkpoint(guard.lease(), &route, &checkpoint, witness.as_ref()).await?;
                if !tombstones {
                    return Ok(Vec::new());
                }
                let is_passed = |(_, partition, position): &Tombstone| {
                    *partition == checkpoint.partition && source.order(position, &checkpoint.position).is_le()
                };
                let passed = bookkeeping.tombstones(&route).await?.into_iter().filter(is_passed);
                let (gone, left): (Vec<_>, Vec<_>) = passed.partition(ripe);
                if !gone.is_empty() {
                    bookkeeping.forget_tombstones(guard.lease(), &route, &gone).await?;
                }
                Ok(left)
            };
            let result = result.await;
            Done::Checkpointed { index, write, checkpoint, result }
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
            let mut result = bookkeeping.settle(guard.lease(), &route, &settlement).await;
            let mut buried = Vec::new();
            // What was discarded may be read again by whoever goes on from before it. An answer that is lost may be that
            // of a settlement that took effect: the lane is released then, and its tombstone has to be known.
            if settlement.discarded {
                match discarded::tombstones(&*bookkeeping, &guard, &route).await {
                    Ok(tombstones) => buried = tombstones,
                    Err(error) => result = Err(error),
                }
            }
            Done::Settled { write, apart: settlement.apart.map(|apart| apart.lane), buried, result }
        });
    }

    /// Takes what else is done along, up to a limit, so that many short jobs do not go around the loop one by one.
    pub(super) fn complete_all(&mut self, first: Result<Done, JoinError>) -> Result<(), StoreError> {
        const AT_ONCE: usize = 64;
        self.complete(first)?;
        for _ in 1..AT_ONCE {
            let Some(done) = self.jobs.try_join_next() else { break };
            self.complete(done)?;
        }
        Ok(())
    }

    /// Brings a job's result back to the machine that wanted it.
    fn complete(&mut self, done: Result<Done, JoinError>) -> Result<(), StoreError> {
        let done = done.map_err(|error| {
            StoreError::new(ErrorKind::Invalid, "a task of the relay failed; please report it").because(error)
        })?;
        match done {
            Done::Called { machine, call, events, result } => self.called(machine, call, &events, result),
            Done::NotCalled { machine, call, events } => self.not_called(machine, call, events),
            Done::Fetched { index, fetch, result } => self.fetched(index, fetch, result),
            Done::Kept { index, write, lane, front, buried, result } => {
                self.tell_of_discarded(buried)?;
                self.kept(index, write, lane, front, result)
            }
            Done::Checkpointed { index, write, checkpoint, result } => {
                let input = match transient(result)? {
                    Ok(left) => {
                        self.passed.left(&checkpoint, left, self.parts.clock.moment());
                        self.checkpointed(index, checkpoint);
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
            Done::Settled { write, apart, buried, result } => {
                self.tell_of_discarded(buried)?;
                let input = match transient(result)? {
                    Ok(outcome) => {
                        self.tell_of_apart(apart, outcome)?;
                        keeper::Input::Settled { write, outcome }
                    }
                    Err(_) => keeper::Input::StoreFailed { write },
                };
                self.keeper_input(input)
            }
            Done::Begun { partition, result } => self.begun(partition, result),
            Done::Forgotten { gone, result } => {
                self.forgotten(&gone, transient(result)?.is_ok());
                Ok(())
            }
            Done::RecoveryBegun { result } => self.recovery_begun(result),
            Done::Recovered { index, write, result } => self.recovered(index, write, result),
            Done::HealthNoted { health, result } => {
                self.health_noted(health, &transient(result)?);
                Ok(())
            }
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
            // Erased while the keeper publishes it: that call comes to its end first, for a key has one publisher.
            Ok(KeepOutcome::KeyFree) if self.keeper.is_publishing(&lane) => {
                self.pipeline_input(index, pipeline::Input::StoreFailed { write })
            }
            Ok(KeepOutcome::KeyFree) => self.pipeline_input(index, pipeline::Input::KeyFree { write }),
            Ok(outcome) => {
                self.pipeline_input(index, pipeline::Input::Stored { write })?;
                self.tell_of_trouble(index, &lane)?;
                self.opened(lane, front, outcome)
            }
            Err(_) => self.pipeline_input(index, pipeline::Input::StoreFailed { write }),
        }
    }

    fn checkpointed(&mut self, index: usize, checkpoint: Checkpoint) {
        self.metrics.checkpoints.increment(1);
        let now = self.now();
        if let Some(progress) = self.partitions.get_mut(index) {
            progress.stored = checkpoint.position.clone();
            progress.moved = now;
            progress.read_out = checkpoint.finished;
            self.lineage.note(checkpoint);
        }
    }

    /// A lane got into trouble in one partition. Its events come from no other one at the same time, unless the source
    /// has odd habits: then they wait too.
    fn tell_of_trouble(&mut self, index: usize, lane: &Lane) -> Result<(), StoreError> {
        for other in self.partitions.numbers() {
            if other != index {
                self.pipeline_input(other, pipeline::Input::Troubled { lane: lane.clone() })?;
            }
        }
        Ok(())
    }

    /// A dead letter moved to a lane of its own: where it is read again, it waits there.
    fn tell_of_apart(&mut self, apart: Option<Lane>, outcome: SettleOutcome) -> Result<(), StoreError> {
        let Some(lane) = apart.filter(|_| outcome != SettleOutcome::Changed) else { return Ok(()) };
        for index in self.partitions.numbers() {
            self.pipeline_input(index, pipeline::Input::Troubled { lane: lane.clone() })?;
        }
        Ok(())
    }

    /// A lane got into trouble: the keeper owns it from now on.
    fn opened(&mut self, lane: Lane, front: Option<Front>, outcome: KeepOutcome) -> Result<(), StoreError> {
        let (Some(front), KeepOutcome::Stored { generation }) = (front, outcome) else { return Ok(()) };
        let draft = self.draft(&Trouble { lane, generation, front, kept: 0 });
        self.keeper_input(keeper::Input::Trouble(draft))
    }
}

/// A failure that may pass is told to whoever wanted the write and repeats it; any other stops the relay.
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

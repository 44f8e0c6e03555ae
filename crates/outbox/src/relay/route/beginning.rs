//! Beginning with a partition, and being done with one.

use std::time::Duration;

use super::{Pipeline, Position, StoreError, Task, jobs::Done, lineage::BeginAt, partitions::Progress};
use crate::{
    bookkeeping::{Checkpoint, Replay, Tombstone},
    error::ErrorKind,
    pipeline::{self, Resume},
    relay::{
        listing::is_lone,
        status::{PartitionState, PartitionStatus},
    },
    source::PartitionId,
};

/// The pause before another try at what could not be begun.
const AGAIN: Duration = Duration::from_secs(1);
/// For how long a partition that is read out has to be gone from the listing before its checkpoint is forgotten.
const GONE: Duration = Duration::from_secs(600);

/// Where a pipeline goes on.
pub(super) struct Begun {
    position: Position,
    tombstones: Vec<Tombstone>,
}

impl Task {
    /// Begins with every partition whose turn has come.
    pub(super) fn begin(&mut self) {
        let replayed = self.replay.as_ref().is_some_and(|replay| replay.finished);
        if self.draining || self.turn.is_some() || replayed {
            return;
        }
        for (partition, at) in self.lineage.begin(self.parts.clock.moment()) {
            self.begin_with(partition, at);
        }
        self.show_partitions();
    }

    fn begin_with(&mut self, partition: PartitionId, at: BeginAt) {
        let (source, bookkeeping) = (self.parts.source.clone(), self.parts.bookkeeping.clone());
        let (guard, route, registration) = (self.guard.clone(), self.name.clone(), self.registration.clone());
        // Where partitions come and go, it has to be known which ones the route has begun with, even if nothing ever
        // comes of them: what follows one that it has not is not known to follow at all.
        self.beginning += 1;
        let has_lineage = !is_lone(self.lineage.listing());
        let end = self.replay.as_ref().and_then(|replay| end_of(replay, &partition));
        self.jobs.spawn(async move {
            let result = async {
                let tombstones = bookkeeping.tombstones(&route).await?;
                let (position, is_new) = match at {
                    BeginAt::Checkpoint(position) => (position, false),
                    BeginAt::First => (source.beginning(&partition).await?, true),
                    BeginAt::Start => {
                        let start = source.start(&partition, &registration).await?;
                        (end.map_or_else(|| start.clone(), |end| source.leading_to(&start, &end)), true)
                    }
                };
                if is_new && has_lineage {
                    let (partition, position) = (partition.clone(), position.clone());
                    let begun = Checkpoint { partition, position, finished: false };
                    bookkeeping.checkpoint(guard.lease(), &route, &begun, None).await?;
                }
                Ok(Begun { position, tombstones })
            };
            let result = result.await;
            Done::Begun { partition, result }
        });
    }

    pub(super) fn begun(
        &mut self,
        partition: PartitionId,
        result: Result<Begun, StoreError>,
    ) -> Result<(), StoreError> {
        self.beginning -= 1;
        match result {
            // A turn, or the end, came between: what was begun is begun again later.
            Ok(_) if self.draining || self.turn.is_some() => self.lineage.leave(&partition),
            Ok(begun) => return self.read_partition(partition, begun),
            Err(error) if error.kind() == ErrorKind::Trimmed => {
                self.lineage.leave(&partition);
                return self.trimmed(&partition, &error.to_string());
            }
            Err(error) if error.kind().retry() => {
                tracing::warn!(route = %self.name, %partition, %error, "a partition cannot be begun now; trying again");
                self.lineage.leave(&partition);
                self.begin_again = Some(self.now() + AGAIN);
            }
            Err(error) => return Err(error.context("beginning with a partition")),
        }
        self.turn_on();
        Ok(())
    }

    fn read_partition(&mut self, partition: PartitionId, begun: Begun) -> Result<(), StoreError> {
        let Begun { position, tombstones } = begun;
        self.know_of_discarded(&tombstones)?;
        let checkpoint = Checkpoint { partition: partition.clone(), position: position.clone(), finished: false };
        let end = self.replay.as_ref().and_then(|replay| end_of(replay, &partition));
        // A replay with nothing left to read is done: it would wait for an event that is none of its own.
        if end.as_ref().is_some_and(|end| self.parts.source.order(&position, end).is_ge()) {
            self.lineage.note(Checkpoint { finished: true, ..checkpoint });
            self.lineage.leave(&partition);
            self.begin();
            return Ok(());
        }
        self.lineage.note(checkpoint);
        self.has_begun = true;
        // The keeper knows of every trouble as it is now, whichever partition it came from. Its parents are done with,
        // so that no other pipeline can open one that this one would have to know.
        let troubled = self.keeper.troubled().cloned().collect();
        // Some may have been discarded since they were read.
        let tombstones = tombstones.into_iter().chain(self.buried.iter().cloned());
        let tombstones = tombstones.filter(|(_, at, _)| *at == partition);
        let tombstones = tombstones.map(|(id, _, position)| (id, position)).collect();
        let settings = pipeline::Settings { seed: self.parts.entropy.seed(), ..self.settings.clone() };
        let number = self.partitions.add(Progress {
            pipeline: Pipeline::new(settings, Resume { position: position.clone(), troubled, tombstones }),
            reader: self.readers.of(&partition),
            partition,
            stored: position.clone(),
            after: position,
            moved: self.now(),
            end,
            wake: None,
            finished: false,
            read_out: false,
        });
        self.show_partitions();
        self.pipeline_input(number, if self.paused { pipeline::Input::Pause } else { pipeline::Input::Tick })
    }

    /// Nothing more comes of a partition's pipeline: it was drained, or the partition is done.
    pub(super) fn partition_ended(&mut self, number: usize) {
        let Some(progress) = self.partitions.remove(number) else { return };
        self.lineage.leave(&progress.partition);
        self.health.pipelines.remove(&number);
        if progress.read_out {
            tracing::debug!(route = %self.name, partition = %progress.partition, "a partition was read to its end");
            self.listed.ended.notify_one();
        }
        self.note_health();
        self.turn_on();
        self.begin();
    }

    /// The source's partitions are others than before.
    pub(super) fn partitions_changed(&mut self) {
        let listing = self.listed.listing.borrow_and_update().clone();
        self.lineage.list(listing);
        self.begin();
    }

    /// Forgets what is stored of partitions that are gone, one try at a time.
    pub(super) fn forget_gone(&mut self) {
        if self.forgetting || self.replay.is_some() || self.lineage.recovery().is_some() {
            return;
        }
        let gone = self.lineage.forgettable(self.parts.clock.moment(), GONE);
        if gone.is_empty() {
            return;
        }
        self.forgetting = true;
        let (bookkeeping, guard, route) = (self.parts.bookkeeping.clone(), self.guard.clone(), self.name.clone());
        self.jobs.spawn(async move {
            let result = bookkeeping.forget_checkpoints(guard.lease(), &route, &gone).await;
            Done::Forgotten { gone, result }
        });
    }

    /// What failed is tried again with the next look.
    pub(super) fn forgotten(&mut self, gone: &[PartitionId], forgotten: bool) {
        self.forgetting = false;
        if forgotten {
            self.lineage.forget(gone);
        }
    }

    /// Shows where the route stands in each partition.
    pub(super) fn show_partitions(&self) {
        let reading = self.partitions.iter().map(|progress| PartitionStatus {
            name: progress.partition.to_string(),
            state: if progress.partition.is_recovery() { PartitionState::Recovering } else { PartitionState::Reading },
            position: Some(progress.stored.to_string()),
            stalled: self.stalled.contains(&progress.partition),
        });
        let waiting = self.lineage.waiting().map(|(partition, waiting)| PartitionStatus {
            name: partition.to_string(),
            state: PartitionState::Waiting { parent: waiting.parent.to_string() },
            position: None,
            stalled: self.stalled.contains(partition),
        });
        self.counts.set_partitions(reading.chain(waiting).collect());
    }
}

fn end_of(replay: &Replay, partition: &PartitionId) -> Option<Position> {
    replay.ends.iter().find(|(of, _)| of == partition).map(|(_, end)| end.clone())
}

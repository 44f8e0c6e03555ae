//! Going back to the table where the stream does not remember what comes next.
//!
//! The route stops reading every partition: the table holds events of all of them, and a key has one publisher. Once
//! nothing is under way, the checkpoint of the recovery's own partition is stored; as long as that is not finished, it
//! alone is read, after a restart too. At its end the other partitions' checkpoints are moved to where they go on, then
//! it is stored as finished: whoever dies in between does the end again.

use std::{sync::Arc, time::Duration};

use super::{PartitionId, Position, StoreError, Task, jobs::Done};
use crate::{
    bookkeeping::{Checkpoint, Lease, Operator},
    clock::Moment,
    error::ErrorKind,
    pipeline::{self, WriteId},
    relay::{
        listing::{self, Listing},
        metric,
    },
    route::RouteName,
    source::Source,
};

/// A route that is about to recover.
pub(super) struct Turn {
    /// Where it could not go on, and what the source said.
    reason: String,
    /// Whether the source was asked how.
    asked: bool,
    /// Not before then is it asked.
    from: Moment,
}

/// The pause behind a recovery at whose end the stream did not remember what comes next either; doubled with each one in
/// a row, for it publishes everything again.
const TOO_LATE: Duration = Duration::from_secs(1);
/// It is doubled up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A recovery that has begun.
pub(super) struct Recovering {
    checkpoint: Checkpoint,
    /// Entries that it reads, if the source can tell.
    entries: Option<u64>,
}

impl Task {
    /// The source does not remember what comes next in `partition`.
    pub(super) fn trimmed(&mut self, partition: &PartitionId, said: &str) -> Result<(), StoreError> {
        if self.turn.is_none() {
            let reason = format!("partition `{partition}`: {said}");
            tracing::warn!(
                route = %self.name, reason,
                "the stream does not remember what this route has to read next; it stops, to read the table again"
            );
            self.health.recovering = Some(reason.clone());
            let pause = match self.recoveries_too_late {
                0 => Duration::ZERO,
                times => TOO_LATE.saturating_mul(1 << (times - 1).min(16)).min(LONGEST_PAUSE),
            };
            self.turn = Some(Turn { reason, asked: false, from: self.now() + pause });
            self.note_health();
            for number in self.partitions.numbers() {
                self.pipeline_input(number, pipeline::Input::Drain)?;
            }
        }
        self.turn_on();
        Ok(())
    }

    /// Goes on with a turn once nothing is under way.
    pub(super) fn turn_on(&mut self) {
        let ready = !self.draining && self.partitions.is_empty() && self.lineage.is_idle();
        let now = self.now();
        let Some(turn) = self.turn.as_mut().filter(|turn| ready && !turn.asked) else { return };
        if now < turn.from {
            self.begin_again = Some(turn.from);
            return;
        }
        turn.asked = true;
        let (source, bookkeeping) = (self.parts.source.clone(), self.parts.bookkeeping.clone());
        let (guard, route, registration) = (self.guard.clone(), self.name.clone(), self.registration.clone());
        self.jobs.spawn(async move {
            let result = async {
                let checkpoints = bookkeeping.checkpoints(&route).await?;
                let Some(recovery) = source.recovery(&registration, &checkpoints).await? else { return Ok(None) };
                if !recovery.partition.is_recovery() {
                    let message = format!("the source calls a recovery `{}`; please report it", recovery.partition);
                    return Err(StoreError::new(ErrorKind::Invalid, message));
                }
                let entries = source.backlog(&recovery.partition, &recovery.position).await.ok();
                let entries = entries.map(|backlog| backlog.entries);
                let (partition, position) = (recovery.partition, recovery.position);
                let checkpoint = Checkpoint { partition, position, finished: false };
                bookkeeping.checkpoint(guard.lease(), &route, &checkpoint, None).await?;
                let earlier: Vec<PartitionId> = checkpoints
                    .into_iter()
                    .map(|known| known.partition)
                    .filter(|known| known.is_recovery() && *known != checkpoint.partition)
                    .collect();
                bookkeeping.forget_checkpoints(guard.lease(), &route, &earlier).await?;
                Ok(Some((Recovering { checkpoint, entries }, earlier)))
            };
            let result = result.await;
            Done::RecoveryBegun { result }
        });
    }

    pub(super) fn recovery_begun(
        &mut self,
        result: Result<Option<(Recovering, Vec<PartitionId>)>, StoreError>,
    ) -> Result<(), StoreError> {
        match result {
            Ok(Some((Recovering { checkpoint, entries }, earlier))) => {
                tracing::warn!(
                    route = %self.name, recovery = %checkpoint.partition, from = %checkpoint.position, entries,
                    "the route reads the table again, then goes on with the stream; what was published shortly before \
                     is published again"
                );
                metrics::counter!(metric::RECOVERIES, "route" => self.name.to_string()).increment(1);
                self.lineage.forget(&earlier);
                self.lineage.note(checkpoint);
                self.turn = None;
                self.begin();
                Ok(())
            }
            Ok(None) => self.cannot_recover(),
            Err(error) if error.kind().retry() => {
                tracing::warn!(route = %self.name, %error, "a recovery cannot be begun now; trying again");
                if let Some(turn) = &mut self.turn {
                    turn.asked = false;
                }
                self.begin_again = Some(self.now() + Duration::from_secs(1));
                Ok(())
            }
            Err(error) => Err(error.context("beginning to read the table again")),
        }
    }

    /// What is lost for good is not passed over in silence.
    fn cannot_recover(&mut self) -> Result<(), StoreError> {
        let reason = self.turn.as_ref().map_or("", |turn| &turn.reason);
        if let Some(replay) = &self.replay {
            tracing::error!(
                route = %self.name, replay = %replay.id, reason,
                "a replay cannot be done: the stream does not remember its range, and this source cannot read the table \
                 again. Cancel it"
            );
            self.given_up = true;
            return Ok(());
        }
        let message = format!(
            "route `{}` cannot go on: the stream does not remember what it has to read next, and this source cannot read \
             the table again ({reason}). What was committed in between was not published to it. Compare its consumers \
             with the business data; then run `outbox route retire {0}` and configure the route under another name, \
             which starts with what is still there",
            self.name
        );
        Err(StoreError::new(ErrorKind::HistoryChanged, message))
    }

    /// A recovery was read to its end: everything else goes on from where it reached.
    pub(super) fn finish_recovery(&mut self, index: usize, write: WriteId, end: Checkpoint) {
        let (source, bookkeeping) = (self.parts.source.clone(), self.parts.bookkeeping.clone());
        let (parts, guard, route) = (self.parts.clone(), self.guard.clone(), self.name.clone());
        let ends = self.replay.as_ref().map(|replay| replay.ends.clone());
        self.jobs.spawn(async move {
            let result = async {
                let listing = listing::look(&parts).await?;
                let mut listed: Vec<PartitionId> = listing.iter().map(|partition| partition.id.clone()).collect();
                listed.retain(|listed| ends.as_ref().is_none_or(|ends| ends.iter().any(|(asked, _)| asked == listed)));
                let step = Handover { source, bookkeeping, lease: guard.lease(), route: &route, recovery: &end };
                let checkpoints = step.carry_out(&listed, ends.as_deref().unwrap_or_default()).await?;
                Ok((listing, checkpoints))
            };
            let result = result.await;
            Done::Recovered { index, write, result }
        });
    }

    pub(super) fn recovered(
        &mut self,
        index: usize,
        write: WriteId,
        result: Result<(Listing, Vec<Checkpoint>), StoreError>,
    ) -> Result<(), StoreError> {
        let input = match result {
            Ok((listing, checkpoints)) => {
                tracing::info!(route = %self.name, "the table was read again; the route goes on with the stream");
                self.recoveries_too_late = 0;
                self.lineage.know(checkpoints);
                self.lineage.list(listing);
                self.health.recovering = None;
                self.note_health();
                if let Some(progress) = self.partitions.get_mut(index) {
                    progress.read_out = true;
                }
                pipeline::Input::Stored { write }
            }
            Err(error) if error.kind() == ErrorKind::Trimmed => {
                let recovery = self.partitions.get(index).map(|progress| progress.partition.clone());
                if let Some(recovery) = recovery {
                    self.recoveries_too_late += 1;
                    self.trimmed(&recovery, &error.to_string())?;
                }
                pipeline::Input::StoreFailed { write }
            }
            Err(error) if error.kind().retry() => {
                tracing::warn!(route = %self.name, %error, "a recovery cannot be finished now; trying again");
                pipeline::Input::StoreFailed { write }
            }
            Err(error) => return Err(error.context("finishing a recovery")),
        };
        self.pipeline_input(index, input)
    }
}

/// The end of a recovery.
struct Handover<'a> {
    source: Arc<dyn Source>,
    bookkeeping: Arc<dyn Operator>,
    lease: &'a Lease,
    route: &'a RouteName,
    recovery: &'a Checkpoint,
}

impl Handover<'_> {
    /// Moves the checkpoints of the listed partitions on, forgets those of partitions that are gone, and stores the
    /// recovery as finished, in this order. Of the partitions that a replay has to read up to these `ends`, those that
    /// are gone are done: the table held what they had. Gives all that is stored then.
    async fn carry_out(
        &self,
        listed: &[PartitionId],
        ends: &[(PartitionId, Position)],
    ) -> Result<Vec<Checkpoint>, StoreError> {
        let known = self.bookkeeping.checkpoints(self.route).await?;
        for partition in listed {
            let before = known.iter().find(|known| known.partition == *partition);
            if before.is_some_and(|before| before.finished) {
                continue;
            }
            let after = self.source.after_recovery(&self.recovery.partition, partition).await?;
            // Behind its own checkpoint everything is done as well.
            let position = match before {
                Some(before) if self.source.order(&before.position, &after).is_gt() => before.position.clone(),
                _ => after,
            };
            self.store(partition, position, false).await?;
        }
        for (partition, end) in ends.iter().filter(|(asked, _)| !listed.contains(asked)) {
            self.store(partition, end.clone(), true).await?;
        }
        let gone = known.iter().map(|known| &known.partition).filter(|known| {
            let asked = ends.iter().any(|(asked, _)| asked == *known);
            **known != self.recovery.partition && !listed.contains(known) && !asked
        });
        let gone: Vec<PartitionId> = gone.cloned().collect();
        self.bookkeeping.forget_checkpoints(self.lease, self.route, &gone).await?;
        self.bookkeeping.checkpoint(self.lease, self.route, self.recovery, None).await?;
        self.bookkeeping.checkpoints(self.route).await
    }

    async fn store(&self, partition: &PartitionId, position: Position, finished: bool) -> Result<(), StoreError> {
        let checkpoint = Checkpoint { partition: partition.clone(), position, finished };
        self.bookkeeping.checkpoint(self.lease, self.route, &checkpoint, None).await
    }
}

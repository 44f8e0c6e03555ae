//! A route's task: its pipelines and its keeper, and the loop that feeds them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    builder::Parts, lease::Guard, limiter::Limiter, listing::Listed, metric, owner::Control, reader::Delivery,
    readers::Readers, status::RouteCounts, watch,
};
use crate::{
    bookkeeping::{Replay, Tombstone},
    clock::Moment,
    entry::Position,
    error::{ErrorKind, StoreError},
    keeper::{self, Keeper},
    pipeline::{self, Pipeline},
    route::RouteName,
    sink::Sink,
    source::PartitionId,
    store::Registration,
};

mod beginning;
mod calls;
mod discarded;
mod health;
mod jobs;
mod lineage;
mod order;
mod partitions;
mod plan;
mod recovery;
mod setup;
mod stalls;
mod steps;

pub(super) use plan::Plan;

/// What a route's task works with.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own; none excludes another")]
struct Task {
    parts: Arc<Parts>,
    guard: Guard,
    name: RouteName,
    sink: Arc<dyn Sink>,
    calls: Arc<Semaphore>,
    control: watch::Receiver<Control>,
    gapless: bool,
    replay: Option<Replay>,
    limiter: Option<Arc<Limiter>>,
    counts: Arc<RouteCounts>,
    metrics: calls::Metrics,
    readers: Readers,
    reply: mpsc::UnboundedSender<Delivery>,
    /// What every pipeline works by, but for its seed.
    settings: pipeline::Settings,
    registration: Registration,
    listed: Listed,
    lineage: lineage::Lineage,
    partitions: partitions::Partitions,
    /// When to try again to begin with a partition or a recovery.
    begin_again: Option<Moment>,
    /// Recoveries in a row at whose end the stream did not remember what comes next.
    recoveries_too_late: u32,
    /// Set while the route is about to recover.
    turn: Option<recovery::Turn>,
    /// Partitions that are about to be begun.
    beginning: usize,
    /// Whether a partition was begun that nothing was reported of yet.
    has_begun: bool,
    /// Whether checkpoints of partitions that are gone are being forgotten.
    forgetting: bool,
    /// Partitions that were told of as stalled.
    stalled: BTreeSet<PartitionId>,
    /// Tombstones that a checkpoint is past.
    passed: discarded::Passed,
    /// The discarded events that were known when the last one was.
    buried: Vec<Tombstone>,
    /// A replay that cannot be done: it reads no more.
    given_up: bool,
    keeper: Keeper,
    keeper_wake: Option<Moment>,
    keeper_finished: bool,
    jobs: JoinSet<jobs::Done>,
    pipeline_effects: Vec<pipeline::Effect>,
    keeper_effects: Vec<keeper::Effect>,
    health: health::HealthOf,
    /// Whether discarded events may still be in front of a checkpoint.
    tombstones: bool,
    paused: bool,
    draining: bool,
    /// Which of an operator's changes were taken over last.
    operator: u64,
    /// When to look again at those that could not be read.
    look_again: Option<Moment>,
}

/// Runs a route until it is drained or, for a replay, done.
pub(super) async fn run(
    parts: Arc<Parts>,
    guard: Guard,
    plan: Plan,
    (readers, listed): (Readers, Listed),
    mut control: watch::Receiver<Control>,
) -> Result<(), StoreError> {
    let (reply, mut deliveries) = mpsc::unbounded_channel();
    let mut task = Task::set_up(parts, guard, plan, (readers, listed), reply, control.clone()).await?;
    control.mark_changed();
    task.note_replayed().await?;
    task.begin();
    // Before the keeper publishes anything, what the route reads again of it has to be known to wait behind it.
    while task.beginning > 0 {
        let Some(done) = task.jobs.join_next().await else { break };
        task.complete_all(done)?;
    }
    task.start();
    task.keeper_input(keeper::Input::Resume)?;
    let mut ticks = tokio::time::interval(steps::REPORT_EVERY);
    loop {
        task.note_replayed().await?;
        if task.is_finished() {
            task.clear_gauges();
            return Ok(());
        }
        let wake = task.wake_at();
        tokio::select! {
            biased;
            changed = control.changed() => match changed {
                Ok(()) => {
                    let control = control.borrow_and_update().clone();
                    task.control(&control).await?;
                }
                Err(_) => return Ok(()),
            },
            Some(done) = task.jobs.join_next() => {
                task.complete_all(done)?;
                if std::mem::take(&mut task.has_begun) {
                    task.report().await;
                }
            }
            Some(delivery) = deliveries.recv() => task.delivered(delivery)?,
            Ok(()) = task.listed.listing.changed() => task.partitions_changed(),
            () = sleep_until(wake) => {
                task.tick()?;
                task.look_again().await?;
            }
            _ = ticks.tick() => {
                task.store_health();
                task.forget_gone();
                task.look_for_stalls();
                task.report().await;
            }
        }
    }
}

impl Task {
    /// A replay that reads no more lives on for what it keeps.
    fn is_finished(&self) -> bool {
        let reads_no_more = self.given_up || self.replay.as_ref().is_some_and(|replay| replay.finished);
        let over = reads_no_more && self.keeper.lanes() == 0 && self.jobs.is_empty();
        self.partitions.is_empty() && (self.keeper_finished || over)
    }

    /// Nobody sets the gauges of a replay that is over any more: alarms would stay for as long as the relay runs. Nothing is
    /// looked at for it, for that could fail.
    fn clear_gauges(&self) {
        if self.replay.is_some() && !self.draining {
            for name in metric::GAUGES_OF_A_ROUTE {
                metrics::gauge!(name, "route" => self.name.to_string()).set(0.0);
            }
        }
    }

    /// The configured route: of a replay, the one that it replays.
    fn base(&self) -> &RouteName {
        self.replay.as_ref().map_or(&self.name, |replay| &replay.route)
    }

    fn now(&self) -> Moment {
        self.parts.clock.moment()
    }

    /// The next time that something is due; far away if nothing is.
    fn wake_at(&self) -> Instant {
        const FAR: Duration = Duration::from_secs(3600);
        let machines = self.partitions.iter().filter_map(|progress| progress.wake).chain(self.keeper_wake);
        let wakes = machines.chain(self.look_again).chain(self.begin_again);
        let wait = wakes.min().map_or(FAR, |wake| wake.since(self.now()));
        Instant::now() + wait
    }

    /// Stops if the lease is lost, so that nothing goes out for an owner that is none any more.
    fn still_owner(&self) -> Result<(), StoreError> {
        if self.guard.holds() {
            return Ok(());
        }
        self.guard.lose();
        Err(StoreError::new(ErrorKind::Fenced, "another relay has taken over"))
    }

    /// Notes a replay that has read all of its range as finished, so that neither retention nor whoever asked for it
    /// waits for what it keeps; if that fails now, at the next step. It reads no more from then on, for what it read may
    /// be purged.
    async fn note_replayed(&mut self) -> Result<(), StoreError> {
        let done = !self.draining && self.turn.is_none() && self.partitions.is_empty() && self.lineage.is_replayed();
        let Some(replay) = &mut self.replay else { return Ok(()) };
        if done && !replay.finished {
            match self.parts.bookkeeping.note_replayed(self.guard.lease(), &replay.id).await {
                Ok(()) => replay.finished = true,
                Err(error) if error.kind().retry() => {
                    tracing::warn!(replay = %replay.id, %error, "the end of a replay cannot be noted now; trying again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

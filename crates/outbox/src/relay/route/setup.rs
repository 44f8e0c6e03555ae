//! Bringing a route's machines up from the bookkeeping.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{Control, Limiter, Pipeline, Plan, Position, Progress, Readers, StoreError, Task, calls, health};
use crate::{
    bookkeeping::{FrontState, Trouble},
    event::Event,
    keeper::{self, FrontPlan, Keeper, TroubleDraft},
    pipeline::{self, Resume},
    relay::{builder::Parts, lease::Guard, reader::Delivery},
    sink::Sink,
};

/// Lanes in trouble are read in pages of so many.
const PAGE: usize = 1000;
/// The pause before another look at what could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Task {
    pub(super) async fn set_up(
        parts: Arc<Parts>,
        guard: Guard,
        plan: Plan,
        readers: Readers,
        reply: mpsc::UnboundedSender<Delivery>,
        control: watch::Receiver<Control>,
    ) -> Result<Self, StoreError> {
        let mut task = Self::idle(parts, guard, &plan, readers, reply, control);
        let troubles = task.troubles().await?;
        task.add_partitions(&plan, &troubles).await?;
        for trouble in &troubles {
            let draft = task.draft(trouble);
            task.keeper_input(keeper::Input::Trouble(draft))?;
        }
        task.begin_healthy().await?;
        Ok(task)
    }

    /// A task that knows neither a partition nor a trouble yet.
    fn idle(
        parts: Arc<Parts>,
        guard: Guard,
        plan: &Plan,
        readers: Readers,
        reply: mpsc::UnboundedSender<Delivery>,
        control: watch::Receiver<Control>,
    ) -> Self {
        let limiter = plan.settings.rate_limit.map(|rate| Arc::new(Limiter::new(rate, parts.clock.clone())));
        Self {
            counts: parts.status.route(&plan.name),
            metrics: calls::Metrics::of(&plan.name),
            name: plan.name.clone(),
            sink: plan.sink.clone(),
            calls: plan.calls.clone(),
            control,
            gapless: plan.gapless,
            replay: plan.replay.clone(),
            limiter,
            readers,
            reply,
            partitions: Vec::new(),
            keeper: Keeper::new(keeper_settings(plan, parts.entropy.seed())),
            keeper_wake: None,
            keeper_finished: false,
            jobs: JoinSet::new(),
            pipeline_effects: Vec::new(),
            keeper_effects: Vec::new(),
            health: health::HealthOf::default(),
            tombstones: false,
            paused: false,
            draining: false,
            operator: 0,
            look_again: None,
            parts,
            guard,
        }
    }

    async fn add_partitions(&mut self, plan: &Plan, troubles: &[Trouble]) -> Result<(), StoreError> {
        let settings = pipeline_settings(plan, &self.parts);
        let checkpoints = self.parts.bookkeeping.checkpoints(&self.name).await?;
        let tombstones = self.parts.bookkeeping.tombstones(&self.name).await?;
        self.tombstones = !tombstones.is_empty();
        for partition in self.readers.keys().cloned().collect::<Vec<_>>() {
            let checkpoint = checkpoints.iter().find(|checkpoint| checkpoint.partition == partition);
            let position = match checkpoint {
                Some(checkpoint) => checkpoint.position.clone(),
                None => self.parts.source.start(&partition, &plan.registration).await?,
            };
            let end = plan.replay.as_ref().and_then(|replay| end_of(replay, &partition));
            // A replay with nothing left to read is done: it would wait for an event that is none of its own.
            let read_out = end.as_ref().is_some_and(|end| self.parts.source.order(&position, end).is_ge());
            let resume = Resume {
                position: position.clone(),
                troubled: troubles.iter().map(|trouble| trouble.lane.clone()).collect(),
                tombstones: tombstones
                    .iter()
                    .filter(|(_, at, _)| *at == partition)
                    .map(|(id, _, position)| (id.clone(), position.clone()))
                    .collect(),
            };
            let done = plan.replay.as_ref().is_some_and(|replay| replay.finished);
            self.partitions.push(Progress {
                partition,
                pipeline: Pipeline::new(settings.clone(), resume),
                stored: position.clone(),
                after: position,
                end,
                wake: None,
                finished: done || read_out || checkpoint.is_some_and(|checkpoint| checkpoint.finished),
            });
        }
        Ok(())
    }

    /// All lanes in trouble, as the bookkeeping has them.
    pub(super) async fn troubles(&self) -> Result<Vec<Trouble>, StoreError> {
        let mut troubles: Vec<Trouble> = Vec::new();
        loop {
            let after = troubles.last().map(|trouble| trouble.lane.clone());
            let page = self.parts.bookkeeping.troubles(&self.name, after.as_ref(), PAGE).await?;
            let full = page.len() == PAGE;
            troubles.extend(page);
            if !full {
                return Ok(troubles);
            }
        }
    }

    /// What the keeper is told of a trouble: wall times become durations.
    pub(super) fn draft(&self, trouble: &Trouble) -> TroubleDraft {
        let wall = self.parts.clock.wall();
        let state = match &trouble.front.state {
            FrontState::Retrying { due } => {
                FrontPlan::Retry(Duration::try_from(due.duration_since(wall)).unwrap_or_default())
            }
            FrontState::Dead => FrontPlan::Dead,
            FrontState::Discarded { reason } => FrontPlan::Discard(reason.clone()),
        };
        TroubleDraft {
            lane: trouble.lane.clone(),
            generation: trouble.generation,
            state,
            attempts: trouble.front.attempts,
            failed_for: Duration::try_from(wall.duration_since(trouble.front.failed_since)).unwrap_or_default(),
        }
    }

    /// Takes over what an operator or the owner wants.
    pub(super) async fn control(&mut self, control: &Control) -> Result<(), StoreError> {
        let paused = control.paused.contains(self.base());
        if paused != self.paused {
            self.paused = paused;
            self.pause_or_resume()?;
        }
        if control.operator != self.operator {
            match self.take_over_changes(control.operator).await {
                Err(error) if error.kind().retry() => {
                    let route = &self.name;
                    tracing::warn!(%route, %error, "what an operator changed cannot be read now; looking again soon");
                    self.look_again = Some(self.now() + LOOK_AGAIN);
                }
                taken_over => taken_over?,
            }
        }
        if control.drain && !self.draining {
            self.draining = true;
            self.drain()?;
        }
        Ok(())
    }

    async fn take_over_changes(&mut self, version: u64) -> Result<(), StoreError> {
        // What was erased has left some.
        let tombstones = !self.parts.bookkeeping.tombstones(&self.name).await?.is_empty();
        let troubles = self.troubles().await?.iter().map(|trouble| self.draft(trouble)).collect();
        self.operator = version;
        self.tombstones |= tombstones;
        self.keeper_input(keeper::Input::Troubles(troubles))
    }

    /// Looks at what could not be read before, once it is time.
    pub(super) async fn look_again(&mut self) -> Result<(), StoreError> {
        if self.look_again.is_none_or(|due| due > self.now()) {
            return Ok(());
        }
        self.look_again = None;
        let control = self.control.borrow().clone();
        self.control(&control).await
    }
}

fn end_of(replay: &crate::bookkeeping::Replay, partition: &super::PartitionId) -> Option<Position> {
    replay.ends.iter().find(|(of, _)| of == partition).map(|(_, end)| end.clone())
}

fn keeper_settings(plan: &Plan, seed: u64) -> keeper::Settings {
    let (sink, size) = (plan.sink.limits(), size_of(&plan.sink));
    keeper::Settings { sink, size, retry: plan.settings.retry, gapless: plan.gapless, seed }
}

fn pipeline_settings(plan: &Plan, parts: &Parts) -> pipeline::Settings {
    pipeline::Settings {
        takes: plan.takes(),
        keeps_undecodable: plan.replay.is_none(),
        sink: plan.sink.limits(),
        size: size_of(&plan.sink),
        retry: plan.settings.retry,
        window: plan.settings.window,
        checkpoint_after: parts.checkpoint_after,
        seed: parts.entropy.seed(),
    }
}

/// The sink's measure of an event, as the machines ask for it.
fn size_of(sink: &Arc<dyn Sink>) -> Arc<dyn Fn(&Event) -> usize + Send + Sync> {
    let sink = sink.clone();
    Arc::new(move |event| sink.size(event))
}

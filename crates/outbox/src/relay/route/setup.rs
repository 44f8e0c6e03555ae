//! Bringing a route's machines up from the bookkeeping.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Control, Limiter, Listed, Plan, Readers, StoreError, Task, calls, discarded, health, lineage::Lineage,
    partitions::Partitions,
};
use crate::{
    bookkeeping::Trouble,
    event::Event,
    keeper::{self, Keeper, TroubleDraft},
    pipeline,
    relay::{builder::Parts, lease::Guard, reader::Delivery, watch},
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
        source: (Readers, Listed),
        reply: mpsc::UnboundedSender<Delivery>,
        control: watch::Receiver<Control>,
    ) -> Result<Self, StoreError> {
        let mut task = Self::idle(parts, guard, &plan, source, reply, control);
        let troubles = task.troubles().await?;
        task.lineage.know(task.parts.bookkeeping.checkpoints(&task.name).await?);
        task.keeper_input(keeper::Input::Pause)?;
        task.know_of_discarded(&task.parts.bookkeeping.tombstones(&task.name).await?)?;
        for trouble in &troubles {
            let draft = task.draft(trouble);
            task.keeper_input(keeper::Input::Trouble(draft))?;
        }
        task.begin_healthy().await?;
        if let Some(recovery) = task.lineage.recovery() {
            let reason = format!("the table is read again, from {}: {}", recovery.position, recovery.partition);
            task.health.recovering = Some(reason);
            task.note_health();
        }
        Ok(task)
    }

    /// A task that knows neither a partition nor a trouble yet.
    fn idle(
        parts: Arc<Parts>,
        guard: Guard,
        plan: &Plan,
        (readers, mut listed): (Readers, Listed),
        reply: mpsc::UnboundedSender<Delivery>,
        control: watch::Receiver<Control>,
    ) -> Self {
        let only =
            plan.replay.as_ref().map(|replay| replay.ends.iter().map(|(partition, _)| partition.clone()).collect());
        let listing = listed.listing.borrow_and_update().clone();
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
            settings: pipeline_settings(plan, &parts),
            registration: plan.registration.clone(),
            listed,
            lineage: Lineage::new(listing, only),
            partitions: Partitions::default(),
            begin_again: None,
            recoveries_too_late: 0,
            turn: None,
            beginning: 0,
            has_begun: false,
            forgetting: false,
            stalled: BTreeSet::new(),
            passed: discarded::Passed::of(&*parts.source),
            buried: Vec::new(),
            given_up: false,
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
        TroubleDraft::at(trouble, self.parts.clock.wall())
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
        let tombstones = self.parts.bookkeeping.tombstones(&self.name).await?;
        let troubles = self.troubles().await?.iter().map(|trouble| self.draft(trouble)).collect();
        self.operator = version;
        self.know_of_discarded(&tombstones)?;
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
        observed: parts.observed,
        // Each pipeline gets its own.
        seed: 0,
    }
}

/// The sink's measure of an event, as the machines ask for it.
fn size_of(sink: &Arc<dyn Sink>) -> Arc<dyn Fn(&Event) -> usize + Send + Sync> {
    let sink = sink.clone();
    Arc::new(move |event| sink.size(event))
}

//! Feeding the machines, and carrying out what they want.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;

use super::{Delivery, StoreError, Task, jobs::Machine, partitions::Progress};
use crate::{
    bookkeeping::{Apart, Checkpoint, Keep, Settlement},
    keeper, pipeline,
    relay::{metric, reader::Request},
};

/// How often a route reports its gauges.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(5);

impl Task {
    /// The first step of every machine.
    pub(super) fn start(&mut self) {
        // A lost lease shows at the next step as well.
        let _ = self.tick();
    }

    pub(super) fn tick(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        for index in self.partitions.numbers() {
            let due = |progress: &&mut Progress| progress.wake.is_none_or(|wake| wake <= now);
            if let Some(progress) = self.partitions.get_mut(index).filter(due) {
                progress.wake = None;
                self.pipeline_input(index, pipeline::Input::Tick)?;
            }
        }
        if self.begin_again.is_some_and(|due| due <= now) {
            self.begin_again = None;
            self.begin();
            self.turn_on();
        }
        if self.counts.others_accepted.swap(false, Ordering::Relaxed) && self.keeper.lanes() > 0 {
            self.keeper_input(keeper::Input::OthersAccepted)?;
        }
        if self.keeper_wake.is_none_or(|wake| wake <= now) {
            self.keeper_wake = None;
            self.keeper_input(keeper::Input::Tick)?;
        }
        Ok(())
    }

    pub(super) fn pause_or_resume(&mut self) -> Result<(), StoreError> {
        for index in self.partitions.numbers() {
            let input = if self.paused { pipeline::Input::Pause } else { pipeline::Input::Resume };
            self.pipeline_input(index, input)?;
        }
        self.keeper_input(if self.paused { keeper::Input::Pause } else { keeper::Input::Resume })?;
        self.show_health();
        Ok(())
    }

    pub(super) fn drain(&mut self) -> Result<(), StoreError> {
        for index in self.partitions.numbers() {
            self.pipeline_input(index, pipeline::Input::Drain)?;
        }
        self.keeper_input(keeper::Input::Drain)
    }

    pub(super) fn delivered(&mut self, delivery: Delivery) -> Result<(), StoreError> {
        let Delivery { pipeline: index, mut records, mut next, mut end, trimmed } = delivery;
        let now = self.now();
        let Some(progress) = self.partitions.get_mut(index) else { return Ok(()) };
        if let Some(said) = trimmed {
            let partition = progress.partition.clone();
            return self.trimmed(&partition, &said);
        }
        if let Some(last) = &progress.end {
            let source = &self.parts.source;
            let within = records.iter().take_while(|record| source.order(&record.position, last).is_le()).count();
            if within < records.len() || source.order(&next, last).is_ge() {
                records.truncate(within);
                next = last.clone();
                end = true;
            }
        }
        progress.after = next.clone();
        progress.moved = now;
        self.pipeline_input(index, pipeline::Input::Read { records, next, end })
    }

    pub(super) fn pipeline_input(&mut self, index: usize, input: pipeline::Input) -> Result<(), StoreError> {
        self.still_owner()?;
        let now = self.now();
        // What comes for one that is done with is of no use any more.
        let Some(progress) = self.partitions.get_mut(index) else { return Ok(()) };
        let mut effects = std::mem::take(&mut self.pipeline_effects);
        progress.pipeline.step(now, input, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(index, effect);
        }
        self.pipeline_effects = effects;
        if self.partitions.get(index).is_some_and(|progress| progress.finished) {
            self.partition_ended(index);
        }
        Ok(())
    }

    pub(super) fn keeper_input(&mut self, input: keeper::Input) -> Result<(), StoreError> {
        self.still_owner()?;
        let now = self.now();
        let mut effects = std::mem::take(&mut self.keeper_effects);
        self.keeper.step(now, input, &mut effects);
        let mut released = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                keeper::Effect::Released { lane } => released.push(lane),
                other => self.carry_out_for_keeper(other),
            }
        }
        self.keeper_effects = effects;
        for lane in released {
            for index in self.partitions.numbers() {
                self.pipeline_input(index, pipeline::Input::Released { lane: lane.clone() })?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, index: usize, effect: pipeline::Effect) {
        let Some(progress) = self.partitions.get_mut(index) else { return };
        match effect {
            pipeline::Effect::Read { credit } => {
                let request = Request {
                    route: self.name.clone(),
                    pipeline: index,
                    after: progress.after.clone(),
                    credit,
                    reply: self.reply.clone(),
                };
                // A reader that is gone has failed, which stops the relay.
                let _ = progress.reader.send(request);
            }
            pipeline::Effect::FetchMissing { fetch, key, sequences } => self.fetch(index, fetch, key, sequences),
            pipeline::Effect::OutOfTurn { key, place, disorder } => self.out_of_turn(&key, place, disorder),
            pipeline::Effect::Gap { key, sequences } => self.gap(&key, &sequences),
            pipeline::Effect::Publish { call, events } => self.publish(Machine::Pipeline(index), call, events),
            pipeline::Effect::Keep { write, lane: name, front, events } => {
                let front = front.map(|draft| draft.at(self.parts.clock.wall()));
                self.keep(index, write, Keep { lane: name, front, events });
            }
            pipeline::Effect::Checkpoint { write, position, witness, finished } => {
                let checkpoint = Checkpoint { partition: progress.partition.clone(), position, finished };
                if !(finished && checkpoint.partition.is_recovery()) {
                    self.checkpoint(index, write, checkpoint, witness);
                } else if self.turn.is_none() {
                    self.finish_recovery(index, write, checkpoint);
                } else {
                    // It took so long that another one has to follow: this one is not to count as done.
                    self.checkpoint(index, write, Checkpoint { finished: false, ..checkpoint }, witness);
                }
            }
            pipeline::Effect::WakeAt(moment) => progress.wake = Some(moment),
            pipeline::Effect::Health(health) => {
                self.health.pipelines.insert(index, health);
                self.note_health();
            }
            pipeline::Effect::Finished => progress.finished = true,
        }
    }

    fn carry_out_for_keeper(&mut self, effect: keeper::Effect) {
        match effect {
            keeper::Effect::Load { load, lane, limit } => self.load(load, lane, limit),
            keeper::Effect::Publish { call, events } => self.publish(Machine::Keeper, call, events),
            keeper::Effect::Settle { write, lane, generation, remove, apart, discarded, front } => {
                self.tombstones |= discarded;
                let apart = apart.map(|(lane, front)| Apart::of(lane, front.at(self.parts.clock.wall())));
                let front = front.map(|draft| draft.at(self.parts.clock.wall()));
                self.settle(write, Settlement { lane, generation, remove, apart, discarded, front });
            }
            keeper::Effect::WakeAt(moment) => self.keeper_wake = Some(moment),
            keeper::Effect::Health(health) => {
                self.health.keeper = Some(health);
                self.note_health();
            }
            keeper::Effect::Finished => self.keeper_finished = true,
            keeper::Effect::Released { .. } => {}
        }
    }

    /// Sets the gauges that cost a look at the stores.
    pub(super) async fn report(&self) {
        if self.partitions.is_empty() && !self.lineage.is_idle() {
            // What lies behind the route is not known yet: nothing would be told for it.
            return;
        }
        self.show_partitions();
        let in_flight = self.in_flight();
        self.counts.in_flight.store(in_flight, Ordering::Relaxed);
        self.counts.troubled.store(self.keeper.lanes() as u64, Ordering::Relaxed);
        let gauge = |name: &'static str, value: f64| metrics::gauge!(name, "route" => self.name.to_string()).set(value);
        #[expect(
            clippy::cast_precision_loss,
            reason = "gauges are floating point, and these counts are far below 2^52"
        )]
        let count = |name: &'static str, value: u64| gauge(name, value as f64);
        count(metric::IN_FLIGHT, in_flight);
        count(metric::TROUBLED, self.keeper.lanes() as u64);
        if let Ok(kept) = self.parts.bookkeeping.kept_counts(&self.name).await {
            count(metric::DEAD, kept.dead);
            count(metric::PARKED, kept.parked);
        }
        // What cannot be looked at now is not nothing: its gauges stay as they are.
        let Some((entries, oldest)) = self.backlog().await else { return };
        count(metric::BACKLOG, entries);
        let age = oldest.map_or(0.0, |oldest| self.parts.clock.wall().duration_since(oldest).as_secs_f64());
        gauge(metric::OLDEST_SECONDS, age.max(0.0));
        gauge(metric::EXPIRING, f64::from(self.is_expiring(age)));
    }

    /// What is not behind the checkpoint of any partition that is read: how many entries, and when the oldest was recorded.
    async fn backlog(&self) -> Option<(u64, Option<Timestamp>)> {
        if self.partitions.is_empty() && self.turn.is_some() && !self.given_up {
            return None;
        }
        let (mut entries, mut oldest) = (0, None);
        for progress in self.partitions.iter() {
            let backlog = self.parts.source.backlog(&progress.partition, &progress.stored).await.ok()?;
            entries += backlog.entries;
            oldest = [oldest, backlog.oldest].into_iter().flatten().min();
        }
        Some((entries, oldest))
    }

    /// Whether what waits for longest, `age` seconds by now, has lived for half of the time after which the store deletes it,
    /// published or not. Said when it begins and when it ends. What a replay reads was published before.
    fn is_expiring(&self, age: f64) -> bool {
        let expires = self.parts.store.expires_after().filter(|_| self.replay.is_none());
        let Some(expires) = expires else { return false };
        let is_expiring = age > expires.as_secs_f64() / 2.0;
        if self.counts.expiring.swap(is_expiring, Ordering::Relaxed) != is_expiring {
            let (route, oldest) = (&self.name, Duration::try_from_secs_f64(age).unwrap_or_default());
            if is_expiring {
                tracing::error!(
                    %route, ?oldest, ?expires,
                    "unpublished entries have lived for half of the time after which the store deletes them: mend the \
                     route's sink before they are lost"
                );
            } else {
                tracing::info!(%route, ?oldest, "unpublished entries are no longer about to be deleted by the store");
            }
        }
        is_expiring
    }

    pub(super) fn in_flight(&self) -> u64 {
        let pipelines: usize = self.partitions.iter().map(|progress| progress.pipeline.in_flight()).sum();
        (pipelines + self.keeper.in_flight()) as u64
    }
}

//! One pass of an inbox over one transaction: the decisions, carried out.
//!
//! A pass loads every lane that its events belong to, sorted, so that two passes never wait for each other in a circle;
//! works through the events, keys sorted and places in order; drains every lane it touched; and writes each lane that
//! changed once. An event of a lane is parked under the lane's row, and every touch of a lane drains what is ready, so
//! that no predecessor can slip by while its successor is being parked.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    applied::{Applied, Waits},
    decision::{Basis, life_after},
    handler::Answer,
    service::Incoming,
    settings::{InboxSettings, Mode},
};
use crate::{
    bookkeeping::{KeptId, Lane},
    clock::Moment,
    error::StoreError,
    event::Event,
    inbox_store::{
        Abort, EventId, InboxCounts, InboxKept, InboxTx, Isolation, KeptMessage, LaneChange, LaneId, LaneRecord,
        Trouble, TroubleState,
    },
    place::Place,
};

mod admit;
mod advance;
mod blame;
mod drain;
mod executor;
mod overtaken;
#[cfg(test)]
mod tests;

pub(crate) use blame::{Blame, Blamed, reason as failed_with};
use executor::Attempt;
pub(crate) use executor::{Deferring, Direct, Executor};

/// The right to handle one kept event until it expires.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) lane: LaneId,
    /// Kept ids are never reused, so that this and the epoch name one claim for ever.
    pub(crate) kept: KeptId,
    pub(crate) epoch: u64,
    pub(crate) event: Event,
    pub(crate) attempts: u32,
    /// When it ends by the clock of whoever holds it.
    pub(crate) ends: Moment,
}

impl Claim {
    /// Whether it is still held in the lane, which is as `record` says and keeps `first`.
    pub(crate) fn holds(&self, record: &LaneRecord, first: Option<&InboxKept>) -> bool {
        let claimed = |trouble: &Trouble| trouble.state == TroubleState::Claimed && trouble.epoch == self.epoch;
        record.trouble.as_ref().is_some_and(claimed) && first.is_some_and(|first| first.id == self.kept)
    }
}

/// What a pass has done, once it has committed.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// One for each event, in the caller's order.
    pub(crate) applied: Vec<Applied>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) counts: InboxCounts,
    /// Whether something kept is ready, and left to the next pass.
    pub(crate) more: bool,
    /// What has arrived and was not taken: it is another pass's.
    pub(crate) left: Vec<Incoming>,
}

struct Slot {
    before: LaneRecord,
    now: LaneRecord,
}

/// The state of a pass.
pub(crate) struct Pass<'a, T, X> {
    tx: &'a mut T,
    executor: &'a mut X,
    settings: &'a InboxSettings,
    now: Timestamp,
    isolation: Isolation,
    slots: BTreeMap<LaneId, Slot>,
    /// Lanes in which something was applied that others may wait for.
    advanced: BTreeSet<LaneId>,
    /// Events that were asked for together, and are done with.
    seen: BTreeSet<EventId>,
    budget: usize,
    blame: Option<&'a Blame>,
    done: Passed,
}

impl<'a, T: InboxTx, X: Executor<T>> Pass<'a, T, X> {
    pub(crate) fn new(
        tx: &'a mut T,
        executor: &'a mut X,
        settings: &'a InboxSettings,
        now: Timestamp,
        isolation: Isolation,
    ) -> Self {
        let budget = settings.drain;
        Self {
            tx,
            executor,
            settings,
            now,
            isolation,
            slots: BTreeMap::new(),
            advanced: BTreeSet::new(),
            seen: BTreeSet::new(),
            budget,
            blame: None,
            done: Passed::default(),
        }
    }

    /// Tries so many kept events at most, and leaves to the next pass what is ready besides.
    pub(crate) fn draining(mut self, most: usize) -> Self {
        self.budget = most;
        self
    }

    /// Takes `incoming`, drains what that makes ready, and records all of it.
    pub(crate) async fn apply(mut self, incoming: &[Incoming]) -> Result<Passed, Abort> {
        let touched = self.admit_all(incoming).await?;
        for lane in &touched {
            self.drain(lane).await?;
        }
        self.finish().await
    }

    /// Drains `lanes`.
    pub(crate) async fn sweep(mut self, lanes: &[LaneId]) -> Result<Passed, Abort> {
        self.load(lanes).await?;
        for lane in lanes {
            self.drain(lane).await?;
        }
        self.finish().await
    }

    /// Settles a claimed event by the answer of its handler, and drains its lane. `None`: the claim is no longer
    /// held, and nothing was done.
    pub(crate) async fn complete(mut self, claim: &Claim, answer: Answer) -> Result<Option<Passed>, Abort> {
        let mut record = self.open(&claim.lane).await?;
        if !claim.holds(&record, self.tx.first(&claim.lane).await?.as_ref()) {
            return Ok(None);
        }
        let basis = Basis::of(&self.settings.mode, &claim.event, self.now);
        let subject = Subject { lane: &claim.lane, event: &claim.event, basis: &basis, kept: Some(claim.kept) };
        let applied = self.settle(&subject, &mut record, answer).await?;
        self.done.applied.push(applied);
        self.put(&claim.lane, record);
        self.drain(&claim.lane).await?;
        self.finish().await.map(Some)
    }

    /// Wakes whoever waited for what was applied, then writes what changed.
    async fn finish(mut self) -> Result<Passed, Abort> {
        while !self.advanced.is_empty() {
            let advanced: Vec<_> = mem::take(&mut self.advanced).into_iter().collect();
            for waiter in self.tx.waiters(&advanced).await? {
                self.drain(&waiter).await?;
            }
        }
        let changes: Vec<LaneChange> = self
            .slots
            .into_iter()
            .filter(|(_, slot)| slot.before != slot.now)
            .map(|(lane, Slot { before, now })| LaneChange { lane, before, now })
            .collect();
        if !changes.is_empty() {
            self.tx.save(&changes).await?;
        }
        if self.done.counts != InboxCounts::default() {
            self.tx.count(&self.done.counts).await?;
        }
        Ok(self.done)
    }

    /// Loads those of `lanes`, which are sorted, that are not loaded.
    async fn load(&mut self, lanes: &[LaneId]) -> Result<(), StoreError> {
        let missing: Vec<_> = lanes.iter().filter(|lane| !self.slots.contains_key(lane)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let records = self.tx.load(&missing).await?;
        for (lane, before) in missing.into_iter().zip(records) {
            let mut now = before.clone();
            if let Some(trouble) = &mut now.trouble {
                trouble.begun_by(self.now);
            }
            self.slots.insert(lane, Slot { before, now });
        }
        Ok(())
    }

    /// A lane's record to work on; [`put`](Self::put) gives it back.
    async fn open(&mut self, lane: &LaneId) -> Result<LaneRecord, StoreError> {
        if let Some(slot) = self.slots.get(lane) {
            return Ok(slot.now.clone());
        }
        self.load(std::slice::from_ref(lane)).await?;
        Ok(self.slots.get(lane).map(|slot| slot.now.clone()).unwrap_or_default())
    }

    fn put(&mut self, lane: &LaneId, record: LaneRecord) {
        if let Some(slot) = self.slots.get_mut(lane) {
            slot.now = record;
        }
    }

    /// Tries an event whose turn has come.
    async fn attempt(&mut self, subject: &Subject<'_>, record: &mut LaneRecord) -> Result<Applied, Abort> {
        match self.executor.attempt(self.tx, self.isolation, subject.event).await? {
            Attempt::Answered(answer) => self.settle(subject, record, answer).await,
            Attempt::Deferred(deferring) => self.claim(subject, record, deferring).await,
        }
    }

    async fn settle(
        &mut self,
        subject: &Subject<'_>,
        record: &mut LaneRecord,
        answer: Answer,
    ) -> Result<Applied, Abort> {
        if answer != Answer::Done && self.is_overtaken(subject, record).await? {
            return Ok(Applied::Superseded);
        }
        match answer {
            Answer::Done => {
                self.done.counts.applied += 1;
                self.pass_by(subject, record).await?;
                Ok(Applied::Applied)
            }
            Answer::Retry { after, reason } => {
                let attempts = record.trouble.as_ref().map_or(0, |trouble| trouble.attempts) + 1;
                if attempts >= self.settings.retry.attempts {
                    return self.bury(subject, record, attempts, &reason).await;
                }
                let delay = after.unwrap_or_else(|| self.settings.retry.delay(attempts, subject.event.id()));
                let due = later(self.now, delay);
                self.hold(subject, record).await?;
                let reason = shorten(&reason);
                let now = self.now;
                let trouble = trouble_of(record, now);
                trouble.since = if attempts == 1 { now } else { trouble.since };
                trouble.state = TroubleState::Retrying;
                trouble.attempts = attempts;
                trouble.due = Some(due);
                trouble.reason.clone_from(&reason);
                Ok(Applied::Retrying { attempts, due, reason })
            }
            Answer::GiveUp { reason } => {
                let attempts = record.trouble.as_ref().map_or(0, |trouble| trouble.attempts) + 1;
                self.bury(subject, record, attempts, &reason).await
            }
        }
    }

    /// Makes the event a dead letter: its lane waits for somebody.
    async fn bury(
        &mut self,
        subject: &Subject<'_>,
        record: &mut LaneRecord,
        attempts: u32,
        reason: &str,
    ) -> Result<Applied, Abort> {
        self.hold(subject, record).await?;
        let reason = shorten(reason);
        let trouble = trouble_of(record, self.now);
        trouble.since = self.now;
        trouble.state = TroubleState::Dead;
        trouble.attempts = attempts;
        trouble.due = None;
        trouble.reason.clone_from(&reason);
        tracing::warn!(
            lane = ?subject.lane, event = subject.event.id(), attempts, reason,
            "an event is a dead letter of this inbox; its key waits behind it"
        );
        Ok(Applied::DeadLetter { reason })
    }

    /// Keeps the event for whoever handles it outside of the transaction.
    async fn claim(
        &mut self,
        subject: &Subject<'_>,
        record: &mut LaneRecord,
        Deferring { expiry, ends }: Deferring,
    ) -> Result<Applied, Abort> {
        let kept = self.hold(subject, record).await?;
        let trouble = trouble_of(record, self.now);
        trouble.state = TroubleState::Claimed;
        trouble.epoch += 1;
        trouble.due = Some(later(self.now, expiry));
        self.done.claims.push(Claim {
            lane: subject.lane.clone(),
            kept,
            epoch: trouble.epoch,
            event: subject.event.clone(),
            attempts: trouble.attempts,
            ends,
        });
        Ok(Applied::Parked(Waits::Claim))
    }

    /// Makes sure that the event is kept, as the first of its lane.
    async fn hold(&mut self, subject: &Subject<'_>, record: &mut LaneRecord) -> Result<KeptId, Abort> {
        if let Some(kept) = subject.kept {
            return Ok(kept);
        }
        let message = KeptMessage::Event(subject.event.clone());
        let place = subject.basis.place();
        let Some(kept) = self.tx.keep(subject.lane, place, &message, self.now).await? else {
            let message = format!("event `{}` is kept by its lane, which does not know of it", subject.event.id());
            return Err(StoreError::new(crate::ErrorKind::Invalid, message).into());
        };
        trouble_of(record, self.now).kept += 1;
        if subject.basis.by_id() {
            self.tx.set_done(&EventId::of(subject.event), false).await?;
        }
        Ok(kept)
    }

    /// The event is done with, by whatever way: its lane moves on.
    async fn pass_by(&mut self, subject: &Subject<'_>, record: &mut LaneRecord) -> Result<(), Abort> {
        if let Some(kept) = subject.kept {
            self.tx.remove(kept).await?;
            release(record);
        }
        let by_cause = matches!(self.settings.mode, Mode::AfterCause { .. });
        if subject.basis.by_id() && (subject.kept.is_some() || by_cause) {
            self.tx.set_done(&EventId::of(subject.event), true).await?;
        }
        if matches!(subject.lane.lane, Lane::Key(_)) {
            record.mark = record.mark.max(subject.basis.place());
            record.life = life_after(self.settings, record.life, subject.event);
        }
        if by_cause {
            self.advanced.insert(subject.lane.clone());
        }
        Ok(())
    }

    /// Removes a kept event that another one made superfluous.
    async fn supersede(&mut self, lane: &LaneId, record: &mut LaneRecord, kept: &InboxKept) -> Result<(), Abort> {
        self.tx.remove(kept.id).await?;
        self.superseded(lane, record, kept).await
    }

    async fn superseded(&mut self, lane: &LaneId, record: &mut LaneRecord, kept: &InboxKept) -> Result<(), Abort> {
        self.done.counts.superseded += 1;
        if let Some(trouble) = &mut record.trouble {
            trouble.kept = trouble.kept.saturating_sub(1);
            wait_again(trouble);
        }
        if let KeptMessage::Event(event) = &kept.message {
            if Basis::of(&self.settings.mode, event, self.now).by_id() {
                self.tx.set_done(&EventId::of(event), true).await?;
            }
            tracing::debug!(?lane, event = event.id(), "a kept event was superseded");
        }
        Ok(())
    }
}

/// An event in the hands of a pass.
struct Subject<'s> {
    lane: &'s LaneId,
    event: &'s Event,
    basis: &'s Basis,
    /// Its number, if it is kept already.
    kept: Option<KeptId>,
}

fn trouble_of(record: &mut LaneRecord, now: Timestamp) -> &mut Trouble {
    record.trouble.get_or_insert_with(|| Trouble::new(now))
}

/// The lane's first kept event is gone: the next one is a new front, or the trouble is over.
fn release(record: &mut LaneRecord) {
    let Some(trouble) = &mut record.trouble else { return };
    trouble.kept = trouble.kept.saturating_sub(1);
    if trouble.kept == 0 {
        record.trouble = None;
        return;
    }
    wait_again(trouble);
}

/// The trouble is over if nothing is kept any more.
fn forget_empty(record: &mut LaneRecord) {
    if record.trouble.as_ref().is_some_and(|trouble| trouble.kept == 0) {
        record.trouble = None;
    }
}

/// The lane has another front than before.
fn wait_again(trouble: &mut Trouble) {
    trouble.state = TroubleState::Waiting;
    trouble.attempts = 0;
    trouble.due = None;
    trouble.reason.clear();
}

pub(crate) fn later(now: Timestamp, delay: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(delay).ok().and_then(|delay| now.checked_add(delay).ok()).unwrap_or(Timestamp::MAX)
}

/// What a handler said, fit to be stored and shown.
fn shorten(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

/// The place before everything, for lanes without order.
const UNORDERED: Place = Place::ORIGIN;

//! What an inbox does in one transaction.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    handler::Answer,
    pass::{Blame, Blamed, Claim, Deferring, Executor, Pass, Passed, later},
    service::{Incoming, Seed, SeedLeft, Seeded},
    settings::InboxSettings,
};
use crate::{
    bookkeeping::Lane,
    error::StoreError,
    inbox_store::{Abort, InboxTx, Isolation, Job, LaneChange, LaneId, Life, PurgedIds, TroubleState},
};

#[cfg(test)]
mod tests;

/// Ids looked at in one transaction at most.
const PURGE: usize = 1_000;
/// Lanes looked at in one transaction of a sweep at most.
const SWEEP: usize = 64;

/// Notes the mode, the first time.
pub(crate) struct BindJob {
    pub(crate) mode: &'static str,
}

impl<T: InboxTx> Job<T> for BindJob {
    type Output = ();

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<(), Abort> {
        Ok(tx.bind(self.mode).await?)
    }
}

/// Takes what has arrived.
pub(crate) struct ApplyJob<X> {
    incoming: Vec<Incoming>,
    executor: X,
    settings: Arc<InboxSettings>,
    now: Timestamp,
    /// Where it notes which kept event it is at.
    blame: Blame,
    /// It leaves kept events to the sweeper: it failed over one, which the sweeper counts, or did more than one transaction
    /// takes.
    only_arrivals: bool,
    /// How many of `incoming` it takes; the others are left to another one.
    taken: usize,
}

impl<X> ApplyJob<X> {
    pub(crate) fn new(incoming: Vec<Incoming>, executor: X, settings: Arc<InboxSettings>, now: Timestamp) -> Self {
        let taken = incoming.len();
        Self { incoming, executor, settings, now, blame: Blame::default(), only_arrivals: false, taken }
    }
}

impl<T: InboxTx, X: Executor<T>> Job<T> for ApplyJob<X> {
    type Output = Passed;

    fn weight(&self) -> usize {
        self.incoming.len()
    }

    fn again(&mut self) -> bool {
        let first = !self.only_arrivals;
        self.only_arrivals = self.blame.take().is_some();
        first && self.only_arrivals
    }

    fn less(&mut self) -> bool {
        if self.taken > 1 {
            self.taken = self.taken.div_ceil(2);
            return true;
        }
        !std::mem::replace(&mut self.only_arrivals, true)
    }

    async fn run(&mut self, tx: &mut T, isolation: Isolation) -> Result<Passed, Abort> {
        self.blame.set(None);
        let pass = Pass::new(tx, &mut self.executor, &self.settings, self.now, isolation).blaming(&self.blame);
        let pass = if self.only_arrivals { pass.draining(0) } else { pass };
        let (taken, left) = self.incoming.split_at(self.taken);
        Ok(Passed { left: left.to_vec(), ..pass.apply(taken).await? })
    }
}

/// Which lanes a sweep looks at.
#[derive(Clone)]
pub(crate) enum Scope {
    /// Those that are due.
    Due,
    /// All that keep something, behind this one.
    All { after: Option<LaneId> },
}

/// What one transaction of a sweep has done.
pub(crate) struct Sweep {
    pub(crate) passed: Passed,
    pub(crate) lanes: u64,
    /// Where a sweep of all lanes goes on; `None` at its end.
    pub(crate) after: Option<LaneId>,
    pub(crate) more: bool,
}

/// Tries what is due and drains what is ready.
pub(crate) struct SweepJob<X> {
    pub(crate) executor: X,
    pub(crate) settings: Arc<InboxSettings>,
    pub(crate) now: Timestamp,
    pub(crate) scope: Scope,
    /// Where it notes what it is at.
    pub(crate) blame: Blame,
    pub(crate) share: Share,
}

/// How much one transaction of a sweep does at most.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    lanes: usize,
    /// Kept events that are tried.
    drain: usize,
}

impl Share {
    /// All that a sweep may do by `settings`.
    pub(crate) fn of(settings: &InboxSettings) -> Self {
        Self { lanes: SWEEP, drain: settings.drain }
    }

    fn less(&mut self) -> bool {
        if self.lanes > 1 {
            self.lanes = self.lanes.div_ceil(2);
            return true;
        }
        let before = self.drain;
        self.drain = before.div_ceil(2);
        self.drain < before
    }
}

impl<T: InboxTx, X: Executor<T>> Job<T> for SweepJob<X> {
    type Output = Sweep;

    fn weight(&self) -> usize {
        SWEEP
    }

    fn less(&mut self) -> bool {
        self.share.less()
    }

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<Sweep, Abort> {
        self.blame.set(None);
        let Share { lanes: most, drain } = self.share;
        let mut lanes = match &self.scope {
            Scope::Due => tx.due(self.now, most).await?,
            Scope::All { after } => {
                tx.troubled(after.as_ref(), most).await?.into_iter().map(|kept| kept.lane).collect()
            }
        };
        let full = lanes.len() == most;
        let after = match self.scope {
            Scope::All { .. } if full => lanes.last().cloned(),
            Scope::All { .. } | Scope::Due => None,
        };
        lanes.sort();
        // What is kept has failed before, so each attempt stands for itself at once.
        let pass = Pass::new(tx, &mut self.executor, &self.settings, self.now, Isolation::Each).blaming(&self.blame);
        let passed = pass.draining(drain).sweep(&lanes).await?;
        let more = full || passed.more;
        Ok(Sweep { passed, lanes: lanes.len() as u64, after, more })
    }
}

/// Forgets ids that expired.
pub(crate) struct PurgeIdsJob {
    pub(crate) now: Timestamp,
    pub(crate) after: u64,
}

impl<T: InboxTx> Job<T> for PurgeIdsJob {
    type Output = PurgedIds;

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<PurgedIds, Abort> {
        Ok(tx.purge_ids(self.now, self.after, PURGE).await?)
    }
}

/// Counts the failure of a sweep's transaction as an attempt at what it was at.
pub(crate) struct FailJob<X> {
    pub(crate) blamed: Blamed,
    pub(crate) reason: String,
    pub(crate) executor: X,
    pub(crate) settings: Arc<InboxSettings>,
    pub(crate) now: Timestamp,
}

impl<T: InboxTx, X: Executor<T>> Job<T> for FailJob<X> {
    type Output = bool;

    async fn run(&mut self, tx: &mut T, isolation: Isolation) -> Result<bool, Abort> {
        let pass = Pass::new(tx, &mut self.executor, &self.settings, self.now, isolation);
        pass.fail(&self.blamed, &self.reason).await
    }
}

/// Lets a claim last as if it were made now; gives whether it is still held.
pub(crate) struct RenewJob {
    pub(crate) claim: Claim,
    pub(crate) expiry: Duration,
    pub(crate) now: Timestamp,
}

impl<T: InboxTx> Job<T> for RenewJob {
    type Output = bool;

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<bool, Abort> {
        let lane = &self.claim.lane;
        let before = tx.load(std::slice::from_ref(lane)).await?.pop().unwrap_or_default();
        if !self.claim.holds(&before, tx.first(lane).await?.as_ref()) {
            return Ok(false);
        }
        let mut now = before.clone();
        if let Some(trouble) = &mut now.trouble {
            trouble.begun_by(self.now);
            trouble.due = Some(later(self.now, self.expiry));
        }
        tx.save(&[LaneChange { lane: lane.clone(), before, now }]).await?;
        Ok(true)
    }
}

/// Settles a claimed event by its handler's answer; `None` if the claim is lost.
pub(crate) struct CompleteJob {
    pub(crate) claim: Claim,
    pub(crate) answer: Answer,
    pub(crate) executor: Deferring,
    pub(crate) settings: Arc<InboxSettings>,
    pub(crate) now: Timestamp,
}

impl<T: InboxTx> Job<T> for CompleteJob {
    type Output = Option<Passed>;

    async fn run(&mut self, tx: &mut T, isolation: Isolation) -> Result<Option<Passed>, Abort> {
        let pass = Pass::new(tx, &mut self.executor, &self.settings, self.now, isolation);
        pass.complete(&self.claim, self.answer.clone()).await
    }
}

/// Writes marks together with the state that they belong to.
pub(crate) struct SeedJob<F> {
    pub(crate) seeds: Vec<Seed>,
    pub(crate) state: F,
    pub(crate) now: Timestamp,
}

fn lane_of(seed: &Seed) -> LaneId {
    LaneId { producer: seed.producer.as_str().into(), lane: Lane::Key(seed.key.clone()) }
}

impl<T, F> Job<T> for SeedJob<F>
where
    T: InboxTx,
    F: AsyncFnMut(&mut T, &[Seed]) -> Result<(), StoreError> + Send + 'static,
{
    type Output = Seeded;

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<Seeded, Abort> {
        let mut lanes: Vec<_> = self.seeds.iter().map(lane_of).collect();
        lanes.sort();
        lanes.dedup();
        let records = tx.load(&lanes).await?;
        let mut changes: Vec<_> = lanes
            .into_iter()
            .zip(records)
            .map(|(lane, before)| LaneChange { lane, now: before.clone(), before })
            .collect();
        let mut seeded = Seeded::default();
        // Of several seeds of a key the furthest counts.
        self.seeds.sort_by_key(|seed| Reverse(seed.place));
        for seed in &self.seeds {
            let lane = lane_of(seed);
            let Ok(index) = changes.binary_search_by(|change| change.lane.cmp(&lane)) else { continue };
            let now = &mut changes[index].now;
            if seed.place <= now.mark {
                seeded.left.push(SeedLeft { seed: seed.clone(), mark: now.mark });
                continue;
            }
            (now.mark, now.life) = (seed.place, Life::Open);
            // What it keeps may be next by now, or past.
            if let Some(trouble) = now.trouble.as_mut().filter(|trouble| trouble.state == TroubleState::Waiting) {
                trouble.due = Some(self.now);
            }
            seeded.written.push(seed.clone());
        }
        changes.retain(|change| change.before != change.now);
        (self.state)(tx, &seeded.written).await?;
        tx.save(&changes).await?;
        Ok(seeded)
    }
}

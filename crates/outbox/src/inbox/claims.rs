//! Effects outside of the store: claimed before, completed after.
//!
//! A payment or a mail cannot share the store's transaction. So the event is kept first, under a claim; then the handler
//! runs, outside of any transaction and no longer than its timeout; then its answer is recorded, if the claim still
//! holds. A claim outlives the handler's timeout, and one that waited for its handler is renewed before the handler is
//! asked, so that nobody takes an event over while its handler runs; a worker
//! that died holds its claims until they expire, and a sweep takes them over under a higher epoch. The answer of one
//! that was only slow is refused then: it settles nothing. A claim that expired counts as an attempt, or an event that
//! takes its worker's process with it would be handled for ever.
//!
//! When a claim expires is written as a time of day, for workers share no other clock: one at a time has an event for as
//! long as their clocks differ, and jump ahead, by less than [`ClaimSettings::expiry`] is longer than
//! [`ClaimSettings::timeout`]. Beyond that two may handle it at once, and the answer of one is refused. A clock that is set
//! back breaks nothing: the claims of a worker that died by then begin anew.
//!
//! What was claimed is carried out in a task of its own, to its end: a caller that hangs up or loses patience would cut
//! an effect in two otherwise, and leave its key blocked until the claim expires.
//!
//! What the handler does can happen twice all the same: the effect took place and the worker died before it could say
//! so. For that the handler gets an idempotency key, the same at every attempt, to hand on to whomever it calls.

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use tower::{Layer, Service};
use tracing::Instrument;

use super::{
    applied::{Applied, Waits},
    core::Core,
    handler::Answer,
    jobs::{ApplyJob, CompleteJob, RenewJob, Scope, Share, SweepJob},
    operator::InboxOperator,
    pass::{Blame, Claim, Deferring, Passed},
    service::{AppliedFuture, Incoming, Swept, only},
    settings::SettingsError,
    sweeper::sweep_on_timer,
};
use crate::{
    error::{ErrorKind, StoreError},
    event::Event,
    inbox_store::{InboxStore, LaneId},
};

/// How claims are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimSettings {
    /// How long a handler may take; then it is dropped, and the attempt has failed.
    pub timeout: Duration,
    /// How long a claim holds: longer than the timeout, with room for the store's commit and for as much as the clocks of
    /// workers may be apart.
    pub expiry: Duration,
    /// Handlers that one call runs at a time.
    pub concurrency: usize,
}

impl Default for ClaimSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), expiry: Duration::from_secs(60), concurrency: 16 }
    }
}

impl ClaimSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError`] names what makes no sense.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.expiry <= self.timeout {
            return Err(SettingsError::ClaimExpiry { expiry: self.expiry, timeout: self.timeout });
        }
        if self.concurrency == 0 {
            return Err(SettingsError::ClaimConcurrency);
        }
        Ok(())
    }
}

/// An event in the hands of a [`ClaimHandler`].
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The event.
    pub event: Event,
    /// The same at every attempt at this event, and no other's: producer and id.
    pub idempotency_key: String,
    /// Which attempt this is, from 1. One whose claim expired before an answer counts.
    pub attempt: u32,
}

/// A handler whose effect is outside of the inbox's store.
pub trait ClaimHandler: Send + Sync + 'static {
    /// Applies the event. May be dropped at its timeout; a panic counts as [`Answer::Retry`].
    fn handle(&self, claimed: &Claimed) -> impl Future<Output = Answer> + Send;
}

/// Makes a [`ClaimService`] of a handler: a [`tower::Layer`]. Made by
/// [`InboxLayer::claim`](super::InboxLayer::claim).
#[derive(Clone)]
pub struct ClaimLayer<S> {
    pub(crate) core: Core<S>,
    pub(crate) claim: ClaimSettings,
}

impl<S: InboxStore, C> Layer<C> for ClaimLayer<S> {
    type Service = ClaimService<S, C>;

    fn layer(&self, handler: C) -> ClaimService<S, C> {
        ClaimService { core: self.core.clone(), claim: self.claim, handler: Arc::new(handler) }
    }
}

/// A [`ClaimHandler`] with an inbox around it: a [`tower::Service`] as [`InboxService`](super::InboxService) is one.
///
/// A call ends when its events, and what waited behind them, are settled. One that is dropped is carried out all the
/// same, for as long as the tokio runtime lives that it was made in; it must be made in one. An event that comes again while somebody
/// else handles it is a duplicate: it is kept, durably, until it is settled.
pub struct ClaimService<S, C> {
    core: Core<S>,
    claim: ClaimSettings,
    handler: Arc<C>,
}

impl<S: Clone, C> Clone for ClaimService<S, C> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), claim: self.claim, handler: self.handler.clone() }
    }
}

impl<S: InboxStore, C: ClaimHandler> ClaimService<S, C> {
    /// Takes `incoming` and gives, in its order, what became of each once that is durable.
    ///
    /// # Errors
    /// [`StoreError`]: acknowledge nothing. What was claimed and not settled is taken up again once the claim has
    /// expired.
    pub async fn apply(&self, incoming: Vec<Incoming>) -> Result<Vec<Applied>, StoreError> {
        if incoming.is_empty() {
            return Ok(Vec::new());
        }
        let service = self.clone();
        to_its_end(async move { service.take(incoming).await }).await
    }

    async fn take(&self, incoming: Vec<Incoming>) -> Result<Vec<Applied>, StoreError> {
        self.core.bind().await?;
        let (mut applied, mut left) = (Vec::with_capacity(incoming.len()), incoming);
        while !left.is_empty() {
            // What was taken before it is recorded.
            let uncertain = |error: StoreError| if applied.is_empty() { error } else { error.uncertain() };
            let mut some = self.take_some(left).await.map_err(uncertain)?;
            left = some.left;
            applied.append(&mut some.applied);
        }
        Ok(applied)
    }

    /// Takes what one transaction takes of it, and carries out what that claims.
    async fn take_some(&self, incoming: Vec<Incoming>) -> Result<Passed, StoreError> {
        let executor = self.deferring();
        let events: Vec<_> = incoming.iter().map(event_of).map(|event| event.map(name)).collect();
        let job = ApplyJob::new(incoming, executor, self.core.settings.clone(), self.core.clock.wall());
        let mut passed = self.core.store.transact(job).await.map_err(|error| self.core.failed(error))?;
        let Carried { settled, failed } = self.carry_out_all(std::mem::take(&mut passed.claims)).await;
        for (claimed, applied) in settled {
            let claimed = name(&claimed);
            let waiting = |index: &usize| {
                passed.applied[*index] == Applied::Parked(Waits::Claim) && events[*index].as_ref() == Some(&claimed)
            };
            if let Some(index) = (0..passed.applied.len()).find(waiting) {
                passed.applied[index] = applied;
            }
        }
        self.core.note(&passed);
        failed.map_or(Ok(passed), Err)
    }

    /// Looks at every lane that keeps events: tries what is due, and what was claimed by somebody who is gone.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let mut after = None;
        loop {
            after = self.sweep_some(Scope::All { after }, &mut swept).await?.after;
            if after.is_none() {
                break;
            }
        }
        while self.sweep_some(Scope::Due, &mut swept).await?.more {}
        self.core.forget_ids().await?;
        Ok(swept)
    }

    /// Looks at the lanes that are due.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    pub async fn sweep_due(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        while self.sweep_some(Scope::Due, &mut swept).await?.more {}
        Ok(swept)
    }

    async fn sweep_some(&self, scope: Scope, swept: &mut Swept) -> Result<SweptSome, StoreError> {
        let service = self.clone();
        let some = to_its_end(async move { service.sweep_once(scope).await }).await?;
        swept.lanes += some.swept.lanes;
        swept.counts.add(&some.swept.counts);
        Ok(some)
    }

    async fn sweep_once(&self, scope: Scope) -> Result<SweptSome, StoreError> {
        self.core.bind().await?;
        let job = SweepJob {
            executor: self.deferring(),
            settings: self.core.settings.clone(),
            now: self.core.clock.wall(),
            scope,
            blame: Blame::default(),
            share: Share::of(&self.core.settings),
        };
        let done = self.core.store.transact(job).await.map_err(|error| self.core.failed(error))?;
        let mut swept = Swept { lanes: done.lanes, counts: done.passed.counts };
        let Carried { settled, failed } = self.carry_out_all(done.passed.claims).await;
        swept.counts.applied += settled.iter().filter(|(_, applied)| *applied == Applied::Applied).count() as u64;
        self.core.swept(swept.counts.applied);
        failed.map_or(Ok(SweptSome { swept, after: done.after, more: done.more }), Err)
    }

    /// Sweeps at the start and then `every` so often, until `shutdown`; what is claimed by then is carried out behind
    /// it, as by a dropped call.
    pub async fn run_sweeper(&self, every: Duration, shutdown: impl Future<Output = ()>) {
        sweep_on_timer(every, &self.core.ready, shutdown, async |all| {
            if all { self.sweep().await } else { self.sweep_due().await }
        })
        .await;
    }

    /// What an operator does to this inbox.
    pub fn operator(&self) -> InboxOperator<S> {
        InboxOperator::new(self.core.store.clone()).clock(self.core.clock.clone())
    }

    fn deferring(&self) -> Deferring {
        let expiry = self.claim.expiry;
        Deferring { expiry, ends: self.core.clock.moment() + expiry }
    }

    /// Handles what is claimed, each to its end whatever becomes of the others.
    async fn carry_out_all(&self, claims: Vec<Claim>) -> Carried {
        let mut all = Carried::default();
        let mut running =
            stream::iter(claims).map(|claim| self.carry_out(claim)).buffer_unordered(self.claim.concurrency);
        while let Some(Carried { settled, failed }) = running.next().await {
            all.settled.extend(settled);
            all.failed = all.failed.or(failed);
        }
        all
    }

    /// Handles a claimed event, and what its completion makes ready, one after the other.
    async fn carry_out(&self, claim: Claim) -> Carried {
        let mut carried = Carried::default();
        let mut claims = vec![claim];
        while let Some(claim) = claims.pop() {
            let event = claim.event.clone();
            match self.handle(claim).await {
                Ok(None) => {}
                Ok(Some(passed)) => {
                    carried.settled.extend(passed.applied.into_iter().map(|applied| (event.clone(), applied)));
                    claims.extend(passed.claims.into_iter().rev());
                }
                Err(error) => {
                    tracing::warn!(event = event.id(), %error, "a claimed event could not be settled; its claim expires");
                    carried.failed = carried.failed.or(Some(error));
                }
            }
        }
        carried
    }

    /// Handles one claimed event and records the answer; `None` if the claim is lost.
    async fn handle(&self, claim: Claim) -> Result<Option<Passed>, StoreError> {
        let id = claim.event.id.clone();
        if !self.still_held(&claim).await? {
            tracing::warn!(event = &*id, "a claim ended before its handler's turn; somebody else has it");
            return Ok(None);
        }
        let answer = self.ask(&claim).await;
        let job = CompleteJob {
            claim,
            answer,
            executor: self.deferring(),
            settings: self.core.settings.clone(),
            now: self.core.clock.wall(),
        };
        let completed = self.core.store.transact(job).await.map_err(|error| self.core.failed(error))?;
        if completed.is_none() {
            tracing::warn!(event = &*id, "a claim ended before its handler's answer could be recorded");
        }
        Ok(completed)
    }

    /// Whether the claim is held for as long as the handler may take: one that waited too long for the handler's turn is
    /// renewed.
    async fn still_held(&self, claim: &Claim) -> Result<bool, StoreError> {
        let ClaimSettings { timeout, expiry, .. } = self.claim;
        // Half of what a claim lasts beyond the handler is left for the commit of its answer.
        if self.core.clock.moment() + timeout + expiry.saturating_sub(timeout) / 2 <= claim.ends {
            return Ok(true);
        }
        let job = RenewJob { claim: claim.clone(), expiry, now: self.core.clock.wall() };
        self.core.store.transact(job).await.map_err(|error| self.core.failed(error))
    }

    async fn ask(&self, claim: &Claim) -> Answer {
        let claimed = Claimed {
            idempotency_key: format!("{} {}", claim.event.source(), claim.event.id()),
            event: claim.event.clone(),
            attempt: claim.attempts + 1,
        };
        let handling = AssertUnwindSafe(self.handler.handle(&claimed)).catch_unwind();
        match tokio::time::timeout(self.claim.timeout, handling).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::retry("the handler panicked"),
            Err(_) => Answer::retry(format!("the handler took longer than {:?}", self.claim.timeout)),
        }
    }
}

/// What became of claimed events, and the first failure of the store on the way.
#[derive(Default)]
struct Carried {
    settled: Vec<(Event, Applied)>,
    failed: Option<StoreError>,
}

/// What one transaction of a sweep, and the handlers after it, have done.
struct SweptSome {
    swept: Swept,
    /// Where a sweep of all lanes goes on; `None` at its end.
    after: Option<LaneId>,
    more: bool,
}

/// Runs `work` in a task of its own, so that it goes on to its end though whoever waits for it is gone.
async fn to_its_end<R: Send + 'static>(
    work: impl Future<Output = Result<R, StoreError>> + Send + 'static,
) -> Result<R, StoreError> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => result,
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => {
            let message = "the runtime ended before the inbox had finished: send the events again";
            Err(StoreError::new(ErrorKind::Unavailable, message).uncertain())
        }
    }
}

fn event_of(incoming: &Incoming) -> Option<&Event> {
    match incoming {
        Incoming::Event(event) => Some(event),
        Incoming::Undecodable { .. } => None,
    }
}

fn name(event: &Event) -> (String, String) {
    (event.source().to_owned(), event.id().to_owned())
}

impl<S: InboxStore, C: ClaimHandler> Service<Vec<Incoming>> for ClaimService<S, C> {
    type Response = Vec<Applied>;
    type Error = StoreError;
    type Future = AppliedFuture<Vec<Applied>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, incoming: Vec<Incoming>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { service.apply(incoming).await })
    }
}

impl<S: InboxStore, C: ClaimHandler> Service<Event> for ClaimService<S, C> {
    type Response = Applied;
    type Error = StoreError;
    type Future = AppliedFuture<Applied>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, event: Event) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { only(service.apply(vec![Incoming::Event(event)]).await?) })
    }
}

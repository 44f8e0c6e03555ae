//! The service that an inbox around a handler is.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::Service;

use super::{
    applied::Applied,
    core::Core,
    handler::Handler,
    jobs::{ApplyJob, FailJob, Scope, SeedJob, Share, Sweep, SweepJob},
    operator::InboxOperator,
    pass::{Blame, Direct, failed_with},
    raw::RawMessage,
    settings::Mode,
    sweeper::sweep_on_timer,
};
use crate::{
    error::{ErrorKind, StoreError},
    event::{Event, Key},
    inbox_store::{InboxCounts, InboxStore},
    place::Place,
};

/// What arrives at an inbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// An event.
    Event(Event),
    /// A message that could not be decoded: it is kept as a dead letter, and parks nothing.
    Undecodable {
        /// The message as it came.
        message: RawMessage,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<Event> for Incoming {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// Where a key stood when a consumer's state was taken over: the last place that the state holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The CloudEvents `source`.
    pub producer: String,
    /// The key.
    pub key: Key,
    /// The last place that the state holds.
    pub place: Place,
}

/// What became of the seeds that an inbox was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seeded {
    /// Those whose marks were written.
    pub written: Vec<Seed>,
    /// Those whose keys stood at their place already, or beyond it, and were left as they are.
    pub left: Vec<SeedLeft>,
}

/// A seed that its key was beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedLeft {
    /// The seed.
    pub seed: Seed,
    /// Where its key stands.
    pub mark: Place,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Lanes looked at.
    pub lanes: u64,
    /// What became of their events.
    pub counts: InboxCounts,
}

/// A handler with an inbox around it: a [`tower::Service`] of events, alone or in batches.
///
/// Always ready; a call waits for room in the store's queue. Cloning is cheap and gives the same inbox. A batch is one
/// transaction, or several where a transaction does not take so much, and several batches at a time share one. An error means that nothing may be acknowledged.
pub struct InboxService<S, H> {
    core: Core<S>,
    handler: Arc<H>,
}

impl<S: Clone, H> Clone for InboxService<S, H> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), handler: self.handler.clone() }
    }
}

impl<S, H> InboxService<S, H> {
    pub(crate) fn new(core: Core<S>, handler: H) -> Self {
        Self { core, handler: Arc::new(handler) }
    }
}

impl<S, H> InboxService<S, H>
where
    S: InboxStore,
    H: for<'t> Handler<S::Tx<'t>>,
{
    /// Takes `incoming` and gives, in its order, what became of each once that is durable.
    ///
    /// # Errors
    /// [`StoreError`] if nothing was recorded, or, if the error is uncertain, may have been: acknowledge nothing.
    pub async fn apply(&self, incoming: Vec<Incoming>) -> Result<Vec<Applied>, StoreError> {
        if incoming.is_empty() {
            return Ok(Vec::new());
        }
        self.core.bind().await?;
        let (mut applied, mut left) = (Vec::with_capacity(incoming.len()), incoming);
        while !left.is_empty() {
            let executor = Direct(self.handler.clone());
            let job = ApplyJob::new(left, executor, self.core.settings.clone(), self.core.clock.wall());
            // What was taken before it is recorded.
            let uncertain = |error: StoreError| if applied.is_empty() { error } else { error.uncertain() };
            let mut passed = self.core.store.transact(job).await.map_err(|error| uncertain(self.core.failed(error)))?;
            self.core.note(&passed);
            left = std::mem::take(&mut passed.left);
            applied.append(&mut passed.applied);
        }
        Ok(applied)
    }

    /// Looks at every lane that keeps events: tries what is due, applies what is ready. Forgets ids that expired.
    ///
    /// # Errors
    /// [`StoreError`] as the store gave it.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let mut after = None;
        loop {
            let done = self.sweep_some(Scope::All { after }, &mut swept).await?;
            if done.after.is_none() {
                break;
            }
            after = done.after;
        }
        // What the first look left for the next transaction is due by now.
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

    async fn sweep_some(&self, scope: Scope, swept: &mut Swept) -> Result<Sweep, StoreError> {
        self.core.bind().await?;
        let blame = Blame::default();
        let done = loop {
            let job = SweepJob {
                executor: Direct(self.handler.clone()),
                settings: self.core.settings.clone(),
                now: self.core.clock.wall(),
                scope: scope.clone(),
                blame: blame.clone(),
                share: Share::of(&self.core.settings),
            };
            match self.core.store.transact(job).await {
                Ok(done) => break done,
                Err(error) => self.put_off(&blame, self.core.failed(error)).await?,
            }
        };
        self.core.swept(done.passed.counts.applied);
        swept.lanes += done.lanes;
        swept.counts.add(&done.passed.counts);
        Ok(done)
    }

    /// Counts a sweep's failure as an attempt at the event that it was at, so that the next goes on without it.
    async fn put_off(&self, blame: &Blame, error: StoreError) -> Result<(), StoreError> {
        let Some(blamed) = blame.take() else { return Err(error) };
        tracing::warn!(lane = ?blamed.lane, %error, "an attempt at a kept event made its transaction fail");
        let job = FailJob {
            blamed,
            reason: failed_with(&error),
            executor: Direct(self.handler.clone()),
            settings: self.core.settings.clone(),
            now: self.core.clock.wall(),
        };
        // A store that cannot even record this is what failed.
        if self.core.store.transact(job).await? { Ok(()) } else { Err(error) }
    }

    /// Sweeps at the start and then `every` so often, until `shutdown`. Every consumer runs one; several do no harm.
    pub async fn run_sweeper(&self, every: Duration, shutdown: impl Future<Output = ()>) {
        sweep_on_timer(every, &self.core.ready, shutdown, async |all| {
            if all { self.sweep().await } else { self.sweep_due().await }
        })
        .await;
    }

    /// Writes marks, and with them, in one transaction, the state that they belong to: for a consumer that joins late
    /// with a copy of the state. `state` is given the seeds whose marks are written, and writes the state of those keys
    /// alone. It may be called several times, in transactions of which one commits.
    ///
    /// A key that stands at its seed or beyond it is left as it is, mark and state, and named in what is given back: what
    /// was applied since would not come again. So a consumer may seed at each start. To go back there is
    /// [`InboxOperator::rewind`].
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] in mode `once`, which keeps no marks; [`StoreError`] of `state` or of the store. Nothing
    /// was written then.
    pub async fn seed<F>(&self, seeds: Vec<Seed>, state: F) -> Result<Seeded, StoreError>
    where
        F: for<'t> AsyncFnMut(&mut S::Tx<'t>, &[Seed]) -> Result<(), StoreError> + Send + 'static,
    {
        if self.core.settings.mode == Mode::Once {
            let message = "mode `once` keeps no marks that could be seeded: use another mode";
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        self.core.bind().await?;
        let seeded = self.core.store.transact(SeedJob { seeds, state, now: self.core.clock.wall() }).await?;
        // What is kept behind a mark that was moved on may be next.
        self.core.ready.notify_one();
        Ok(seeded)
    }

    /// What an operator does to this inbox.
    pub fn operator(&self) -> InboxOperator<S> {
        InboxOperator::new(self.core.store.clone()).clock(self.core.clock.clone())
    }
}

/// The future of an inbox service.
pub type AppliedFuture<R> = Pin<Box<dyn Future<Output = Result<R, StoreError>> + Send>>;

impl<S, H> Service<Vec<Incoming>> for InboxService<S, H>
where
    S: InboxStore,
    H: for<'t> Handler<S::Tx<'t>>,
{
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

impl<S, H> Service<Vec<Event>> for InboxService<S, H>
where
    S: InboxStore,
    H: for<'t> Handler<S::Tx<'t>>,
{
    type Response = Vec<Applied>;
    type Error = StoreError;
    type Future = AppliedFuture<Vec<Applied>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, events: Vec<Event>) -> Self::Future {
        let service = self.clone();
        let incoming = events.into_iter().map(Incoming::Event).collect();
        Box::pin(async move { service.apply(incoming).await })
    }
}

impl<S, H> Service<Event> for InboxService<S, H>
where
    S: InboxStore,
    H: for<'t> Handler<S::Tx<'t>>,
{
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

/// The one outcome of one event.
pub(crate) fn only(applied: Vec<Applied>) -> Result<Applied, StoreError> {
    let none = || StoreError::new(ErrorKind::Invalid, "the inbox gave no outcome for an event");
    applied.into_iter().next().ok_or_else(none)
}

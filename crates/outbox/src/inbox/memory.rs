//! An inbox in memory: for tests, and as the plainest picture of what a store does. Nothing survives the process.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt;
use jiff::Timestamp;

use super::handler::{Answer, Handler};
use crate::{
    error::{ErrorKind, StoreError},
    event::Event,
    inbox_store::{Abort, EventId, InboxCounts, InboxKept, InboxStore, Isolation, Job, LaneId, LaneRecord},
    place::Place,
};

mod journal;
mod tx;

use journal::Journal;

/// An inbox in memory, with the state that handlers write.
pub struct MemoryInbox<S> {
    inner: Arc<Mutex<Inner<S>>>,
}

impl<S> Clone for MemoryInbox<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<S: Default> MemoryInbox<S> {
    /// An inbox that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S: Default> Default for MemoryInbox<S> {
    fn default() -> Self {
        Self { inner: Arc::default() }
    }
}

impl<S: Clone> MemoryInbox<S> {
    /// A copy of the state that handlers have written.
    pub fn state(&self) -> S {
        lock(&self.inner).state.clone()
    }
}

fn lock<S>(inner: &Mutex<Inner<S>>) -> MutexGuard<'_, Inner<S>> {
    // A handler's panic is caught before it gets here.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Inner<S> {
    state: S,
    mode: Option<&'static str>,
    counts: InboxCounts,
    last_kept: u64,
    lanes: Journal<LaneId, LaneRecord>,
    ids: Journal<EventId, (Timestamp, bool)>,
    kept: Journal<(LaneId, Place), InboxKept>,
    waits: Journal<LaneId, LaneId>,
}

impl<S> Inner<S> {
    fn point(&self) -> Point {
        Point {
            counts: self.counts,
            lanes: self.lanes.point(),
            ids: self.ids.point(),
            kept: self.kept.point(),
            waits: self.waits.point(),
        }
    }

    fn back_to(&mut self, point: &Point) {
        self.counts = point.counts;
        self.lanes.back_to(point.lanes);
        self.ids.back_to(point.ids);
        self.kept.back_to(point.kept);
        self.waits.back_to(point.waits);
    }

    fn forget_journals(&mut self) {
        self.lanes.commit();
        self.ids.commit();
        self.kept.commit();
        self.waits.commit();
    }
}

/// What a rollback goes back to.
struct Point {
    counts: InboxCounts,
    lanes: usize,
    ids: usize,
    kept: usize,
    waits: usize,
}

/// One transaction of a [`MemoryInbox`].
pub struct MemoryTx<'t, S> {
    inner: &'t mut Inner<S>,
    guard: Option<(Point, S)>,
}

impl<S> MemoryTx<'_, S> {
    /// The state that the handler writes; a rollback takes back what is done to it.
    pub fn state(&mut self) -> &mut S {
        &mut self.inner.state
    }
}

impl<S: Clone + Send + 'static> InboxStore for MemoryInbox<S> {
    type Tx<'t> = MemoryTx<'t, S>;

    fn transact<J, O>(&self, mut job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static,
    {
        let inner = self.inner.clone();
        async move {
            let mut inner = lock(&inner);
            let inner = &mut *inner;
            let mut isolation = Isolation::Whole;
            loop {
                let (point, state) = (inner.point(), inner.state.clone());
                let mut tx = MemoryTx { inner, guard: None };
                // The lock must not be held over a wait, so a handler that waits is refused.
                let result = job.run(&mut tx, isolation).now_or_never();
                match result {
                    Some(Ok(output)) => {
                        inner.forget_journals();
                        return Ok(output);
                    }
                    failed => {
                        inner.back_to(&point);
                        inner.state = state;
                        match failed {
                            Some(Err(Abort::Redo)) if isolation == Isolation::Whole => isolation = Isolation::Each,
                            Some(Err(Abort::Store(_))) | None if Job::<MemoryTx<'_, S>>::again(&mut job) => {
                                isolation = Isolation::Whole;
                            }
                            Some(Err(Abort::Store(error))) => return Err(error),
                            Some(Err(Abort::Redo) | Ok(_)) | None => return Err(waited()),
                        }
                    }
                }
            }
        }
    }
}

fn waited() -> StoreError {
    let message = "a handler waited for something outside of its transaction, which an inbox in memory does not allow: do that in a `ClaimHandler`";
    StoreError::new(ErrorKind::Invalid, message)
}

/// What a store says of records that another mode made: ids tell nothing of order, and marks nothing of ids.
pub fn other_mode(known: &str, mode: &str) -> StoreError {
    let message = format!(
        "this inbox holds the records of mode `{known}`, which mode `{mode}` cannot go on with: use `{known}`, or give the consumer another inbox and seed it"
    );
    StoreError::new(ErrorKind::Invalid, message)
}

/// A handler of a plain function, which is given the state and the event.
pub fn handler_fn<S, A, F>(handle: F) -> HandlerFn<F>
where
    F: Fn(&mut S, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    HandlerFn(handle)
}

/// A handler made by [`handler_fn`].
pub struct HandlerFn<F>(F);

impl<'t, S, A, F> Handler<MemoryTx<'t, S>> for HandlerFn<F>
where
    F: Fn(&mut S, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    async fn handle(&self, tx: &mut MemoryTx<'t, S>, event: &Event) -> Answer {
        (self.0)(tx.state(), event).into()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;

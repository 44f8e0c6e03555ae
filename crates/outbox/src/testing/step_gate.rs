//! A relay's death between any two of its I/Os.

use std::{
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    hooked::{Call, Hook, Hooked, InWords},
    io::Io,
};
use crate::{bookkeeping::Operator, error::StoreError, sink::Sink, source::Source, store::BusinessStore};

mod sink;
mod state;
mod step;
#[cfg(test)]
mod tests;

pub use step::{Side, Step};

use sink::GatedSink;
use state::{Mode, State};

/// Counts the steps of a relay, two for each I/O, and stops it at the one that a test names.
///
/// Wrap everything that a relay works with. [`counting`](Self::counting) tells how many steps an undisturbed run has;
/// then for each of them make a gate by [`crash_at`](Self::crash_at), run the relay as a task, wait for
/// [`crashed`](Self::crashed), abort the task, and start another relay on the same backends with another gate. From the
/// crash on no I/O of the first relay begins or returns, so that it is as dead as by `kill -9`, whatever its other tasks
/// were about. [`by_hand`](Self::by_hand) stops at every step, for tests that need a certain interleaving.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::sync::Arc;
/// use outbox::{Bookkeeping, Operator, RouteName, memory::{MemoryBookkeeping, SeededEntropy}, testing::{Io, Side, StepGate}};
///
/// let memory = Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1)));
/// let route = RouteName::new("a").unwrap();
/// let gate = StepGate::crash_at(2);
/// let gated = gate.bookkeeping(memory.clone());
/// let relay = tokio::spawn(async move { gated.pause(&route, true).await });
/// let step = gate.crashed().await;
/// relay.abort();
/// assert_eq!((step.io, step.side), (Io::Pause, Side::After));
/// assert_eq!(memory.paused().await.unwrap().len(), 1); // it took effect, and nobody was told
/// # }
/// ```
#[derive(Clone)]
pub struct StepGate(Arc<Gate>);

struct Gate {
    mode: Mode,
    state: Mutex<State>,
    /// Changes with every step, for those who wait for one.
    steps: watch::Sender<u64>,
    /// Changes whenever a step may go on.
    passes: watch::Sender<u64>,
}

impl StepGate {
    fn new(mode: Mode) -> Self {
        let (steps, passes) = (watch::Sender::new(0), watch::Sender::new(0));
        Self(Arc::new(Gate { mode, state: Mutex::default(), steps, passes }))
    }

    /// A gate that counts and never stops anything.
    pub fn counting() -> Self {
        Self::new(Mode::Counting)
    }

    /// A gate at whose step `number` everything stops for good.
    pub fn crash_at(number: u64) -> Self {
        Self::new(Mode::CrashAt(number))
    }

    /// A gate at which everything stops for good before, or after, the `nth` I/O of this kind, counted from 1. Where
    /// threads decide what comes first, a step's number does not say what it is; this does.
    pub fn crash_at_io(io: Io, side: Side, nth: usize) -> Self {
        Self::new(Mode::CrashAtIo(io, side, nth))
    }

    /// A gate at whose step `number` that one call stands for good, while everything else goes on: I/Os that are under
    /// way together may end in any order. See [`stalled`](Self::stalled) and [`crash`](Self::crash).
    pub fn stall_at(number: u64) -> Self {
        Self::new(Mode::StallAt(number))
    }

    /// A gate at which each step waits until it is told to go on.
    pub fn by_hand() -> Self {
        Self::new(Mode::ByHand)
    }

    /// How many steps there were.
    pub fn steps(&self) -> u64 {
        self.state().trace.len() as u64
    }

    /// All steps, in order.
    pub fn trace(&self) -> Vec<Step> {
        self.state().trace.clone()
    }

    /// Waits until the step is reached at which everything stops.
    pub async fn crashed(&self) -> Step {
        self.found(|state| state.crashed).await
    }

    /// Waits until the step is reached whose call stands for good.
    pub async fn stalled(&self) -> Step {
        self.found(|state| state.stalled).await
    }

    /// Waits until an I/O stands at a gate that is worked by hand, and gives the earliest such step.
    pub async fn standing(&self) -> Step {
        self.found(|state| state.waiting.values().next().copied()).await
    }

    /// Waits until `io` stands at a gate that is worked by hand, on this side.
    pub async fn standing_at(&self, io: Io, side: Side) -> Step {
        self.found(|state| state.waiting.values().find(|step| step.io == io && step.side == side).copied()).await
    }

    /// Lets `step` go on.
    pub fn pass(&self, step: Step) {
        self.state().passed.insert(step.number);
        self.0.passes.send_modify(|passes| *passes += 1);
    }

    /// Stops everything for good, wherever it stands.
    pub fn crash(&self) {
        self.state().stopped = true;
    }

    /// `inner`, behind this gate.
    pub fn source(&self, inner: Arc<dyn Source>) -> Arc<dyn Source> {
        Arc::new(Hooked::new(inner, self.clone()))
    }

    /// `inner`, behind this gate.
    pub fn store(&self, inner: Arc<dyn BusinessStore>) -> Arc<dyn BusinessStore> {
        Arc::new(Hooked::new(inner, self.clone()))
    }

    /// `inner`, behind this gate.
    pub fn bookkeeping(&self, inner: Arc<dyn Operator>) -> Arc<dyn Operator> {
        Arc::new(Hooked::new(inner, self.clone()))
    }

    /// `inner`, behind this gate.
    pub fn sink(&self, inner: Arc<dyn Sink>) -> Arc<dyn Sink> {
        Arc::new(GatedSink { inner, gate: self.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn found(&self, find: impl Fn(&State) -> Option<Step>) -> Step {
        let mut steps = self.0.steps.subscribe();
        loop {
            if let Some(step) = find(&self.state()) {
                return step;
            }
            // The sender lives as long as this gate, so waiting cannot fail.
            let _ = steps.changed().await;
        }
    }

    async fn step(&self, io: Io, side: Side) {
        let mut passes = self.0.passes.subscribe();
        let (step, stops) = self.state().count(self.0.mode, io, side);
        self.0.steps.send_modify(|steps| *steps += 1);
        if stops {
            return pending().await;
        }
        if !matches!(self.0.mode, Mode::ByHand) {
            return;
        }
        let _standing = Standing { gate: self, number: step.number };
        loop {
            if self.is_stopped() {
                return pending().await;
            }
            if self.state().passed.contains(&step.number) {
                return;
            }
            let _ = passes.changed().await;
        }
    }

    fn is_stopped(&self) -> bool {
        self.state().stopped
    }
}

/// A step that waits, until it goes on or its call is dropped.
struct Standing<'a> {
    gate: &'a StepGate,
    number: u64,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.gate.state().waiting.remove(&self.number);
    }
}

#[async_trait]
impl Hook for StepGate {
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError> {
        self.step(call.io, Side::Before).await;
        Ok(())
    }

    async fn after(&self, call: &Call<'_>, _: &dyn InWords) -> Result<(), StoreError> {
        self.step(call.io, Side::After).await;
        Ok(())
    }

    async fn alive(&self) {
        if self.is_stopped() {
            pending::<()>().await;
        }
    }
}

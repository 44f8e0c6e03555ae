//! A relay's death between any two of its I/Os.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    hooked::{Hook, Hooked},
    io::Io,
};
use crate::{
    bookkeeping::Operator,
    error::StoreError,
    event::Event,
    sink::{Batch, Outcome, Sink, SinkError, SinkLimits},
    source::Source,
    store::BusinessStore,
};

/// Before an I/O, or after it took effect and before its answer is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Nothing has taken effect yet.
    Before,
    /// It took effect, and nobody knows yet.
    After,
}

impl Side {
    /// One and the other.
    pub const BOTH: [Self; 2] = [Self::Before, Self::After];

    /// `before` or `after`: schedules of crashes are written with it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One point in a relay's life at which it may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// Which one, from 1.
    pub number: u64,
    /// Which I/O.
    pub io: Io,
    /// Before or after it.
    pub side: Side,
}

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

#[derive(Clone, Copy)]
enum Mode {
    Counting,
    CrashAt(u64),
    CrashAtIo(Io, Side, usize),
    StallAt(u64),
    ByHand,
}

#[derive(Default)]
struct State {
    trace: Vec<Step>,
    /// Whether nothing goes on any more.
    stopped: bool,
    crashed: Option<Step>,
    stalled: Option<Step>,
    waiting: BTreeMap<u64, Step>,
    passed: BTreeSet<u64>,
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
        let (step, stops) = self.count(io, side);
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

    /// Counts a step; gives whether its call stops here.
    fn count(&self, io: Io, side: Side) -> (Step, bool) {
        let mut state = self.state();
        let step = Step { number: state.trace.len() as u64 + 1, io, side };
        if state.stopped {
            return (step, true);
        }
        state.trace.push(step);
        let crashes = match self.0.mode {
            Mode::Counting => false,
            Mode::CrashAt(number) => number == step.number,
            Mode::CrashAtIo(io, side, nth) => {
                let of_this_kind = |step: &&Step| (step.io, step.side) == (io, side);
                of_this_kind(&&step) && state.trace.iter().filter(of_this_kind).count() == nth
            }
            Mode::StallAt(number) => {
                if number == step.number {
                    state.stalled = Some(step);
                    return (step, true);
                }
                false
            }
            Mode::ByHand => {
                state.waiting.insert(step.number, step);
                false
            }
        };
        if crashes {
            state.stopped = true;
            state.crashed = Some(step);
        }
        (step, state.stopped)
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
    async fn before(&self, io: Io) -> Result<(), StoreError> {
        self.step(io, Side::Before).await;
        Ok(())
    }

    async fn after(&self, io: Io) -> Result<(), StoreError> {
        self.step(io, Side::After).await;
        Ok(())
    }

    async fn alive(&self) {
        if self.is_stopped() {
            pending::<()>().await;
        }
    }
}

struct GatedSink {
    inner: Arc<dyn Sink>,
    gate: StepGate,
}

#[async_trait]
impl Sink for GatedSink {
    fn limits(&self) -> SinkLimits {
        self.inner.limits()
    }

    fn size(&self, event: &Event) -> usize {
        self.inner.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.gate.step(Io::Check, Side::Before).await;
        let answer = self.inner.check().await;
        self.gate.step(Io::Check, Side::After).await;
        answer
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        self.gate.step(Io::Publish, Side::Before).await;
        let answer = self.inner.publish(batch).await;
        self.gate.step(Io::Publish, Side::After).await;
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bookkeeping::Bookkeeping,
        memory::{MemoryBookkeeping, SeededEntropy},
        route::RouteName,
    };

    fn memory() -> Arc<MemoryBookkeeping> {
        Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1)))
    }

    async fn pause(bookkeeping: Arc<dyn Operator>, name: &str) {
        bookkeeping.pause(&RouteName::new(name).unwrap(), true).await.unwrap();
    }

    #[tokio::test]
    async fn a_counting_gate_counts_two_steps_an_io_and_stops_nothing() {
        let gate = StepGate::counting();
        pause(gate.bookkeeping(memory()), "a").await;
        let trace: Vec<_> = gate.trace().iter().map(|step| (step.number, step.io, step.side)).collect();
        assert_eq!(trace, [(1, Io::Pause, Side::Before), (2, Io::Pause, Side::After)]);
    }

    #[tokio::test]
    async fn a_crash_before_an_io_leaves_no_effect_and_stops_every_other_task() {
        let memory = memory();
        let gate = StepGate::crash_at(3);
        let gated = gate.bookkeeping(memory.clone());
        pause(gated.clone(), "a").await;
        let first = tokio::spawn(pause(gated.clone(), "b"));
        assert_eq!(gate.crashed().await, Step { number: 3, io: Io::Pause, side: Side::Before });
        let second = tokio::spawn(pause(gated, "c"));
        tokio::task::yield_now().await;
        assert!(!first.is_finished() && !second.is_finished());
        assert_eq!(memory.paused().await.unwrap(), [RouteName::new("a").unwrap()]);
        assert_eq!(gate.steps(), 3);
    }

    #[tokio::test]
    async fn a_crash_can_be_told_by_the_kind_of_io() {
        let memory = memory();
        let gate = StepGate::crash_at_io(Io::Pause, Side::After, 2);
        let gated = gate.bookkeeping(memory.clone());
        let relay = tokio::spawn(async move {
            gated.paused().await.unwrap();
            pause(gated.clone(), "a").await;
            pause(gated.clone(), "b").await;
        });
        assert_eq!(gate.crashed().await, Step { number: 6, io: Io::Pause, side: Side::After });
        assert!(!relay.is_finished());
        assert_eq!(memory.paused().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_stalled_io_holds_up_no_other_until_everything_stops() {
        let memory = memory();
        let gate = StepGate::stall_at(1);
        let stalled = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "a"));
        assert_eq!(gate.stalled().await.number, 1);
        pause(gate.bookkeeping(memory.clone()), "b").await;
        assert!(!stalled.is_finished());
        gate.crash();
        let late = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "c"));
        tokio::task::yield_now().await;
        assert!(!late.is_finished());
        assert_eq!(memory.paused().await.unwrap(), [RouteName::new("b").unwrap()]);
    }

    #[tokio::test]
    async fn by_hand_an_io_goes_on_only_when_it_is_passed() {
        let memory = memory();
        let gate = StepGate::by_hand();
        let call = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "a"));
        let before = gate.standing().await;
        assert_eq!(memory.paused().await.unwrap(), []);
        gate.pass(before);
        let after = gate.standing_at(Io::Pause, Side::After).await;
        assert_eq!(memory.paused().await.unwrap().len(), 1);
        assert!(!call.is_finished());
        gate.pass(after);
        call.await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_call_stands_at_the_gate_no_more() {
        let gate = StepGate::by_hand();
        let memory = memory();
        let call = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "a"));
        let dropped = gate.standing().await;
        call.abort();
        call.await.unwrap_err();
        let _other = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "b"));
        assert_ne!(gate.standing().await, dropped);
        assert_eq!(memory.operator_changes().await.unwrap(), 0);
    }
}

//! What outlives every process of a run: stores, targets, what is armed, and what went wrong.

use std::{
    hash::{Hash, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use rustc_hash::FxHasher;
use tokio::sync::Notify;

use super::{
    again::Excuses,
    consumer::{Consumed, Effects, MachineClock, Transport},
    fault::{Fault, Tally},
    operator::Asked,
    patience::Patience,
    rule::{Breach, Rule},
    schedule::{CallFault, IoFault, PassFault, Scene, Schedule, Unwanted},
    source::Supply,
    trace::{BROKEN, STAMP, Trace},
    truth::Truth,
};
use crate::{
    bookkeeping::LeaseView,
    clock::{Clock as _, Moment},
    entry::Position,
    inbox::memory::MemoryInbox,
    memory::{MemoryBookkeeping, MemoryStore, SeededEntropy, TokioClock},
    route::RouteName,
    sink,
    testing::{Call, InWords, Io},
};

/// The CloudEvents `source` of everything that is written.
pub(super) const PRODUCER: &str = "/simulated";
/// I/Os after which a run is taken for one that will not end.
const MOST_STEPS: u64 = 100_000;

/// One world. All processes of a run share it.
pub(super) struct World {
    pub(super) scene: Scene,
    seed: u64,
    pub(super) clock: TokioClock,
    /// That of the consumer's machine.
    pub(super) consumer_clock: MachineClock,
    pub(super) store: MemoryStore,
    pub(super) supply: Supply,
    pub(super) books: Arc<MemoryBookkeeping>,
    pub(super) inbox: MemoryInbox<Effects>,
    pub(super) routes: Vec<RouteName>,
    /// Told when a message for the consumer may have come.
    pub(super) mail: Notify,
    state: Mutex<State>,
}

/// What changes.
pub(super) struct State {
    pub(super) truth: Truth,
    pub(super) armed: Armed,
    pub(super) targets: Vec<TargetState>,
    pub(super) tally: Tally,
    /// Faults are over: everything has to get well.
    pub(super) healed: bool,
    pub(super) excuses: Excuses,
    /// What each route's target has asked for.
    pub(super) patience: Vec<Patience>,
    /// The lease as it was last written, and when.
    pub(super) lease: Option<(LeaseView, Moment)>,
    /// Up to where it is known what was committed.
    pub(super) learned: Option<Position>,
    pub(super) consumer: Consumed,
    pub(super) transport: Transport,
    /// Replays that were asked for, and what each has to bring.
    pub(super) replays: Vec<Asked>,
    breaches: Vec<Breach>,
    trace: Option<Trace>,
    fingerprint: u64,
    steps: u64,
}

/// Faults that wait for their turn.
#[derive(Default)]
pub(super) struct Armed {
    pub(super) ios: Vec<(Io, u32, IoFault)>,
    pub(super) out: Vec<StoreOut>,
    pub(super) calls: Vec<(usize, u32, CallFault)>,
    pub(super) passes: Vec<(u32, PassFault)>,
    /// What the transport does with a message to the consumer, not counting those to skip: twice or once, and how late.
    pub(super) messages: Vec<(u32, bool, Duration)>,
}

/// A store refuses I/Os for a while.
pub(super) struct StoreOut {
    /// All of them, if none is named.
    pub(super) io: Option<Io>,
    pub(super) until: Moment,
    /// Whether one was refused.
    pub(super) struck: bool,
}

/// A target refuses every call for a while.
#[derive(Clone, Copy)]
pub(super) struct Outage {
    pub(super) until: Moment,
    pub(super) fault: sink::Fault,
    /// Whether one was refused.
    pub(super) struck: bool,
}

/// The other side of a route's sink.
#[derive(Default)]
pub(super) struct TargetState {
    pub(super) outage: Option<Outage>,
    /// By the number of the event.
    pub(super) unwanted: Vec<(usize, Unwanted)>,
}

impl World {
    pub(super) fn new(schedule: &Schedule, traced: bool) -> Self {
        let clock = TokioClock::default();
        let entropy = Arc::new(SeededEntropy::new(schedule.seed));
        #[expect(clippy::expect_used, reason = "the producer's name is a constant")]
        let store = MemoryStore::new(PRODUCER, Arc::new(clock), entropy.clone()).expect("a URI reference");
        let names = ["everything", "second"];
        let routes: Vec<RouteName> =
            names.iter().take(schedule.scene.routes.len()).map(|name| RouteName::stored(name)).collect();
        let state = State {
            truth: Truth::new(&schedule.scene),
            armed: Armed::default(),
            targets: routes.iter().map(|_| TargetState::default()).collect(),
            tally: Tally::default(),
            healed: false,
            excuses: Excuses::new(routes.len()),
            patience: routes.iter().map(|_| Patience::default()).collect(),
            lease: None,
            learned: None,
            consumer: Consumed::default(),
            transport: Transport::default(),
            replays: Vec::new(),
            breaches: Vec::new(),
            trace: traced.then(Trace::default),
            fingerprint: schedule.seed,
            steps: 0,
        };
        Self {
            supply: Supply::new(schedule.scene.source, &store, schedule.seed),
            scene: schedule.scene.clone(),
            seed: schedule.seed,
            clock,
            consumer_clock: MachineClock::new(clock),
            store,
            books: Arc::new(MemoryBookkeeping::new(&*entropy)),
            inbox: MemoryInbox::new(),
            routes,
            mail: Notify::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chance for `what`: the same in every run of this seed, whatever else happens in it. Otherwise a schedule of which
    /// something is left out would be another one altogether.
    pub(super) fn chance(&self, what: impl Hash) -> Rng {
        let mut hasher = FxHasher::default();
        (self.seed, what).hash(&mut hasher);
        Rng::with_seed(hasher.finish())
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.moment()
    }

    /// Time since the run began.
    pub(super) fn elapsed(&self) -> Duration {
        self.now().since(Moment::default())
    }

    /// Notes something for whoever reads the run.
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let at = self.elapsed();
        self.state().note(at, line);
    }

    /// A call begins. Whether it goes further: not if the run seems to have no end, which is a breach.
    pub(super) fn begins(&self, actor: &str, call: &Call<'_>) -> bool {
        let at = self.elapsed();
        let mut state = self.state();
        state.steps += 1;
        let steps = state.steps;
        state.mark(call.io as u64);
        state.traced(at, |trace| trace.begins(at, &format!("{actor}: {call}")));
        if steps == MOST_STEPS {
            state.breach(at, Breach::new(Rule::Bounded, format!("{MOST_STEPS} I/Os, and no end")));
        }
        steps < MOST_STEPS
    }

    /// A call took effect.
    pub(super) fn took_effect(&self, actor: &str, call: &Call<'_>, answer: &dyn InWords) {
        let at = self.elapsed();
        let mut state = self.state();
        state.mark(call.io as u64);
        state.traced(at, |trace| trace.ends(at, call.io, &format!("{actor}: {call}"), &answer.in_words()));
    }

    /// An operator changed what is kept.
    pub(super) fn kept_is_changed(&self) {
        let now = self.now();
        self.state().patience.iter_mut().for_each(|patience| patience.begins_anew(now));
    }

    /// The contract was broken.
    pub(super) fn breach(&self, rule: Rule, what: impl Into<String>) {
        self.broken(Breach::new(rule, what));
    }

    pub(super) fn broken(&self, breach: Breach) {
        let at = self.elapsed();
        let mut state = self.state();
        state.breach(at, breach);
    }

    pub(super) fn is_sound(&self) -> bool {
        self.state().breaches.is_empty()
    }

    /// What came of the run.
    pub(super) fn end(&self) -> Played {
        let mut state = self.state();
        if let Some(mode) = state.consumer.exercised(self.scene.consumer) {
            state.strikes(mode);
        }
        Played {
            breaches: std::mem::take(&mut state.breaches),
            tally: state.tally.clone(),
            trace: state.trace.take().map_or_else(Vec::new, Trace::into_lines),
            fingerprint: state.fingerprint,
            steps: state.steps,
            events: state.truth.len() as u64,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Played {
    /// How the contract was broken; empty unless something has a defect.
    pub breaches: Vec<Breach>,
    /// How often each fault struck.
    pub tally: Tally,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
    /// The same for the same run, traced or not: of when each thing happened and of which I/O it was. The text of the trace
    /// is not in it.
    pub fingerprint: u64,
    /// I/Os that were done.
    pub steps: u64,
    /// Events that were committed.
    pub events: u64,
}

impl Played {
    /// The line of the trace that says where the contract was broken first; none if it was kept, or nothing was traced.
    pub fn broken_at(&self) -> Option<usize> {
        self.trace.iter().position(|line| line.get(STAMP..).is_some_and(|text| text.starts_with(BROKEN)))
    }
}

impl State {
    pub(super) fn strikes(&mut self, fault: Fault) {
        self.tally.count(fault);
    }

    fn breach(&mut self, at: Duration, breach: Breach) {
        self.note(at, || format!("{BROKEN}{breach}"));
        // One thing that goes wrong makes many more.
        if self.breaches.len() < 8 {
            self.breaches.push(breach);
        }
    }

    fn note(&mut self, at: Duration, line: impl FnOnce() -> String) {
        self.traced(at, |trace| trace.note(at, &line()));
    }

    /// Something happens, which `tell` writes down.
    fn traced(&mut self, at: Duration, tell: impl FnOnce(&mut Trace)) {
        self.mark(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        if let Some(trace) = &mut self.trace {
            tell(trace);
        }
    }

    fn mark(&mut self, what: u64) {
        self.fingerprint = (self.fingerprint.rotate_left(5) ^ what).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

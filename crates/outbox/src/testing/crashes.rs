//! A relay that is killed between any two of its I/Os, on a backend of yours.
//!
//! One scenario has a relay do every kind of I/O: commits of one and of several events, with and without a key; an event
//! that is refused until the rule is mended, and redriven with what is parked behind it; one that is discarded; one that
//! the keeper tries again; calls that fail as a whole; retention; a replay; a clean restart and a clean stop.
//! [`undisturbed`] runs it through. [`at_every_step`] runs it once for each step of that run, kills the relay there as
//! `kill -9` does, has another one finish, and looks whether the contract was kept:
//!
//! - every committed event arrived, or the marker of the one that was discarded, and each key in the order of commits;
//! - what arrived twice was, at a kill between the two, not behind the stored checkpoint or still kept, and there were no
//!   more of them a kill than the window and the keeper's calls hold;
//! - at the end nothing is kept, the checkpoint is at the end, the lease is given up.
//!
//! Time has to be paused ([`tokio::time::pause`]), or every takeover takes its three seconds. Paused time leaps as soon
//! as no future can go on: a backend that waits for a thread of its own, and not for `spawn_blocking`, needs a [`Hook`]
//! that holds a blocking task while a call is under way.
//!
//! [`tokio::time::pause`]: https://docs.rs/tokio/latest/tokio/time/fn.pause.html
//! [`Hook`]: super::Hook

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use fastrand::Rng;

use super::{
    io::{Doer, Io},
    step_gate::{Side, Step},
    subject::Opened,
};
use crate::{bookkeeping::Operator, event::NewEvent};

mod lives;
mod scenario;
mod target;
mod verdict;
mod world;

/// What a relay works on that dies and is started again.
#[async_trait]
pub trait StoresUnderTest: Send + Sync + 'static {
    /// Commits `events` in one transaction, and has a running relay know.
    async fn write(&self, events: Vec<NewEvent>);

    /// Opens the business store as another process would. A relay of which it is will be dropped without a word.
    async fn open(&self) -> Opened;

    /// Opens the bookkeeping as another process would.
    async fn bookkeeping(&self) -> Arc<dyn Operator>;
}

/// Where a relay is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// At the step of this number, from 1.
    Step(u64),
    /// Before, or after, the I/O of this kind that is the `nth` of it, from 1. Where threads decide what comes first, a
    /// number alone does not say which step it is.
    Io {
        /// Which kind.
        io: Io,
        /// Before or after it.
        side: Side,
        /// The how many-th.
        nth: usize,
    },
    /// At the step of this number one call hangs, while everything that does not wait for it goes on for half a second;
    /// then the relay is killed. I/Os that are under way together may take effect in any order.
    Stalled(u64),
}

/// What came of one run of the scenario.
#[derive(Clone, Debug)]
pub struct Report {
    /// The steps until the first kill, or all of them.
    pub trace: Vec<Step>,
    /// Where the relay was killed. A kill at a step that was never reached is missing.
    pub killed: Vec<Step>,
    /// Events that arrived again, each time counted.
    pub duplicates: usize,
    /// How the contract was broken; empty unless the relay or the backend has a defect.
    pub breaches: Vec<String>,
}

/// The I/Os that the scenario has a relay do: all that every relay does.
pub fn exercised() -> impl Iterator<Item = Io> {
    Io::ALL.iter().copied().filter(|io| io.doer() == Doer::Relays)
}

/// Runs the scenario on empty stores, killing the first relay where `kills[0]` says, the one that takes over where
/// `kills[1]` says, and so on. A relay that is stopped in order and started again counts on.
pub async fn run(stores: impl StoresUnderTest, kills: &[Kill]) -> Report {
    scenario::run(Arc::new(stores), kills).await
}

/// Runs the scenario without a kill and gives its steps: every I/O of [`exercised`] is among them, and nothing arrives
/// twice.
///
/// # Panics
/// If the contract was broken, or an I/O is missing.
pub async fn undisturbed<S: StoresUnderTest>(fresh: impl AsyncFn() -> S) -> Vec<Step> {
    let report = run(fresh().await, &[]).await;
    assert_eq!(report.breaches, [""; 0], "without a kill");
    assert_eq!(report.duplicates, 0, "without a kill");
    for io in exercised() {
        assert!(report.trace.iter().any(|step| step.io == io), "the scenario does no {io:?}");
    }
    report.trace
}

/// Counts the steps of the scenario, and runs it once for each of them that is on this `side` of its I/O, killing the
/// relay there. `fresh` gives empty stores.
///
/// # Panics
/// With all breaches of the contract, and where the relay was killed for each; or if an I/O of [`exercised`] saw no
/// kill.
pub async fn at_every_step<S: StoresUnderTest>(side: Side, fresh: impl AsyncFn() -> S) {
    let steps = undisturbed(&fresh).await;
    let mut reports = Vec::new();
    let mut nth = BTreeMap::<Io, usize>::new();
    for Step { io, .. } in steps.into_iter().filter(|step| step.side == side) {
        let nth = nth.entry(io).and_modify(|nth| *nth += 1).or_insert(1);
        reports.push(run(fresh().await, &[Kill::Io { io, side, nth: *nth }]).await);
    }
    assert_sound(&reports);
    let killed: Vec<&Step> = reports.iter().flat_map(|report| &report.killed).collect();
    for io in exercised() {
        assert!(killed.iter().any(|step| step.io == io && step.side == side), "no kill {side:?} {io:?}");
    }
}

/// Runs the scenario once for each of its steps, with the I/O that is there hanging for a while before the relay is
/// killed.
///
/// # Panics
/// With all breaches of the contract, and where the relay was killed for each.
pub async fn with_every_io_hanging<S: StoresUnderTest>(fresh: impl AsyncFn() -> S) {
    let mut reports = Vec::new();
    for step in undisturbed(&fresh).await {
        reports.push(run(fresh().await, &[Kill::Stalled(step.number)]).await);
    }
    assert_sound(&reports);
}

/// Runs the scenario `pairs` times with two kills each, at steps that `seed` decides.
///
/// # Panics
/// With all breaches of the contract, and where the relay was killed for each.
pub async fn at_pairs_of_steps<S: StoresUnderTest>(seed: u64, pairs: usize, fresh: impl AsyncFn() -> S) {
    /// What a relay does that takes over, besides going on.
    const TAKEOVER: u64 = 40;
    let steps = undisturbed(&fresh).await.len() as u64;
    let mut rng = Rng::with_seed(seed);
    let mut reports = Vec::new();
    for _ in 0..pairs {
        let first = rng.u64(1..=steps);
        let second = rng.u64(1..=steps - first + TAKEOVER);
        reports.push(run(fresh().await, &[Kill::Step(first), Kill::Step(second)]).await);
    }
    assert_sound(&reports);
}

fn assert_sound(reports: &[Report]) {
    let told = reports.iter().filter(|report| !report.breaches.is_empty());
    let breaches: Vec<String> =
        told.map(|report| format!("killed at {:?}:\n  {}", report.killed, report.breaches.join("\n  "))).collect();
    assert!(
        breaches.is_empty(),
        "{} of {} runs broke the contract\n{}",
        breaches.len(),
        reports.len(),
        breaches.join("\n")
    );
}

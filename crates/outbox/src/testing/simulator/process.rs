//! A relay process of a run: it dies, stands still, and every I/O of it can go wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryFutureExt as _;
use tokio::{sync::Notify, time::sleep};

use super::{
    checks::{self, at_once},
    fault::Fault,
    rule::Rule,
    schedule::IoFault,
    stale::Stale,
    worker::{FAILOVER, LEASE},
    world::{State, StoreOut, World},
};
use crate::{
    bookkeeping::Bookkeeping as _,
    clock::Moment,
    error::{ErrorKind, StoreError},
    testing::{Call, Hook, InWords, Io, Side},
};

/// One life of a process: from its start to its end, however that comes.
pub(super) struct Life {
    pub(super) name: String,
    dead: AtomicBool,
    died: Notify,
    frozen: Mutex<Option<Moment>>,
    /// When it was asked to stop in order.
    stopping: Mutex<Option<Moment>>,
    renewed: Mutex<Option<Moment>>,
    /// The epochs in which it took the lease.
    epochs: Mutex<BTreeSet<u64>>,
    /// Whether one of its I/Os suffered a fault.
    disturbed: AtomicBool,
    /// I/Os so far, by kind.
    counts: Mutex<BTreeMap<Io, u64>>,
}

impl Life {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            dead: AtomicBool::new(false),
            died: Notify::new(),
            frozen: Mutex::default(),
            stopping: Mutex::default(),
            renewed: Mutex::default(),
            epochs: Mutex::default(),
            disturbed: AtomicBool::new(false),
            counts: Mutex::default(),
        }
    }

    fn count(&self, io: Io) -> u64 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(io).and_modify(|count| *count += 1).or_default()
    }

    /// Whether something went wrong with it.
    pub(super) fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed)
    }

    /// From now on no I/O of this life begins or returns.
    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_one();
    }

    pub(super) async fn death(&self) {
        self.died.notified().await;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// It is asked to stop in order.
    pub(super) fn stop(&self, now: Moment) {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Since when it stops in order, if nothing else went wrong with it.
    pub(super) fn stops_since(&self) -> Option<Moment> {
        let stopping = *self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        stopping.filter(|_| !self.is_dead() && !self.is_disturbed())
    }

    /// Returns while this life goes on; never, once it is over.
    pub(super) async fn alive(&self) {
        if self.is_dead() {
            pending::<()>().await;
        }
    }

    /// The store took or renewed its lease; `None` if it took it back.
    fn renewed(&self, at: Option<Moment>) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// When the store last took or renewed its lease, if it was not given back.
    pub(super) fn last_renewed(&self) -> Option<Moment> {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn took(&self, epoch: u64) {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).insert(epoch);
    }

    /// Whether it ever took the lease in this epoch.
    fn has_taken(&self, epoch: u64) -> bool {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).contains(&epoch)
    }

    fn freeze(&self, until: Moment) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// For how long it still stands still.
    pub(super) fn frozen_for(&self, now: Moment) -> Option<Duration> {
        let frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        frozen.filter(|until| *until > now).map(|until| until.since(now))
    }
}

/// Whether the store refuses this I/O at present. An outage is counted once.
fn is_out(state: &mut State, io: Io, now: Moment) -> bool {
    let is_refused = |out: &&mut StoreOut| out.io.is_none_or(|out| out == io) && now < out.until;
    let Some(out) = state.armed.out.iter_mut().find(is_refused) else { return false };
    let fault = if out.io.is_some() { Fault::IoOut } else { Fault::StoreOut };
    if !std::mem::replace(&mut out.struck, true) {
        state.strikes(fault);
    }
    true
}

/// What is done around each I/O of a life.
#[derive(Clone)]
pub(super) struct Around {
    pub(super) world: Arc<World>,
    pub(super) life: Arc<Life>,
}

impl Around {
    /// Whether the lease is this life's.
    pub(super) fn is_owner(&self) -> bool {
        at_once(self.world.books.lease(LEASE).map_ok(|lease| lease.holder == self.life.name && !lease.released))
    }

    /// What was on its way takes effect when the life goes on, if it stands still at this moment.
    pub(super) fn lands_later(&self, lands: impl FnOnce() + Send + 'static) {
        if self.life.is_dead() || self.life.frozen_for(self.world.now()).is_none() {
            return;
        }
        // A world that ends has no runtime for it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let around = self.clone();
        runtime.spawn(async move {
            around.go_on().await;
            lands();
        });
    }

    /// Returns while the life goes on, after it stood still for as long as it had to.
    async fn go_on(&self) {
        while let Some(left) = self.life.frozen_for(self.world.now()) {
            sleep(left).await;
        }
        self.life.alive().await;
    }

    async fn take_time(&self, io: Io) {
        let most = self.world.scene.latency;
        if most > 0 {
            let nth = self.life.count(io);
            let micros = self.world.chance((&self.life.name, io, nth)).u64(0..=most);
            sleep(Duration::from_micros(micros)).await;
        }
    }

    /// The fault that strikes this I/O, if one is armed for it that strikes at this point.
    fn strike(&self, io: Io, before: bool) -> Option<IoFault> {
        let mut state = self.world.state();
        if state.healed {
            return None;
        }
        if before && is_out(&mut state, io, self.world.now()) {
            self.life.disturbed.store(true, Ordering::Relaxed);
            return Some(IoFault::Fails);
        }
        let index = state.armed.ios.iter().position(|armed| armed.0 == io)?;
        let (_, skip, fault) = &mut state.armed.ios[index];
        if before && *skip > 0 {
            *skip -= 1;
            return None;
        }
        let strikes_after = matches!(fault, IoFault::KilledAfter | IoFault::AnswerLost | IoFault::AnswersLate(_));
        if *skip > 0 || before == strikes_after {
            return None;
        }
        let fault = *fault;
        state.armed.ios.remove(index);
        self.life.disturbed.store(true, Ordering::Relaxed);
        match fault {
            IoFault::KilledBefore => state.tally.count_killed(io, Side::Before),
            IoFault::KilledAfter => state.tally.count_killed(io, Side::After),
            _ => {}
        }
        state.strikes(match fault {
            IoFault::KilledBefore => Fault::KilledBefore,
            IoFault::KilledAfter => Fault::KilledAfter,
            IoFault::Fails => Fault::StoreFails,
            IoFault::Full => Fault::StoreFull,
            IoFault::AnswerLost => Fault::StoreAnswerLost,
            IoFault::Hangs(_) => Fault::StoreHangs,
            IoFault::AnswersLate(_) => Fault::StoreAnswersLate,
            IoFault::Frozen(lasts) if lasts > FAILOVER => Fault::Frozen,
            IoFault::Frozen(_) => Fault::Stalled,
        });
        Some(fault)
    }

    /// What happens before an I/O takes effect.
    async fn begin(&self, call: &Call<'_>) -> Result<(), StoreError> {
        let io = call.io;
        self.go_on().await;
        if !self.world.begins(&self.life.name, call) {
            pending::<()>().await;
        }
        self.take_time(io).await;
        self.go_on().await;
        let Some(fault) = self.strike(io, true) else { return Ok(()) };
        self.world.note(|| format!("{}: {io}: {fault}", self.life.name));
        match fault {
            IoFault::KilledBefore => self.die().await,
            IoFault::Fails => {
                // A relay that cannot begin with one route begins anew with all.
                self.world.disturb();
                return Err(StoreError::new(ErrorKind::Unavailable, "simulated: not now"));
            }
            IoFault::Full => {
                self.world.disturb();
                return Err(StoreError::new(ErrorKind::Full, "simulated: no room"));
            }
            IoFault::Hangs(lasts) => {
                // Whoever waits may give up, and does not know then what came of it.
                self.world.disturb();
                sleep(lasts).await;
            }
            IoFault::Frozen(lasts) => {
                self.world.disturb();
                self.life.freeze(self.world.now() + lasts);
            }
            IoFault::KilledAfter | IoFault::AnswerLost | IoFault::AnswersLate(_) => {}
        }
        self.go_on().await;
        Ok(())
    }

    async fn die(&self) -> ! {
        self.world.disturb();
        self.life.kill();
        pending().await
    }
}

#[async_trait]
impl Hook for Around {
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError> {
        let Some(lease) = call.lease else { return self.begin(call).await };
        let io = call.io;
        if !self.life.has_taken(lease.epoch) {
            let what = format!("{io:?} under the lease of epoch {}, which {} never took", lease.epoch, self.life.name);
            self.world.breach(Rule::Bounded, what);
        }
        let on_its_way = Stale::new(self, io, lease);
        let begun = self.begin(call).await;
        on_its_way.arrived();
        begun
    }

    async fn after(&self, call: &Call<'_>, answer: &dyn InWords) -> Result<(), StoreError> {
        let io = call.io;
        if io == Io::Take && self.is_owner() {
            self.life.took(at_once(self.world.books.lease(LEASE)).epoch);
        }
        match io {
            Io::Take | Io::Renew => self.life.renewed(Some(self.world.now())),
            Io::Release => self.life.renewed(None),
            _ => {}
        }
        self.world.took_effect(&self.life.name, call, answer);
        checks::after(&self.world, io);
        let fault = self.strike(io, false);
        if let Some(fault) = fault {
            self.world.note(|| format!("{}: {io}: {fault}", self.life.name));
        }
        if fault.is_some() && io == Io::Keep {
            // The keeper may be done with the lane by the time that the pipeline asks again, and its events go out then.
            self.world.excuse_unsettled();
        }
        match fault {
            Some(IoFault::KilledAfter) => self.die().await,
            Some(IoFault::AnswerLost) => {
                self.world.disturb();
                let lost = StoreError::new(ErrorKind::Unavailable, "simulated: the answer was lost").uncertain();
                return Err(lost);
            }
            Some(IoFault::AnswersLate(lasts)) => {
                // Whoever waits may give up, and does not know then that it took effect.
                self.world.disturb();
                sleep(lasts).await;
            }
            _ => {}
        }
        // The answer is on its way, too: others do something meanwhile.
        self.take_time(io).await;
        self.go_on().await;
        Ok(())
    }

    async fn failed(&self, call: &Call<'_>, error: &StoreError) {
        self.world.note(|| format!("{}: {} failed: {error}", self.life.name, call.io));
        if error.kind() == ErrorKind::Fenced {
            self.world.state().strikes(Fault::Fenced);
        }
        self.go_on().await;
    }

    async fn alive(&self) {
        self.go_on().await;
    }
}

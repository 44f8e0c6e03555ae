//! One relay after the other, each killed where the run says.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    time::Duration,
};

use futures_util::future::try_join;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{Kill, target::Target, world::World};
use crate::{
    error::StoreError,
    memory::SeededEntropy,
    relay::{Relay, RelayError, RetentionPolicy},
    route::{RetryPolicy, RouteSettings, WindowLimits},
    testing::step_gate::{Step, StepGate},
};

/// The relays' window: small, so that a kill finds it full.
pub(super) const WINDOW: usize = 10;
/// How many of the newest entries stay.
pub(super) const RETAINED: u64 = 4;
const FAILOVER: Duration = Duration::from_secs(3);
/// Time enough for a checkpoint of everything that does not wait for the call that hangs.
const STALL: Duration = Duration::from_millis(500);
/// The lease's name.
pub(super) const LEASE: &str = "relay";

/// What was known when a relay was killed.
pub(super) struct Killed {
    pub(super) step: Step,
    /// How many events had arrived.
    pub(super) arrivals: usize,
    /// How often each event may arrive again for this kill, by the route and by the replay.
    pub(super) unsettled: [BTreeMap<String, usize>; 2],
}

type Script<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// How a relay ended.
enum End {
    Killed(Step),
    Stopped,
}

pub(super) struct Lives<'a> {
    world: &'a World,
    gate: StepGate,
    to_come: VecDeque<Kill>,
    /// The first gate.
    first: StepGate,
    pub(super) kills: Vec<Killed>,
    started: u64,
}

impl<'a> Lives<'a> {
    pub(super) fn new(world: &'a World, kills: &[Kill]) -> Self {
        let mut to_come: VecDeque<Kill> = kills.iter().copied().collect();
        let gate = next_gate(&mut to_come);
        Self { world, first: gate.clone(), gate, to_come, kills: Vec::new(), started: 0 }
    }

    /// The steps behind the first gate.
    pub(super) fn trace(&self) -> Vec<Step> {
        self.first.trace()
    }

    /// Has relays live until `script` is through, one that is killed followed by another, and the last one stopped in
    /// order.
    pub(super) async fn live(&mut self, script: impl Future<Output = Result<(), String>> + 'a) -> Result<(), String> {
        let mut script: Script<'a> = Box::pin(script);
        let mut is_through = false;
        loop {
            match self.one_life(&mut script, &mut is_through).await? {
                End::Stopped => return Ok(()),
                End::Killed(step) => {
                    self.note_kill(step).await.map_err(|error| told(&error))?;
                    self.gate = next_gate(&mut self.to_come);
                    // Not before the next one owns the source may it stop.
                    let epoch = self.epoch().await.map_err(|error| told(&error))?;
                    let world = self.world;
                    let is_owned = async move || Ok(world.books.lease(LEASE).await?.epoch > epoch);
                    let rest = std::mem::replace(&mut script, Box::pin(std::future::ready(Ok(()))));
                    let rest = (!is_through).then_some(rest);
                    is_through = false;
                    script = Box::pin(async move {
                        let owned = world.until("another relay takes over", is_owned);
                        let rest = async { if let Some(rest) = rest { rest.await } else { Ok(()) } };
                        try_join(owned, rest).await.map(drop)
                    });
                }
            }
        }
    }

    async fn one_life(&mut self, script: &mut Script<'a>, is_through: &mut bool) -> Result<End, String> {
        let (running_on, shutdown) = oneshot::channel::<()>();
        let mut running_on = Some(running_on);
        let relay = self.relay().await.map_err(|error| error.to_string())?;
        let mut running = tokio::spawn(async move {
            let dropped = async { _ = shutdown.await };
            relay.run(dropped).await
        });
        loop {
            tokio::select! {
                biased;
                step = death(&self.gate) => {
                    kill(running).await;
                    return Ok(End::Killed(step));
                }
                ended = &mut running => return match ended {
                    Ok(Ok(())) if *is_through => Ok(End::Stopped),
                    Ok(Ok(())) => Err("a relay stopped that nobody had stopped".to_owned()),
                    Ok(Err(error)) => Err(format!("a relay gave up: {error}")),
                    Err(error) => Err(format!("a relay panicked: {error}")),
                },
                outcome = &mut *script, if !*is_through => {
                    outcome?;
                    *is_through = true;
                    drop(running_on.take());
                }
            }
        }
    }

    /// Another relay on the same stores, behind the gate.
    async fn relay(&mut self) -> Result<Relay, RelayError> {
        self.started += 1;
        let (stores, gate) = (&self.world.stores, &self.gate);
        let opened = stores.open().await;
        let target: Target = self.world.target.clone();
        Relay::builder()
            .name(LEASE)
            .holder(format!("relay {}", self.started))
            .source(gate.source(opened.source))
            .store(gate.store(opened.store))
            .bookkeeping(gate.bookkeeping(stores.bookkeeping().await))
            .route(self.settings(), gate.sink(std::sync::Arc::new(target)))
            .failover(FAILOVER)
            .retention(RetentionPolicy::Newest(RETAINED))
            .clock(self.world.clock.clone())
            .entropy(std::sync::Arc::new(SeededEntropy::new(self.started)))
            .build()
    }

    fn settings(&self) -> RouteSettings {
        RouteSettings {
            retry: RetryPolicy {
                quick_attempts: 2,
                base_delay: Duration::from_millis(20),
                max_delay: Duration::from_millis(200),
                ..RetryPolicy::default()
            },
            window: WindowLimits { events: WINDOW, ..WindowLimits::default() },
            ..RouteSettings::new(self.world.route.clone())
        }
    }

    async fn epoch(&self) -> Result<u64, StoreError> {
        Ok(self.world.books.lease(LEASE).await?.epoch)
    }

    async fn note_kill(&mut self, step: Step) -> Result<(), StoreError> {
        let world = self.world;
        let unsettled = [world.unsettled(&world.route).await?, world.unsettled(&world.replay).await?];
        self.kills.push(Killed { step, arrivals: world.target.arrivals().len(), unsettled });
        Ok(())
    }
}

/// Where a relay dies: at once, or after one of its calls has hung for a while.
async fn death(gate: &StepGate) -> Step {
    tokio::select! {
        step = gate.crashed() => step,
        step = gate.stalled() => {
            tokio::time::sleep(STALL).await;
            gate.crash();
            step
        }
    }
}

async fn kill(running: JoinHandle<Result<(), RelayError>>) {
    running.abort();
    // Cancelled, as it was asked to be.
    let _ = running.await;
}

fn next_gate(to_come: &mut VecDeque<Kill>) -> StepGate {
    match to_come.pop_front() {
        None => StepGate::counting(),
        Some(Kill::Step(number)) => StepGate::crash_at(number),
        Some(Kill::Stalled(number)) => StepGate::stall_at(number),
        Some(Kill::Io { io, side, nth }) => StepGate::crash_at_io(io, side, nth),
    }
}

fn told(error: &StoreError) -> String {
    format!("looking at what a killed relay left: {error}")
}

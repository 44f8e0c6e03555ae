//! Playing a schedule: on a runtime of one thread, whose time leaps as soon as nobody can go on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    consumer,
    fault::Fault,
    operator,
    rule::Rule,
    schedule::{BUSY, Incident, Schedule, Unwanted, What},
    service, shown, source, verdict,
    worker::{LEASE, Worker},
    world::{Outage, Played, StoreOut, World},
};
use crate::{
    bookkeeping::{Bookkeeping as _, Operator as _},
    memory::Snapshot,
    relay::{RelayError, RelayStatus},
};

/// How long it may take until everything has come right once no fault strikes any more.
const RIGHT_WITHIN: Duration = Duration::from_secs(600);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(400);
/// How long stopping in order may take: calls that hang are waited for up to the drain limit.
const STOPPING: Duration = Duration::from_secs(40);

/// Plays `schedule`; with its trace, if `traced`. The same schedule plays the same way, to the byte of its trace.
///
/// # Errors
/// If no runtime could be made.
pub fn play(schedule: &Schedule, traced: bool) -> std::io::Result<Played> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(async {
        let world = Arc::new(World::new(schedule, traced));
        let workers = Workers::new(&world);
        let run = async {
            busy(&world, &workers, schedule).await;
            heal(&world, &workers).await;
            finish(&world, &workers).await;
        };
        tokio::select! {
            biased;
            () = run => {}
            () = consumer::run(world.clone()) => {}
        }
        world.end()
    }))
}

/// The relays of a run.
pub(super) struct Workers(Vec<Arc<Worker>>);

impl Workers {
    fn new(world: &Arc<World>) -> Self {
        let workers: Vec<_> = (0..world.scene.relays).map(|index| Arc::new(Worker::new(index))).collect();
        for worker in &workers {
            let (worker, world) = (worker.clone(), world.clone());
            tokio::spawn(async move { worker.run(world).await });
        }
        let workers = Self(workers);
        workers.start_all();
        workers
    }

    pub(super) fn start_all(&self) {
        self.0.iter().for_each(|worker| worker.start());
    }

    /// Stops every relay in order. Says whether all of them did.
    pub(super) async fn stop_all(&self, world: &World) -> bool {
        self.0.iter().for_each(|worker| worker.stop(world));
        let until = Instant::now() + STOPPING;
        while self.0.iter().any(|worker| worker.is_running()) && Instant::now() < until {
            sleep(LOOK).await;
        }
        let ended: Vec<_> = self.0.iter().filter_map(|worker| worker.ended()).collect();
        for error in ended.iter().filter_map(|ended| ended.as_ref().err()) {
            world.breach(Rule::Loud, format!("a relay gave up: {error}"));
        }
        ended.len() == self.0.len()
    }

    /// Runs one relay until it ends by itself; `None` if it does not.
    pub(super) async fn run_to_its_end(
        &self,
        world: &World,
        index: usize,
        patience: Duration,
    ) -> Option<Result<(), RelayError>> {
        let worker = &self.0[index];
        worker.start();
        let until = Instant::now() + patience;
        loop {
            sleep(LOOK).await;
            if let Some(ended) = worker.ended() {
                return Some(ended);
            }
            if Instant::now() >= until {
                worker.stop(world);
                return None;
            }
        }
    }

    fn killed(&self, world: &World, index: usize) {
        world.disturb();
        if self.0[index].kill() {
            world.state().strikes(Fault::Killed);
        }
    }

    async fn restart(&self, world: &World, index: usize) {
        if self.0[index].is_running() {
            world.state().strikes(Fault::Restarted);
        }
        self.0[index].stop(world);
        sleep(LOOK).await;
        self.0[index].start();
    }

    /// Whether one of them owns the source.
    pub(super) fn own(&self) -> bool {
        self.owner().is_some()
    }

    /// What the one says that owns the source.
    fn owner(&self) -> Option<RelayStatus> {
        self.0.iter().filter_map(|worker| worker.status()).find(|status| status.owner)
    }

    /// A relay gives up only where a person has to decide, and no person has to, but for a restored backup.
    fn check(&self, world: &World) {
        for worker in &self.0 {
            if let Some(Err(error)) = worker.ended() {
                world.breach(Rule::Loud, format!("a relay gave up: {error}"));
            }
        }
    }
}

/// The service writes, and faults strike.
async fn busy(world: &Arc<World>, workers: &Workers, schedule: &Schedule) {
    let beginning = Instant::now();
    let mut backups = BTreeMap::<Duration, Vec<usize>>::new();
    for (index, incident) in schedule.incidents.iter().enumerate() {
        if let What::Restore { since } = incident.what {
            backups.entry(incident.at.saturating_sub(since)).or_default().push(index);
        }
    }
    let mut copies = BTreeMap::<usize, Snapshot>::new();
    for (index, Incident { number, at, what }) in schedule.incidents.iter().enumerate() {
        while let Some((&due, _)) = backups.first_key_value().filter(|(due, _)| *due <= at) {
            sleep_until(beginning + due).await;
            for restore in backups.remove(&due).unwrap_or_default() {
                copies.insert(restore, world.store.snapshot());
            }
        }
        sleep_until(beginning + *at).await;
        match copies.remove(&index) {
            Some(copy) => {
                operator::restore(world, workers, &copy).await;
                // Older copies of another history are no backups of this one.
                copies.clear();
            }
            None => happen(world, workers, *number, what).await,
        }
        workers.check(world);
    }
    sleep_until(beginning + Duration::from_millis(BUSY)).await;
}

async fn happen(world: &Arc<World>, workers: &Workers, number: usize, what: &What) {
    // The others are told of where they are done, with what came of them.
    if !matches!(what, What::Transaction { .. } | What::Reshard(_) | What::Trim { .. } | What::Kill { .. }) {
        world.note(|| format!("incident: {what}"));
    }
    match what {
        What::Transaction { writes, keyless, commits, raced } => {
            let mut rng = world.chance(("transaction", number));
            service::transaction(world, &mut rng, writes, *keyless, *commits, *raced);
        }
        What::Rubbish { key } => service::rubbish(world, *key),
        What::Reshard(how) => source::reshard(world, &mut world.chance(("shard", number)), *how),
        What::Trim { kept } => source::trim(world, *kept),
        What::Io { io, skip, fault } => world.state().armed.ios.push((*io, *skip, *fault)),
        What::Call { route, skip, fault } => world.state().armed.calls.push((*route, *skip, *fault)),
        What::StoreOut { io, lasts } => {
            let until = world.now() + *lasts;
            world.state().armed.out.push(StoreOut { io: *io, until, struck: false });
        }
        What::Outage { route, lasts, fault } => {
            let until = world.now() + *lasts;
            world.state().targets[*route].outage = Some(Outage { until, fault: *fault, struck: false });
        }
        What::Unwanted { route, nth, how } => unwanted(world, *route, *nth, *how),
        What::Kill { relay } => workers.killed(world, *relay),
        What::Restart { relay } => workers.restart(world, *relay).await,
        What::Operator { route, what } => operator::operate(world, workers, *route, *what).await,
        // Its backup was of another history.
        What::Restore { .. } => {}
        What::Pass { skip, fault } => world.state().armed.passes.push((*skip, *fault)),
        What::Transport { skip, twice, late } => world.state().armed.messages.push((*skip, *twice, *late)),
        What::ClockBack { by } => {
            world.consumer_clock.set_back(*by);
            world.state().strikes(Fault::ClockSetBack);
        }
        What::Answer { nth, how, times } => {
            world.state().consumer.answers.insert(*nth, (*how, *times));
        }
    }
}

fn unwanted(world: &World, route: usize, nth: usize, how: Unwanted) {
    world.state().targets[route].unwanted.push((nth, how));
}

/// No fault strikes any more, and people mend what is theirs to mend: everything has to come right.
async fn heal(world: &Arc<World>, workers: &Workers) {
    world.note(|| "faults are over".to_owned());
    {
        let mut state = world.state();
        state.healed = true;
        state.patience.iter_mut().for_each(|patience| patience.paused = None);
        state.targets.iter_mut().for_each(|target| target.unwanted.clear());
        state.consumer.answers.clear();
    }
    for route in &world.routes {
        super::checks::at_once(world.books.pause(route, false));
    }
    workers.start_all();
    // What stands still or hangs does so a while longer.
    sleep(super::schedule::LONGEST).await;
    let until = Instant::now() + RIGHT_WITHIN;
    loop {
        sleep(LOOK).await;
        workers.check(world);
        let is_done = verdict::is_done(world);
        if !world.is_sound() || is_done && workers.own() {
            return;
        }
        if Instant::now() >= until {
            if is_done {
                world.breach(Rule::Live, "no relay owns the source");
            } else {
                verdict::say_what_is_missing(world);
            }
            return;
        }
        verdict::mend(world).await;
    }
}

async fn finish(world: &Arc<World>, workers: &Workers) {
    if !world.is_sound() {
        return;
    }
    shown::all_is_well(world, || workers.owner()).await;
    if !workers.stop_all(world).await {
        world.breach(Rule::Loud, "a relay did not stop in order");
    }
    let is_released = matches!(world.books.lease(LEASE).now_or_never(), Some(Ok(lease)) if lease.released);
    if !is_released {
        world.breach(Rule::Live, "the lease was not given up");
    }
    verdict::at_the_end(world);
}

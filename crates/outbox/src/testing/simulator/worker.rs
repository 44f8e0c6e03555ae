//! Relays: started, killed and started again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::TryFutureExt as _;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use super::{
    checks::at_once,
    process::{Around, Life},
    rule::Rule,
    schedule::{FilterScene, RouteScene},
    source::Seen,
    target::Target,
    truth::{Rewritten, SECOND_KIND},
    world::World,
};
use crate::{
    bookkeeping::Bookkeeping as _,
    error::{ErrorKind, StoreError},
    filter::Filter,
    memory::SeededEntropy,
    relay::{Relay, RelayError, RelayHandle, RelayStatus, RetentionPolicy},
    route::{AfterDeadLetter, RetryPolicy, RouteName, RouteSettings, WindowLimits},
    source::Source,
    testing::Hooked,
};

/// The lease's name.
pub(super) const LEASE: &str = "relay";
pub(super) const FAILOVER: Duration = Duration::from_secs(3);
/// How long nobody is given up on for a failure of which nobody knows whose it is.
pub(super) const DOUBT: Duration = Duration::from_secs(4);
/// How long a relay that stops in order waits for its calls.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(4);
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A place where a relay runs, one life after the other, for as long as it is wanted.
pub(super) struct Worker {
    pub(super) index: usize,
    state: Mutex<Wish>,
    changed: Notify,
}

#[derive(Default)]
struct Wish {
    wanted: bool,
    running: Option<Running>,
    /// How the last life ended that was not killed.
    ended: Option<Result<(), RelayError>>,
    lives: u64,
}

struct Running {
    life: Arc<Life>,
    handle: RelayHandle,
    stop: Option<oneshot::Sender<()>>,
}

impl Worker {
    pub(super) fn new(index: usize) -> Self {
        Self { index, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Wish> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a relay run here from now on.
    pub(super) fn start(&self) {
        self.state().wanted = true;
        self.changed.notify_one();
    }

    /// Stops the relay in order. It is not started again before somebody wants it.
    pub(super) fn stop(&self, world: &World) {
        let mut state = self.state();
        state.wanted = false;
        if let Some(running) = &mut state.running
            && let Some(stop) = running.stop.take()
        {
            running.life.stop(world.now());
            // A life that is over needs no word.
            let _ = stop.send(());
        }
    }

    /// The relay dies, and is started again soon if it is wanted.
    pub(super) fn kill(&self) -> bool {
        let state = self.state();
        state.running.as_ref().inspect(|running| running.life.kill()).is_some()
    }

    pub(super) fn is_running(&self) -> bool {
        self.state().running.is_some()
    }

    /// What the relay here says about itself.
    pub(super) fn status(&self) -> Option<RelayStatus> {
        self.state().running.as_ref().map(|running| running.handle.status())
    }

    /// How the last life ended that came to an end by itself.
    pub(super) fn ended(&self) -> Option<Result<(), RelayError>> {
        self.state().ended.take()
    }

    /// Runs relays as wanted, for ever.
    pub(super) async fn run(&self, world: Arc<World>) {
        loop {
            if !self.state().wanted {
                self.changed.notified().await;
                continue;
            }
            if self.live(&world).await {
                let lives = self.state().lives;
                let pause = world.chance(("pause", self.index, lives)).u64(1..400);
                sleep(Duration::from_millis(pause)).await;
            }
        }
    }

    /// One life. Says whether it was cut short.
    async fn live(&self, world: &Arc<World>) -> bool {
        let (stop, stopped) = oneshot::channel();
        let lives = {
            let mut state = self.state();
            state.lives += 1;
            state.lives
        };
        let life = Arc::new(Life::new(format!("relay {}.{lives}", self.index)));
        let relay = match relay(world, &life) {
            Ok(relay) => relay,
            Err(error) => {
                world.breach(Rule::Loud, format!("a relay could not be built: {error}"));
                self.state().wanted = false;
                return false;
            }
        };
        self.state().running = Some(Running { life: life.clone(), handle: relay.handle(), stop: Some(stop) });
        world.note(|| format!("{} starts", life.name));
        let mut running = tokio::spawn(relay.run(async {
            let _ = stopped.await;
        }));
        let ended = tokio::select! {
            biased;
            () = life.death() => None,
            ended = &mut running => Some(ended),
        };
        // A process that stands still ends when it goes on; what it had sent lands just before.
        while let (Some(_), Some(left)) = (&ended, life.frozen_for(world.now())) {
            sleep(left + Duration::from_millis(1)).await;
        }
        running.abort();
        if matches!(ended, Some(Ok(Ok(())))) && has_owned(world, &life) {
            world.stopped_in_order();
        }
        let mut state = self.state();
        state.running = None;
        let Some(ended) = ended else {
            world.note(|| format!("{} is killed", life.name));
            return true;
        };
        let ended = ended.unwrap_or_else(|panic| {
            Err(RelayError::Store(StoreError::new(ErrorKind::Invalid, "the relay panicked").because(panic)))
        });
        world.note(|| match &ended {
            Ok(()) => format!("{} has stopped", life.name),
            Err(error) => format!("{} gives up: {error}", life.name),
        });
        state.wanted &= ended.is_ok();
        state.ended = Some(ended);
        false
    }
}

/// Whether the last owner of the source was this life, which gave it up.
fn has_owned(world: &World, life: &Life) -> bool {
    let given_up = world.books.lease(LEASE).map_ok(|lease| lease.holder == life.name && lease.released);
    life.stops_since().is_some() && at_once(given_up)
}

fn relay(world: &Arc<World>, life: &Arc<Life>) -> Result<Relay, RelayError> {
    let around = Around { world: world.clone(), life: life.clone() };
    let opened = Arc::new(world.store.reopen());
    let source = Hooked::<dyn Source, _>::new(world.supply.open(&opened), around.clone());
    let mut relay = Relay::builder()
        .name(LEASE)
        .holder(life.name.clone())
        .source(Arc::new(Seen { inner: source, world: world.clone() }))
        .store(Arc::new(Hooked::new(opened, around.clone())))
        .bookkeeping(Arc::new(Hooked::new(world.books.clone(), around.clone())))
        .failover(FAILOVER)
        .drain_limit(DRAIN_LIMIT)
        .call_timeout(CALL_TIMEOUT)
        .checkpoint_after(Duration::from_millis(100))
        .partitions_every(Duration::from_secs(4))
        .retention(world.scene.retained.map_or(RetentionPolicy::Off, RetentionPolicy::Newest))
        .clock(Arc::new(world.clock))
        .entropy(Arc::new(SeededEntropy::new(world.chance(("entropy", &life.name)).u64(..))));
    for (index, (name, scene)) in world.routes.iter().zip(&world.scene.routes).enumerate() {
        let (retired, rewritten) = {
            let state = world.state();
            (state.truth.routes[index].retired, state.truth.routes[index].rewritten != Rewritten::No)
        };
        if !retired {
            relay = relay.route(settings(name, scene, rewritten), Arc::new(Target::new(around.clone(), index)));
        }
    }
    relay.build()
}

fn settings(name: &RouteName, scene: &RouteScene, rewritten: bool) -> RouteSettings {
    let (types, keys) = match scene.filter {
        FilterScene::All => (None, None),
        FilterScene::Kind => (Some(SECOND_KIND), None),
        // There are no more keys than one digit tells apart: both take the same events.
        FilterScene::Key => (None, Some(if rewritten { "key/?" } else { "key/*" })),
    };
    let patterns = |pattern: Option<&str>| pattern.into_iter().map(str::to_owned).collect();
    RouteSettings {
        filter: Filter { types: patterns(types), keys: patterns(keys), ..Filter::default() },
        retry: RetryPolicy {
            quick_attempts: scene.quick_attempts,
            attempts: scene.attempts,
            base_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(2),
            doubt: DOUBT,
            after_dead_letter: if scene.goes_on { AfterDeadLetter::Continue } else { AfterDeadLetter::Park },
        },
        window: WindowLimits {
            events: scene.window,
            bytes: scene.window_bytes,
            key_share: scene.key_share,
            troubled_keys: scene.troubled_keys,
        },
        rate_limit: scene.rate_limit,
        ..RouteSettings::new(name.clone())
    }
}

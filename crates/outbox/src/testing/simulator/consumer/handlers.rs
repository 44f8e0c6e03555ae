//! The consumer's handler, inside of the inbox's transaction or outside of it under a claim.

use std::{
    collections::BTreeSet,
    future::{Future, pending},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::Either;
use tokio::time::sleep;
use tower::Layer as _;

use super::{
    super::{
        fault::Fault,
        process::Life,
        rule::Rule,
        schedule::{AnswerFault, ConsumerMode},
        world::{PRODUCER, World},
    },
    effects::Effects,
    store::Store,
};
use crate::{
    error::StoreError,
    event::Event,
    inbox::{
        Answer, Applied, ClaimHandler, ClaimService, ClaimSettings, Claimed, InboxLayer, InboxRetry, InboxService,
        InboxSettings, Incoming, Mode, memory,
    },
};

/// How long an event waits for its cause.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(20);
/// How often an event is tried.
pub(super) const ATTEMPTS: u32 = 3;
/// How long a handler may take whose effect is outside of the store.
const TIMEOUT: Duration = Duration::from_secs(1);
const CLAIMS: ClaimSettings = ClaimSettings { timeout: TIMEOUT, expiry: Duration::from_secs(3), concurrency: 2 };
/// How long it takes at most if nothing is wrong, in microseconds.
const TAKES: u64 = 60_000;

/// The consumer's inbox.
pub(super) enum Service {
    Inside(InboxService<Store, memory::HandlerFn<Apply>>),
    Outside(ClaimService<Store, Outside>),
}

type Apply = Box<dyn Fn(&mut Effects, &Event) -> Answer + Send + Sync>;

impl Service {
    pub(super) fn new(world: &Arc<World>, life: &Arc<Life>) -> Self {
        let mode = match world.scene.consumer.mode {
            ConsumerMode::Once => Mode::Once,
            ConsumerMode::Latest => Mode::Latest,
            ConsumerMode::InOrder => Mode::InOrder,
            ConsumerMode::AfterCause => {
                Mode::AfterCause { producers: [PRODUCER.to_owned()].into(), max_wait: MAX_WAIT }
            }
        };
        let retry = InboxRetry {
            attempts: ATTEMPTS,
            base_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(2),
        };
        let store = Store { world: world.clone(), life: life.clone() };
        let settings = InboxSettings { retry, drain: 4, ..InboxSettings::new(mode) };
        let layer = InboxLayer::of(store, settings).clock(Arc::new(world.consumer_clock.clone()));
        if !world.scene.consumer.claims {
            return Self::Inside(layer.layer(memory::handler_fn(inside(world))));
        }
        match layer.clone().claim(CLAIMS) {
            Ok(claiming) => Self::Outside(claiming.layer(Outside {
                world: world.clone(),
                life: life.clone(),
                handling: Mutex::default(),
            })),
            Err(error) => {
                world.breach(Rule::Loud, format!("claims are refused: {error}"));
                Self::Inside(layer.layer(memory::handler_fn(inside(world))))
            }
        }
    }

    pub(super) async fn apply(&self, incoming: Vec<Incoming>) -> Result<Vec<Applied>, StoreError> {
        match self {
            Self::Inside(service) => service.apply(incoming).await,
            Self::Outside(service) => service.apply(incoming).await,
        }
    }

    /// Sweeps for ever.
    pub(super) fn run_sweeper(&self, every: Duration) -> impl Future<Output = ()> {
        match self {
            Self::Inside(service) => Either::Left(service.run_sweeper(every, pending())),
            Self::Outside(service) => Either::Right(service.run_sweeper(every, pending())),
        }
    }
}

/// The number of the event that the handler is given, which has to be as it was committed.
fn handed(world: &World, event: &Event) -> Option<usize> {
    let handed = world.state().truth.handed(event);
    handed.map_err(|breach| world.broken(breach)).ok()
}

/// What is to go wrong with the handler at this event, this time.
fn fault(world: &World, number: usize) -> Option<AnswerFault> {
    let mut state = world.state();
    let armed = state.consumer.answers.get_mut(&number).filter(|(_, times)| *times > 0);
    let fault = armed.map(|(fault, times)| {
        *times -= 1;
        *fault
    });
    state.consumer.blame.answers(number, fault);
    let fault = fault?;
    state.strikes(match fault {
        AnswerFault::Retries => Fault::HandlerRetries,
        AnswerFault::GivesUp => Fault::HandlerGivesUp,
        AnswerFault::Hangs { .. } => Fault::HandlerHangs,
    });
    Some(fault)
}

/// The handler that shares the inbox's transaction.
fn inside(world: &Arc<World>) -> Apply {
    let world = world.clone();
    Box::new(move |effects, event| {
        let Some(number) = handed(&world, event) else { return Answer::give_up("simulated: nobody committed this") };
        match fault(&world, number) {
            Some(AnswerFault::Retries) => Answer::retry("simulated"),
            Some(AnswerFault::GivesUp) => Answer::give_up("simulated"),
            // A handler in memory cannot wait.
            Some(AnswerFault::Hangs { .. }) | None => {
                effects.push(number);
                Answer::Done
            }
        }
    })
}

/// The handler whose effect nothing can roll back.
pub(super) struct Outside {
    world: Arc<World>,
    life: Arc<Life>,
    /// What is being handled in this life.
    handling: Mutex<BTreeSet<usize>>,
}

impl ClaimHandler for Outside {
    async fn handle(&self, claimed: &Claimed) -> Answer {
        let Some(number) = handed(&self.world, &claimed.event) else {
            return Answer::give_up("simulated: nobody committed this");
        };
        let _handling = self.begin(number, claimed);
        let fault = fault(&self.world, number);
        self.world.note(|| format!("{} handles {}, attempt {}", self.life.name, claimed.event.id(), claimed.attempt));
        let takes = self.world.chance(("handler", number, claimed.attempt)).u64(0..=TAKES);
        sleep(Duration::from_micros(takes)).await;
        match fault {
            Some(AnswerFault::Retries) => return Answer::retry("simulated"),
            Some(AnswerFault::GivesUp) => return Answer::give_up("simulated"),
            Some(AnswerFault::Hangs { effect }) => {
                if effect {
                    self.take_effect(number).await;
                }
                let now = self.world.now();
                self.world.state().consumer.is_disturbed(now);
                pending::<()>().await;
            }
            None => self.take_effect(number).await,
        }
        Answer::Done
    }
}

impl Outside {
    async fn take_effect(&self, number: usize) {
        self.life.alive().await;
        let applied = {
            let mut state = self.world.state();
            let super::super::world::State { truth, consumer, .. } = &mut *state;
            consumer.applies_outside(self.world.scene.consumer.mode, truth, number, self.world.now())
        };
        if let Err(breach) = applied {
            self.world.broken(breach);
        }
    }

    /// Nobody else may handle the event, nor another of its key where order counts, for as long as what is given lives.
    fn begin(&self, number: usize, claimed: &Claimed) -> Handling<'_> {
        let mut handling = self.handling.lock().unwrap_or_else(PoisonError::into_inner);
        let clashes = {
            let events = &self.world.state().truth.events;
            let is_ordered = self.world.scene.consumer.mode != ConsumerMode::Once;
            let own = &events[number].key;
            let in_its_way =
                |&other: &usize| other == number || is_ordered && own.is_some() && events[other].key == *own;
            handling.iter().find(|other| in_its_way(other)).map(|&other| events[other].id.clone())
        };
        if let Some(other) = clashes {
            let what = format!("{} is handled while {other} is", claimed.event.id());
            self.world.breach(Rule::InOrder, what);
        }
        let named = format!("{} {}", claimed.event.source(), claimed.event.id());
        if claimed.idempotency_key != named || claimed.attempt == 0 {
            let what = format!("{} has idempotency key `{}`", claimed.event.id(), claimed.idempotency_key);
            self.world.breach(Rule::Once, what);
        }
        handling.insert(number);
        Handling { handler: self, number }
    }
}

/// An event in the handler's hands.
struct Handling<'h> {
    handler: &'h Outside,
    number: usize,
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.handler.handling.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

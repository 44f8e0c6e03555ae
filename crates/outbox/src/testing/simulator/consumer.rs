//! The consumer behind the first route: its transport, its inbox, and what its handler has done.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use super::{
    fault::Fault,
    process::Life,
    rule::{Breach, Rule},
    schedule::{ConsumerScene, PassFault},
    truth::Truth,
    world::{PRODUCER, State, World},
};
use crate::{
    clock::Moment,
    cloudevents::json,
    error::{ErrorKind, StoreError},
    event::Event,
    inbox::{
        Answer, Applied, InboxLayer, InboxRetry, InboxService, InboxSettings, Incoming, Mode,
        memory::{self, MemoryInbox, MemoryTx},
    },
    inbox_store::{InboxStore, Job},
};
use tower::Layer as _;

/// What the handler writes: the numbers of the events it applied, in order.
pub(super) type Effects = Vec<usize>;

/// How long an event waits for its cause.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Messages on their way to the consumer.
#[derive(Default)]
pub(super) struct Transport {
    messages: VecDeque<Message>,
}

#[derive(Clone)]
struct Message {
    due: Moment,
    body: Vec<u8>,
}

/// What is known of the consumer.
#[derive(Default)]
pub(super) struct Consumed {
    /// How much of the effects has been looked at.
    looked_at: usize,
    pub(super) applied: BTreeSet<usize>,
    latest: BTreeMap<crate::event::Key, usize>,
    /// Dead letters that its operator gave up.
    pub(super) given_up: BTreeSet<usize>,
    /// What the handler answers about an event before it applies it: whether it gives up, and how often.
    pub(super) answers: BTreeMap<usize, (bool, u32)>,
}

impl World {
    /// A message for the consumer.
    pub(super) fn send(&self, body: Vec<u8>) {
        let now = self.now();
        let mut state = self.state();
        let mut message = Message { due: now, body };
        if let Some((twice, late)) = state.armed_message() {
            message.due = now + late;
            state.strikes(if twice { Fault::DeliveredTwice } else { Fault::DeliveredLate });
            if twice {
                let first = Message { due: now, ..message.clone() };
                state.transport.messages.push_back(first);
            }
        }
        state.transport.messages.push_back(message);
        drop(state);
        self.mail.notify_one();
    }

    /// Whether nothing is on its way.
    pub(super) fn is_delivered(&self) -> bool {
        self.state().transport.messages.is_empty()
    }

    /// The next messages that are due, or when the first one is.
    fn receive(&self, most: usize) -> Result<Vec<Message>, Option<Moment>> {
        let now = self.now();
        let mut state = self.state();
        let messages = &mut state.transport.messages;
        let due: Vec<usize> = messages
            .iter()
            .enumerate()
            .filter(|(_, message)| message.due <= now)
            .map(|(index, _)| index)
            .take(most)
            .collect();
        if due.is_empty() {
            return Err(messages.iter().map(|message| message.due).min());
        }
        Ok(due.into_iter().rev().filter_map(|index| messages.remove(index)).rev().collect())
    }

    /// Messages that were not acknowledged come again, before the others.
    fn redeliver(&self, messages: Vec<Message>, after: Duration) {
        let due = self.now() + after;
        let mut state = self.state();
        for message in messages.into_iter().rev() {
            state.transport.messages.push_front(Message { due, ..message });
        }
    }
}

impl State {
    fn armed_message(&mut self) -> Option<(bool, Duration)> {
        if self.healed {
            return None;
        }
        let (skip, twice, late) = self.armed.messages.first_mut()?;
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        let found = (*twice, *late);
        self.armed.messages.remove(0);
        Some(found)
    }
}

/// The consumer's store, with everything that can go wrong around it.
#[derive(Clone)]
struct Store {
    world: Arc<World>,
    life: Arc<Life>,
}

impl Store {
    fn strike(&self, before: bool) -> Option<PassFault> {
        let mut state = self.world.state();
        if state.healed {
            return None;
        }
        let (skip, fault) = state.armed.passes.first_mut()?;
        if before && *skip > 0 {
            *skip -= 1;
            return None;
        }
        if *skip > 0 || before == matches!(fault, PassFault::KilledAfter | PassFault::AnswerLost) {
            return None;
        }
        let fault = *fault;
        state.armed.passes.remove(0);
        state.strikes(match fault {
            PassFault::KilledBefore => Fault::ConsumerKilledBefore,
            PassFault::KilledAfter => Fault::ConsumerKilledAfter,
            PassFault::Fails => Fault::InboxFails,
            PassFault::AnswerLost => Fault::InboxAnswerLost,
        });
        Some(fault)
    }

    async fn die(&self) -> ! {
        self.life.kill();
        pending().await
    }
}

impl InboxStore for Store {
    type Tx<'t> = MemoryTx<'t, Effects>;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static,
    {
        let store = self.clone();
        async move {
            let inbox: &MemoryInbox<Effects> = &store.world.inbox;
            let fault = store.strike(true);
            if let Some(fault) = fault {
                store.world.note(|| format!("{}: {fault:?} before its commit", store.life.name));
            }
            match fault {
                Some(PassFault::KilledBefore) => store.die().await,
                Some(PassFault::Fails) => {
                    return Err(StoreError::new(ErrorKind::Unavailable, "simulated: not now"));
                }
                _ => {}
            }
            let done = inbox.transact(job).await;
            look(&store.world);
            let fault = store.strike(false);
            if let Some(fault) = fault {
                store.world.note(|| format!("{}: {fault:?} after its commit", store.life.name));
            }
            match fault {
                Some(PassFault::KilledAfter) => store.die().await,
                Some(PassFault::AnswerLost) => {
                    Err(StoreError::new(ErrorKind::Unavailable, "simulated: the answer was lost").uncertain())
                }
                _ => done,
            }
        }
    }
}

/// Looks at what the handler has newly done.
fn look(world: &World) {
    let effects = world.inbox.state();
    let mut state = world.state();
    let State { truth, consumer, .. } = &mut *state;
    let mut breaches = Vec::new();
    for &number in &effects[consumer.looked_at..] {
        if let Err(breach) = consumer.applied(world.scene.consumer, truth, number) {
            breaches.push(breach);
        }
    }
    consumer.looked_at = effects.len();
    drop(state);
    for breach in breaches {
        world.broken(breach);
    }
}

impl Consumed {
    /// An effect was committed. Says what is wrong with that.
    fn applied(&mut self, mode: ConsumerScene, truth: &Truth, number: usize) -> Result<(), Breach> {
        let known = &truth.events[number];
        let id = &known.id;
        let came =
            truth.routes[0].arrivals[number] > 0 || truth.routes[0].replays.values().any(|r| r.contains(&number));
        if !came {
            return Err(Breach::new(Rule::Atomic, format!("the consumer applied {id}, which never arrived")));
        }
        if !self.applied.insert(number) {
            return Err(Breach::new(Rule::Once, format!("the consumer applied {id} a second time")));
        }
        match mode {
            ConsumerScene::Once => Ok(()),
            ConsumerScene::Latest => {
                let Some(key) = &known.key else { return Ok(()) };
                match self.latest.insert(key.clone(), number) {
                    Some(newer) if newer > number => {
                        let newer = &truth.events[newer].id;
                        Err(Breach::new(Rule::InOrder, format!("the consumer applied {id} over the newer {newer}")))
                    }
                    _ => Ok(()),
                }
            }
            ConsumerScene::InOrder => self.in_turn(truth, number),
            ConsumerScene::AfterCause => self.in_turn(truth, number).and_then(|()| self.after_cause(truth, number)),
        }
    }

    /// Whether nothing before it in its key is still to come.
    fn in_turn(&self, truth: &Truth, number: usize) -> Result<(), Breach> {
        let known = &truth.events[number];
        if known.key.is_none() || known.lost {
            return Ok(());
        }
        let earlier = truth.events[..number].iter().enumerate().find(|(earlier, other)| {
            other.key == known.key && !other.lost && other.event.is_some() && !self.is_over(truth, *earlier)
        });
        match earlier {
            Some((_, earlier)) => {
                let what = format!("the consumer applied {} before {}", known.id, earlier.id);
                Err(Breach::new(Rule::InOrder, what))
            }
            None => Ok(()),
        }
    }

    fn after_cause(&self, truth: &Truth, number: usize) -> Result<(), Breach> {
        let known = &truth.events[number];
        match known.cause {
            Some(cause) if !truth.events[cause].lost && !self.is_over(truth, cause) => {
                let cause = &truth.events[cause].id;
                let what = format!("the consumer applied {} before {cause}, which caused it", known.id);
                Err(Breach::new(Rule::AfterCause, what))
            }
            _ => Ok(()),
        }
    }

    /// Whether the event was applied, or nobody need wait for it.
    pub(super) fn is_over(&self, truth: &Truth, number: usize) -> bool {
        let route = &truth.routes[0];
        self.applied.contains(&number)
            || self.given_up.contains(&number)
            || route.given_up.contains(&number)
            || route.erased.contains(&number)
    }
}

/// Runs the consumer, one life after the other, for ever.
pub(super) async fn run(world: Arc<World>) {
    for life in 1_u32.. {
        let life = Arc::new(Life::new(format!("consumer {life}")));
        let consumer = consume(&world, &life);
        tokio::select! {
            biased;
            () = life.death() => {}
            () = consumer => {}
        }
        world.note(|| format!("{} is killed", life.name));
        sleep(Duration::from_millis(200)).await;
    }
}

async fn consume(world: &Arc<World>, life: &Arc<Life>) {
    let service = service(world, life);
    let sweeper = service.run_sweeper(Duration::from_secs(1), pending());
    let receiver = async {
        loop {
            match world.receive(3) {
                Ok(messages) => {
                    // Taken back at its death: the transport knows that nothing was acknowledged.
                    let held = Held { world, messages };
                    held.apply(&service).await;
                }
                Err(due) => {
                    let now = world.now();
                    let wait = due.map_or(Duration::from_secs(3600), |due| due.since(now));
                    tokio::select! {
                        biased;
                        () = world.mail.notified() => {}
                        () = sleep(wait) => {}
                    }
                }
            }
        }
    };
    futures_util::future::join(sweeper, receiver).await;
}

/// Messages that the consumer has and has not acknowledged.
struct Held<'w> {
    world: &'w World,
    messages: Vec<Message>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let messages = std::mem::take(&mut self.messages);
        self.world.redeliver(messages, Duration::from_millis(100));
    }
}

impl Held<'_> {
    async fn apply(mut self, service: &Service) {
        let mut incoming = Vec::new();
        for message in &self.messages {
            match json::decode(&message.body) {
                Ok(event) => incoming.push(Incoming::Event(event)),
                Err(error) => self.world.breach(Rule::Atomic, format!("what was published cannot be read: {error}")),
            }
        }
        let ids: Vec<String> = incoming.iter().map(named).collect();
        match service.apply(incoming).await {
            Ok(applied) => {
                self.world.note(|| {
                    let each = ids.iter().zip(&applied).map(|(id, applied)| format!("{id} {}", applied.name()));
                    format!("consumer: {}", each.collect::<Vec<_>>().join(", "))
                });
                let mut applied = applied.iter();
                self.messages.retain(|_| !applied.next().is_some_and(Applied::may_be_acknowledged));
            }
            Err(error) => self.world.note(|| format!("consumer: {error}")),
        }
    }
}

fn named(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Event(event) => event.id().to_owned(),
        Incoming::Undecodable { .. } => "what cannot be read".to_owned(),
    }
}

type Apply = Box<dyn Fn(&mut Effects, &Event) -> Answer + Send + Sync>;
type Service = InboxService<Store, memory::HandlerFn<Apply>>;

fn service(world: &Arc<World>, life: &Arc<Life>) -> Service {
    let mode = match world.scene.consumer {
        ConsumerScene::Once => Mode::Once,
        ConsumerScene::Latest => Mode::Latest,
        ConsumerScene::InOrder => Mode::InOrder,
        ConsumerScene::AfterCause => Mode::AfterCause { producers: [PRODUCER.to_owned()].into(), max_wait: MAX_WAIT },
    };
    let retry = InboxRetry { attempts: 3, base_delay: Duration::from_millis(100), max_delay: Duration::from_secs(2) };
    let store = Store { world: world.clone(), life: life.clone() };
    let handler_world = world.clone();
    let handle: Apply = Box::new(move |effects, event| {
        let mut state = handler_world.state();
        let Some(number) = state.truth.find(event.id()) else {
            return Answer::give_up("simulated: nobody committed this");
        };
        if let Some((gives_up, times)) = state.consumer.answers.get_mut(&number)
            && *times > 0
        {
            *times -= 1;
            let gives_up = *gives_up;
            state.strikes(if gives_up { Fault::HandlerGivesUp } else { Fault::HandlerRetries });
            return if gives_up { Answer::give_up("simulated") } else { Answer::retry("simulated") };
        }
        effects.push(number);
        Answer::Done
    });
    InboxLayer::of(store, InboxSettings { retry, drain: 4, ..InboxSettings::new(mode) })
        .clock(Arc::new(world.clock))
        .layer(memory::handler_fn(handle))
}

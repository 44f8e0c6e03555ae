//! The consumer behind the first route: its transport, its inbox, and what its handler has done.

mod effects;
mod handlers;
mod letters;
mod machine_clock;
mod store;
mod transport;

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

pub(super) use self::{
    effects::{Consumed, Effects},
    machine_clock::MachineClock,
    transport::Transport,
};
use self::{handlers::Service, transport::Message};
use super::{
    process::Life,
    rule::Rule,
    world::{State, World},
};
use crate::{
    cloudevents::json,
    inbox::{Applied, Incoming},
};

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
    let service = Service::new(world, life);
    let sweeper = service.run_sweeper(Duration::from_secs(1));
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
        self.world.handed(&ids);
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

impl World {
    /// The consumer is handed these events.
    fn handed(&self, ids: &[String]) {
        let now = self.now();
        let mut state = self.state();
        let State { truth, consumer, .. } = &mut *state;
        for number in ids.iter().filter_map(|id| truth.find(id)) {
            consumer.handed.entry(number).or_insert(now);
        }
    }
}

fn named(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Event(event) => event.id().to_owned(),
        Incoming::Undecodable { .. } => "what cannot be read".to_owned(),
    }
}

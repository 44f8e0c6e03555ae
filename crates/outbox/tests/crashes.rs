//! `kill -9` of a relay between every two of its I/Os, in memory.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    NewEvent, Operator,
    memory::{ManualClock, MemoryBookkeeping, MemoryStore, SeededEntropy},
    testing::{
        Io, Opened, Side,
        crashes::{self, Kill, StoresUnderTest},
    },
};

struct Memory {
    store: MemoryStore,
    books: Arc<MemoryBookkeeping>,
}

impl Memory {
    fn new() -> Self {
        let entropy = Arc::new(SeededEntropy::new(7));
        let books = Arc::new(MemoryBookkeeping::new(&*entropy));
        Self { store: MemoryStore::new("/tests", Arc::new(ManualClock::default()), entropy).unwrap(), books }
    }
}

#[async_trait]
impl StoresUnderTest for Memory {
    async fn write(&self, events: Vec<NewEvent>) {
        self.store.write(events).unwrap();
    }

    async fn open(&self) -> Opened {
        let store = Arc::new(self.store.reopen());
        Opened { source: store.clone(), store }
    }

    async fn bookkeeping(&self) -> Arc<dyn Operator> {
        self.books.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_nobody_kills_publishes_everything_once() {
    crashes::undisturbed(async || Memory::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_killed_before_any_of_its_ios_breaks_no_promise() {
    crashes::at_every_step(Side::Before, async || Memory::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_killed_after_any_of_its_ios_breaks_no_promise() {
    crashes::at_every_step(Side::After, async || Memory::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_killed_while_one_of_its_ios_hangs_breaks_no_promise() {
    crashes::with_every_io_hanging(async || Memory::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_killed_twice_breaks_no_promise() {
    crashes::at_pairs_of_steps(1, 400, async || Memory::new()).await;
}

/// Everything in memory, but a bookkeeping that loses what was written as soon as it is opened again.
struct Forgetful(Memory);

#[async_trait]
impl StoresUnderTest for Forgetful {
    async fn write(&self, events: Vec<NewEvent>) {
        self.0.write(events).await;
    }

    async fn open(&self) -> Opened {
        // What the last relay claimed would give the loss away before anything is published.
        let opened = self.0.open().await;
        opened.store.disown().await.unwrap();
        opened
    }

    async fn bookkeeping(&self) -> Arc<dyn Operator> {
        Memory::new().books
    }
}

#[tokio::test(start_paused = true)]
async fn a_bookkeeping_that_is_not_durable_is_noticed() {
    let kill = Kill::Io { io: Io::Checkpoint, side: Side::After, nth: 2 };
    let report = crashes::run(Forgetful(Memory::new()), &[kill]).await;
    assert!(!report.breaches.is_empty());
}

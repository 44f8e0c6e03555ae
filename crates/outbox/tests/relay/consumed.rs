//! What an inbox counts of what a consumer does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use outbox::{
    ErrorKind, Event, InboxStore, NewEvent, StoreError,
    event::Identity,
    inbox::{
        Answer, ClaimHandler, ClaimSettings, Claimed, InboxLayer,
        memory::{MemoryInbox, MemoryTx, handler_fn},
    },
    inbox_store::Job,
    memory::ManualClock,
};
use tower::Layer;

use crate::measured::Measured;

fn event() -> Event {
    let identity = Identity { source: &"/tests".into(), placing: None, recorded: None, fallback_id: "1" };
    Event::from_new(NewEvent::builder("placed").build().unwrap(), identity).unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH))
}

/// Asks for another attempt at the first.
struct Second;

impl ClaimHandler for Second {
    async fn handle(&self, claimed: &Claimed) -> Answer {
        if claimed.attempt == 1 { Answer::retry("not yet") } else { Answer::Done }
    }
}

/// An inbox whose store fails while it is told to.
#[derive(Clone, Default)]
struct Failing {
    inner: MemoryInbox<()>,
    fails: Arc<AtomicBool>,
}

impl InboxStore for Failing {
    type Tx<'t> = MemoryTx<'t, ()>;

    async fn transact<J, O>(&self, job: J) -> Result<O, StoreError>
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static,
    {
        if self.fails.load(Relaxed) {
            return Err(StoreError::new(ErrorKind::Unavailable, "simulated"));
        }
        self.inner.transact(job).await
    }
}

#[tokio::test]
async fn what_becomes_of_events_is_counted_by_outcome_and_mode() {
    let measured = Measured::begin();
    let service = InboxLayer::once(MemoryInbox::new()).layer(handler_fn(|(): &mut (), _: &Event| Answer::Done));
    for _ in 0..3 {
        service.apply(vec![event().into()]).await.unwrap();
    }
    let counted = |outcome: &str| measured.counter(&format!("outbox_inbox_events_total {outcome} once"));
    assert_eq!(["applied", "duplicate", "parked"].map(counted), [1, 2, 0]);
}

#[tokio::test]
async fn what_a_sweep_applies_is_counted() {
    let (measured, clock) = (Measured::begin(), clock());
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    let handler = handler_fn(
        move |(): &mut (), _: &Event| {
            if breaks.load(Relaxed) { Answer::retry("not yet") } else { Answer::Done }
        },
    );
    let service = InboxLayer::once(MemoryInbox::new()).clock(clock.clone()).layer(handler);
    service.apply(vec![event().into()]).await.unwrap();
    assert_eq!(measured.counter("outbox_inbox_swept_total once"), 0);
    broken.store(false, Relaxed);
    clock.advance(Duration::from_secs(60));
    service.sweep_due().await.unwrap();
    assert_eq!(measured.counter("outbox_inbox_swept_total once"), 1);
}

#[tokio::test]
async fn what_a_sweep_applies_under_a_claim_is_counted() {
    let (measured, clock) = (Measured::begin(), clock());
    let layer = InboxLayer::once(MemoryInbox::<()>::new()).clock(clock.clone());
    let service = layer.claim(ClaimSettings::default()).unwrap().layer(Second);
    service.apply(vec![event().into()]).await.unwrap();
    assert_eq!(measured.counter("outbox_inbox_swept_total once"), 0);
    clock.advance(Duration::from_secs(60));
    service.sweep_due().await.unwrap();
    assert_eq!(measured.counter("outbox_inbox_swept_total once"), 1);
}

#[tokio::test]
async fn failures_of_the_store_are_counted() {
    let (measured, store) = (Measured::begin(), Failing::default());
    let service = InboxLayer::once(store.clone()).layer(handler_fn(|(): &mut (), _: &Event| Answer::Done));
    service.apply(vec![event().into()]).await.unwrap();
    assert_eq!(measured.counter("outbox_inbox_store_failures_total once"), 0);
    store.fails.store(true, Relaxed);
    service.apply(vec![event().into()]).await.unwrap_err();
    assert_eq!(measured.counter("outbox_inbox_store_failures_total once"), 1);
}

//! Effects outside of the store, under claims.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Barrier;
use tower::Layer;

use super::{InboxUnderTest, Script, event, retry, together::joined};
use crate::{
    clock::Clock as _,
    event::Event,
    inbox::{Answer, Applied, ClaimHandler, ClaimService, ClaimSettings, Claimed, InboxLayer, Incoming},
    inbox_store::InboxStore,
    memory::ManualClock,
    testing::conformance::RACES,
};

mod gone;
mod order;

pub use gone::*;
pub use order::*;

/// An effect elsewhere: what was asked for, and with which idempotency key.
#[derive(Clone, Default)]
struct Elsewhere {
    asked: Arc<Mutex<Vec<(String, String, u32)>>>,
    script: Script,
    /// Ids whose handling never ends.
    hang: Arc<Mutex<Vec<String>>>,
    /// Handed a permit for each event that may go on.
    gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl ClaimHandler for Elsewhere {
    async fn handle(&self, claimed: &Claimed) -> Answer {
        let id = claimed.event.id().to_owned();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((
            id.clone(),
            claimed.idempotency_key.clone(),
            claimed.attempt,
        ));
        let hangs = self.hang.lock().unwrap_or_else(PoisonError::into_inner).contains(&id);
        if hangs {
            std::future::pending::<()>().await;
        }
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("the gate stays").forget();
        }
        self.script.answer(&claimed.event)
    }
}

impl Elsewhere {
    fn asked(&self) -> Vec<(String, String, u32)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ids(&self) -> Vec<String> {
        self.asked().into_iter().map(|(id, _, _)| id).collect()
    }
}

fn service<B: InboxUnderTest>(
    bench: &B,
    clock: &Arc<ManualClock>,
    elsewhere: &Elsewhere,
    timeout: Duration,
) -> ClaimService<B::Store, Elsewhere> {
    let layer = InboxLayer::in_order(bench.open()).clock(clock.clone()).claim(claimed(timeout));
    layer.expect("valid settings").layer(elsewhere.clone())
}

fn claimed(timeout: Duration) -> ClaimSettings {
    ClaimSettings { timeout, expiry: timeout + Duration::from_secs(30), concurrency: 4 }
}

/// A handler that waits at a gate.
fn gated() -> (Elsewhere, Arc<tokio::sync::Semaphore>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    (Elsewhere { gate: Some(gate.clone()), ..Elsewhere::default() }, gate)
}

/// Waits until the handler was asked so often.
async fn asked(elsewhere: &Elsewhere, times: usize) {
    let asked = async {
        while elsewhere.asked().len() < times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("the handler is asked");
}

async fn take(service: &ClaimService<impl InboxStore, Elsewhere>, events: Vec<Event>) -> Vec<Applied> {
    service.apply(events.into_iter().map(Incoming::Event).collect()).await.expect("recorded")
}

const LONG: Duration = Duration::from_secs(3600);

/// A claimed event is handled, then recorded; a duplicate is one.
pub async fn a_claimed_event_is_handled_once_and_settled<B: InboxUnderTest>(bench: &B) {
    let (clock, elsewhere) = (Arc::default(), Elsewhere::default());
    let inbox = service(bench, &clock, &elsewhere, LONG);
    let applied = take(&inbox, vec![event("a", 1), event("a", 1), event("b", 1)]).await;
    assert_eq!(applied, [Applied::Applied, Applied::Duplicate, Applied::Applied]);
    assert_eq!(take(&inbox, vec![event("a", 1)]).await, [Applied::Duplicate]);
    assert_eq!(elsewhere.ids().len(), 2);
    assert_eq!(inbox.operator().totals().await.expect("read").lanes, 0);
}

/// Of two workers that take the same events at once, each with a handle of its own, one handles each of them.
pub async fn two_workers_handle_each_claimed_event_once<B: InboxUnderTest>(bench: &B) {
    const RULE: &str = "two workers handle each claimed event once";
    let (clock, elsewhere) = (Arc::default(), Elsewhere::default());
    let workers = [(); 2].map(|()| service(bench, &clock, &elsewhere, LONG));
    for round in 0..RACES / 5 {
        let events = [1, 2].map(|sequence| event(&format!("key{round}"), sequence));
        let start = Arc::new(Barrier::new(workers.len()));
        let working = workers.each_ref().map(|worker| {
            let (worker, events, start) = (worker.clone(), events.to_vec(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                while let Err(error) = worker.apply(events.iter().cloned().map(Incoming::Event).collect()).await {
                    assert!(error.kind().retry(), "{RULE}: {error}");
                }
            })
        });
        for working in working {
            joined(RULE, working).await;
        }
        let wanted = events.map(|event| event.id().to_owned());
        assert_eq!(elsewhere.ids().split_off(2 * round), wanted, "{RULE}");
    }
}

/// A worker that is gone holds its claim until it expires; then a sweep takes over, and the answer of the first worker,
/// should it come after all, settles nothing.
pub async fn a_claim_that_expired_is_taken_over_and_its_late_answer_refused<B: InboxUnderTest>(bench: &B) {
    let clock: Arc<ManualClock> = Arc::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let slow = Elsewhere { gate: Some(gate.clone()), ..Elsewhere::default() };
    slow.script.say("a@1.1.0", Answer::give_up("too late to matter"));
    let first = service(bench, &clock, &slow, LONG);
    let late = tokio::spawn({
        let first = first.clone();
        async move { take(&first, vec![event("a", 1)]).await }
    });
    while slow.ids().is_empty() {
        tokio::task::yield_now().await;
    }
    let quick = Elsewhere::default();
    let second = service(bench, &clock, &quick, LONG);
    assert_eq!(take(&second, vec![event("a", 1)]).await, [Applied::Duplicate]);
    second.sweep().await.expect("swept");
    assert!(quick.ids().is_empty(), "a claim that holds was taken over");
    clock.advance(LONG + Duration::from_secs(31));
    second.sweep().await.expect("swept");
    assert_eq!(quick.ids(), ["a@1.1.0"]);
    gate.add_permits(1);
    let applied = late.await.expect("the late worker ends");
    assert!(applied[0].may_be_acknowledged() && applied[0] != Applied::Applied, "{applied:?}");
    let totals = second.operator().totals().await.expect("read");
    assert_eq!((totals.dead, totals.lanes, totals.counts.applied), (0, 0, 1));
}

/// A late answer settles nothing while the one that took the event over still handles it.
pub async fn a_late_answer_is_refused_while_whoever_took_the_event_over_handles_it<B: InboxUnderTest>(bench: &B) {
    let clock: Arc<ManualClock> = Arc::default();
    let ((slow, late_gate), (other, gate)) = (gated(), gated());
    slow.script.say("a@1.1.0", Answer::give_up("too late to matter"));
    let (first, second) = (service(bench, &clock, &slow, LONG), service(bench, &clock, &other, LONG));
    let late = tokio::spawn(async move { take(&first, vec![event("a", 1)]).await });
    asked(&slow, 1).await;
    clock.advance(LONG + Duration::from_secs(31));
    let sweeping = tokio::spawn({
        let second = second.clone();
        async move { second.sweep().await }
    });
    asked(&other, 1).await;
    late_gate.add_permits(1);
    late.await.expect("the late worker ends");
    let totals = second.operator().totals().await.expect("read");
    assert_eq!((totals.dead, totals.lanes, totals.counts.applied), (0, 1, 0));
    gate.add_permits(1);
    sweeping.await.expect("the sweep ends").expect("swept");
    let totals = second.operator().totals().await.expect("read");
    assert_eq!((totals.dead, totals.lanes, totals.counts.applied), (0, 0, 1));
}

/// More events than handlers run at a time, claimed by a worker whose first handlers wait at `gate`.
async fn held_up<B: InboxUnderTest>(
    bench: &B,
    clock: &Arc<ManualClock>,
) -> (Elsewhere, Arc<tokio::sync::Semaphore>, tokio::task::JoinHandle<Vec<Applied>>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let slow = Elsewhere { gate: Some(gate.clone()), ..Elsewhere::default() };
    let inbox = service(bench, clock, &slow, LONG);
    let events = ["a", "b", "c", "d", "e"].map(|key| event(key, 1)).to_vec();
    let working = tokio::spawn(async move { take(&inbox, events).await });
    while slow.ids().len() < 4 {
        tokio::task::yield_now().await;
    }
    (slow, gate, working)
}

/// An event that somebody took over while it waited for the handler's turn is not handled twice.
pub async fn a_claim_that_ended_before_its_handlers_turn_is_left_to_whoever_has_it<B: InboxUnderTest>(bench: &B) {
    let (clock, quick) = (Arc::default(), Elsewhere::default());
    let (slow, gate, working) = held_up(bench, &clock).await;
    clock.advance(LONG + Duration::from_secs(31));
    let second = service(bench, &clock, &quick, LONG);
    second.sweep().await.expect("swept");
    assert!(quick.ids().contains(&"e@1.1.0".to_owned()), "{:?}", quick.ids());
    gate.add_permits(5);
    let applied = working.await.expect("the slow worker ends");
    assert!(!slow.ids().contains(&"e@1.1.0".to_owned()), "an event was handled by both");
    assert!(applied.iter().all(Applied::may_be_acknowledged), "{applied:?}");
    assert_eq!(second.operator().totals().await.expect("read").counts.applied, 5);
}

/// Nor is one whose worker's wall clock, set back meanwhile, says that there is time left.
pub async fn a_claim_ends_whatever_its_workers_wall_clock_says<B: InboxUnderTest>(bench: &B) {
    let (clock, other, quick) = (Arc::default(), Arc::new(ManualClock::default()), Elsewhere::default());
    let (slow, gate, working) = held_up(bench, &clock).await;
    for clock in [&clock, &other] {
        clock.advance(LONG + Duration::from_secs(31));
    }
    clock.set_wall(ManualClock::default().wall());
    service(bench, &other, &quick, LONG).sweep().await.expect("swept");
    assert!(quick.ids().contains(&"e@1.1.0".to_owned()), "{:?}", quick.ids());
    gate.add_permits(5);
    working.await.expect("the slow worker ends");
    assert!(!slow.ids().contains(&"e@1.1.0".to_owned()), "an event was handled by both");
}

/// A claim whose handler comes late lasts as long from then as any other.
pub async fn a_claim_that_waits_for_its_handler_is_renewed<B: InboxUnderTest>(bench: &B) {
    let (clock, quick) = (Arc::default(), Elsewhere::default());
    let (slow, gate, working) = held_up(bench, &clock).await;
    clock.advance(LONG + Duration::from_secs(10));
    gate.add_permits(1);
    while slow.ids().len() < 5 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(25));
    service(bench, &clock, &quick, LONG).sweep().await.expect("swept");
    assert_eq!(quick.ids().len(), 3, "{:?}", quick.ids());
    assert!(!quick.ids().contains(&"e@1.1.0".to_owned()), "a renewed claim was taken over");
    gate.add_permits(4);
    assert_eq!(working.await.expect("the slow worker ends")[4], Applied::Applied);
}

/// Whoever is called by the handler can recognise the second attempt.
pub async fn a_claimed_event_that_fails_is_tried_again_with_the_same_idempotency_key<B: InboxUnderTest>(bench: &B) {
    let (clock, elsewhere) = (Arc::new(ManualClock::default()), Elsewhere::default());
    elsewhere.script.say("a@1.1.0", retry());
    let inbox = service(bench, &clock, &elsewhere, LONG);
    assert!(matches!(take(&inbox, vec![event("a", 1)]).await[..], [Applied::Retrying { attempts: 1, .. }]));
    inbox.sweep().await.expect("swept");
    assert_eq!(elsewhere.asked().len(), 1);
    elsewhere.script.silence();
    clock.advance(Duration::from_secs(2));
    inbox.sweep().await.expect("swept");
    let key = "/orders a@1.1.0".to_owned();
    assert_eq!(elsewhere.asked(), [("a@1.1.0".into(), key.clone(), 1), ("a@1.1.0".into(), key, 2)]);
}

/// A handler that takes too long is dropped before its claim ends, and its event is tried again.
pub async fn a_claim_handler_is_dropped_at_its_timeout<B: InboxUnderTest>(bench: &B) {
    let (clock, elsewhere) = (Arc::default(), Elsewhere::default());
    elsewhere.hang.lock().unwrap_or_else(PoisonError::into_inner).push("a@1.1.0".to_owned());
    let inbox = service(bench, &clock, &elsewhere, Duration::from_millis(1));
    let applied = take(&inbox, vec![event("a", 1)]).await;
    assert!(matches!(&applied[..], [Applied::Retrying { reason, .. }] if reason.contains("longer")), "{applied:?}");
}

/// Events of a key are handled one after the other, though their effects are elsewhere.
pub async fn events_behind_a_claimed_one_follow_in_order<B: InboxUnderTest>(bench: &B) {
    let (clock, elsewhere) = (Arc::new(ManualClock::default()), Elsewhere::default());
    let inbox = service(bench, &clock, &elsewhere, LONG);
    elsewhere.script.say("a@1.2.0", retry());
    take(&inbox, vec![event("a", 3), event("a", 2), event("a", 1), event("b", 1)]).await;
    assert_eq!(elsewhere.ids().iter().filter(|id| id.starts_with('a')).collect::<Vec<_>>(), ["a@1.1.0", "a@1.2.0"]);
    elsewhere.script.silence();
    clock.advance(Duration::from_secs(2));
    inbox.sweep().await.expect("swept");
    assert_eq!(
        elsewhere.ids().iter().filter(|id| id.starts_with('a')).collect::<Vec<_>>(),
        ["a@1.1.0", "a@1.2.0", "a@1.2.0", "a@1.3.0"]
    );
}

//! Claims whose caller, whose worker or whose store is gone.

use super::{
    super::{InboxUnderTest, event},
    Elsewhere, LONG, asked, gated, service, take,
};
use crate::{
    ErrorKind, StoreError,
    clock::Clock as _,
    inbox::{Applied, ClaimService, ClaimSettings, InboxLayer, InboxRetry, Incoming},
    inbox_store::{InboxStore, InboxTotals, Job},
    memory::ManualClock,
};
use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tower::Layer;

/// Waits until the inbox holds what is `wanted`.
async fn until<S: InboxStore>(
    inbox: &ClaimService<S, Elsewhere>,
    wanted: impl Fn(&InboxTotals) -> bool,
) -> InboxTotals {
    let reached = async {
        loop {
            let totals = inbox.operator().totals().await.expect("read");
            if wanted(&totals) {
                return totals;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the inbox gets there")
}

/// A caller that hangs up while the handler runs does not cut the effect in two.
pub async fn a_claim_whose_caller_is_gone_is_carried_out<B: InboxUnderTest>(bench: &B) {
    let (clock, (slow, gate)) = (Arc::default(), gated());
    let inbox = service(bench, &clock, &slow, LONG);
    let caller = tokio::spawn({
        let inbox = inbox.clone();
        async move { take(&inbox, vec![event("a", 1), event("a", 2)]).await }
    });
    asked(&slow, 1).await;
    caller.abort();
    assert!(caller.await.is_err());
    gate.add_permits(2);
    until(&inbox, |totals| totals.counts.applied == 2 && totals.lanes == 0).await;
    assert_eq!(slow.ids(), ["a@1.1.0", "a@1.2.0"]);
}

/// Nor does a sweeper that is stopped.
pub async fn a_claim_whose_sweeper_is_stopped_is_carried_out<B: InboxUnderTest>(bench: &B) {
    let (clock, elsewhere) = (Arc::new(ManualClock::default()), Elsewhere::default());
    elsewhere.script.say("a@1.1.0", super::super::retry());
    take(&service(bench, &clock, &elsewhere, LONG), vec![event("a", 1)]).await;
    clock.advance(Duration::from_secs(2));
    let (slow, gate) = gated();
    let inbox = service(bench, &clock, &slow, LONG);
    let sweeper = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.sweep().await }
    });
    asked(&slow, 1).await;
    sweeper.abort();
    assert!(sweeper.await.is_err());
    gate.add_permits(1);
    until(&inbox, |totals| totals.counts.applied == 1).await;
}

/// A store whose next transaction can be made to fail.
#[derive(Clone)]
struct Failing<S>(S, Arc<AtomicBool>);

impl<S: InboxStore> InboxStore for Failing<S> {
    type Tx<'t> = S::Tx<'t>;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static,
    {
        let fails = self.1.swap(false, Ordering::SeqCst);
        let running = (!fails).then(|| self.0.transact(job));
        async move {
            match running {
                Some(running) => running.await,
                None => Err(StoreError::new(ErrorKind::Unavailable, "out of order")),
            }
        }
    }
}

/// An answer that the store does not take fails its call, and takes no other event's handler with it.
pub async fn a_store_that_fails_one_answer_cuts_no_other_handler<B: InboxUnderTest>(bench: &B) {
    let (slow, gate) = gated();
    let fails = Arc::new(AtomicBool::new(false));
    let claim = ClaimSettings { timeout: LONG, expiry: LONG + Duration::from_secs(30), concurrency: 4 };
    let layer = InboxLayer::in_order(Failing(bench.open(), fails.clone())).clock(Arc::new(ManualClock::default()));
    let inbox = layer.claim(claim).expect("valid settings").layer(slow.clone());
    let caller = tokio::spawn({
        let inbox = inbox.clone();
        let events = vec![Incoming::Event(event("a", 1)), Incoming::Event(event("b", 1))];
        async move { inbox.apply(events).await }
    });
    asked(&slow, 2).await;
    fails.store(true, Ordering::SeqCst);
    gate.add_permits(1);
    while fails.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    until(&inbox, |totals| totals.counts.applied == 1 && totals.lanes == 1).await;
    assert!(caller.await.expect("the caller ends").is_err());
}

/// A wall clock that is set back breaks no claim, and makes none last longer whose worker is gone.
pub async fn a_clock_that_is_set_back_neither_breaks_nor_prolongs_a_claim<B: InboxUnderTest>(bench: &B) {
    let (clock, quick) = (Arc::new(ManualClock::default()), Elsewhere::default());
    let (gone, _gate) = gated();
    let first = service(bench, &clock, &gone, LONG);
    tokio::spawn(async move { take(&first, vec![event("a", 1)]).await });
    asked(&gone, 1).await;
    clock.set_wall(clock.wall() - Duration::from_secs(24 * 3600));
    let second = service(bench, &clock, &quick, LONG);
    second.sweep().await.expect("swept");
    clock.advance(LONG);
    second.sweep().await.expect("swept");
    assert!(quick.ids().is_empty(), "a claim that holds was taken over");
    clock.advance(Duration::from_secs(31));
    second.sweep().await.expect("swept");
    assert_eq!(quick.ids(), ["a@1.1.0"]);
}

/// An event whose worker dies each time, the process with it, is a dead letter in the end.
pub async fn a_claim_that_expired_counts_as_an_attempt<B: InboxUnderTest>(bench: &B) {
    let (clock, deadly) = (Arc::new(ManualClock::default()), Elsewhere::default());
    deadly.hang.lock().unwrap_or_else(PoisonError::into_inner).push("a@1.1.0".to_owned());
    let worker = || {
        let claim = ClaimSettings { timeout: LONG, expiry: LONG + Duration::from_secs(30), concurrency: 4 };
        let retry = InboxRetry { attempts: 3, ..InboxRetry::default() };
        let layer = InboxLayer::in_order(bench.open()).retry(retry).clock(clock.clone());
        layer.claim(claim).expect("valid settings").layer(deadly.clone())
    };
    let first = worker();
    tokio::spawn(async move { take(&first, vec![event("a", 1), event("a", 2)]).await });
    asked(&deadly, 1).await;
    for times in 2..=3 {
        clock.advance(LONG + Duration::from_secs(31));
        let next = worker();
        tokio::spawn(async move { next.sweep().await });
        asked(&deadly, times).await;
    }
    clock.advance(LONG + Duration::from_secs(31));
    let last = worker();
    let swept = tokio::time::timeout(Duration::from_secs(20), last.sweep()).await;
    swept.expect("nothing is left to handle").expect("swept");
    assert_eq!(deadly.asked().into_iter().map(|(_, _, attempt)| attempt).collect::<Vec<_>>(), [1, 2, 3]);
    let dead = last.operator().dead_letters(&crate::inbox::Chosen::default(), 10).await.expect("listed");
    let trouble = dead[0].record.trouble.as_ref().expect("a dead letter is trouble");
    assert!(trouble.attempts == 3 && trouble.reason.contains("claim"), "{trouble:?}");
    assert_eq!(take(&last, vec![event("b", 1)]).await, [Applied::Applied]);
}

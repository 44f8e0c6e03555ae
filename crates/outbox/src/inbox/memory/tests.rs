use std::time::Duration;

use proptest::prelude::*;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use super::*;
use crate::{
    inbox::{Applied, InboxLayer},
    testing::conformance::inbox::{
        InboxUnderTest, Script, in_order_applies_any_arrival_once_in_order, latest_ends_any_arrival_with_the_last,
    },
    testing_event,
};

/// The inbox in memory, with its effects.
#[derive(Default)]
struct Bench(MemoryInbox<Vec<String>>);

/// Writes the effect, then answers by the script.
struct Scripted(Script);

impl Handler<MemoryTx<'_, Vec<String>>> for Scripted {
    async fn handle(&self, tx: &mut MemoryTx<'_, Vec<String>>, event: &Event) -> Answer {
        tx.state().push(Script::effect(event));
        self.0.answer(event)
    }
}

impl InboxUnderTest for Bench {
    type Store = MemoryInbox<Vec<String>>;
    type Handler = Scripted;

    fn open(&self) -> Self::Store {
        self.0.clone()
    }

    fn handler(&self, script: Script) -> Scripted {
        Scripted(script)
    }

    fn effects(&self) -> Vec<String> {
        self.0.state()
    }
}

crate::inbox_conformance!(Bench::default());

/// Some keys' events, each at least once, doubled and shuffled, in batches.
fn arrivals() -> impl Strategy<Value = Vec<Vec<(u8, u64)>>> {
    proptest::collection::vec(1_u64..8, 1..4)
        .prop_flat_map(|lengths| {
            let each: Vec<(u8, u64)> = (0_u8..)
                .zip(lengths)
                .flat_map(|(key, length)| (1..=length).map(move |sequence| (key, sequence)))
                .collect();
            let more = proptest::collection::vec(proptest::sample::select(each.clone()), 0..10);
            (Just(each), more).prop_map(|(each, more)| [each, more].concat())
        })
        .prop_shuffle()
        .prop_flat_map(|events| (Just(events), 1_usize..6))
        .prop_map(|(events, size)| events.chunks(size).map(<[_]>::to_vec).collect())
}

fn run(check: impl Future<Output = ()>) {
    assert!(check.now_or_never().is_some(), "an inbox in memory waits for nothing");
}

proptest! {
    #[test]
    fn any_arrival_is_applied_once_in_order(arrivals in arrivals()) {
        run(in_order_applies_any_arrival_once_in_order(&Bench::default(), &arrivals));
    }

    #[test]
    fn latest_ends_with_the_last_of_any_arrival(arrivals in arrivals()) {
        run(latest_ends_any_arrival_with_the_last(&Bench::default(), &arrivals));
    }
}

#[tokio::test]
async fn a_handler_that_waits_is_refused_and_nothing_is_recorded() {
    struct Waits;
    impl Handler<MemoryTx<'_, ()>> for Waits {
        async fn handle(&self, _: &mut MemoryTx<'_, ()>, _: &Event) -> Answer {
            tokio::task::yield_now().await;
            Answer::Done
        }
    }
    let mut service = InboxLayer::once(MemoryInbox::<()>::new()).layer(Waits);
    let error = Service::<Event>::call(&mut service, testing_event("t", None, 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(service.operator().totals().await.unwrap().ids, 0);
}

/// Fails at first; from then on waits at events of type `waits`, which no transaction in memory allows.
struct WaitsAtSome(Arc<std::sync::atomic::AtomicBool>);

impl Handler<MemoryTx<'_, Vec<String>>> for WaitsAtSome {
    async fn handle(&self, tx: &mut MemoryTx<'_, Vec<String>>, event: &Event) -> Answer {
        if !self.0.load(std::sync::atomic::Ordering::Relaxed) {
            return Answer::retry("at first");
        }
        tx.state().push(event.kind().to_owned());
        if event.kind() == "waits" {
            tokio::task::yield_now().await;
        }
        Answer::Done
    }
}

#[tokio::test]
async fn a_kept_event_that_makes_its_transaction_fail_holds_back_no_other() {
    let (store, clock) = (MemoryInbox::new(), Arc::new(crate::memory::ManualClock::default()));
    let later = Arc::<std::sync::atomic::AtomicBool>::default();
    let service = InboxLayer::once(store.clone()).clock(clock.clone()).layer(WaitsAtSome(later.clone()));
    let events = [("waits", 1), ("good", 2), ("waits", 3), ("better", 4)];
    for (kind, number) in events {
        service.apply(vec![testing_event(kind, None, number).into()]).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    later.store(true, std::sync::atomic::Ordering::Relaxed);
    clock.advance(Duration::from_secs(60));
    service.sweep_due().await.unwrap();
    assert_eq!(store.state(), ["good", "better"]);
    assert_eq!(service.operator().totals().await.unwrap().retrying, 2);
    for _ in 0..20 {
        clock.advance(Duration::from_secs(24 * 3600));
        service.sweep().await.unwrap();
    }
    let dead = service.operator().dead_letters(&crate::inbox::Chosen::default(), 10).await.unwrap();
    let reason = |at: usize| dead[at].record.trouble.clone().unwrap().reason;
    assert!(dead.len() == 2 && reason(0).contains("ClaimHandler"), "{dead:?}");
}

#[tokio::test]
async fn the_service_composes_with_other_layers() {
    let handler = handler_fn(|count: &mut u32, _: &Event| *count += 1);
    let store = MemoryInbox::<u32>::new();
    let service = ServiceBuilder::new()
        .map_err(|error: StoreError| error.to_string())
        .layer(InboxLayer::once(store.clone()))
        .service(handler);
    let events = vec![testing_event("t", None, 1), testing_event("t", None, 2)];
    assert_eq!(service.oneshot(events).await.unwrap(), [Applied::Applied, Applied::Applied]);
    assert_eq!(store.state(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_sweeps_at_the_start_and_on_its_timer() {
    let store = MemoryInbox::<Vec<String>>::new();
    let script = Script::default();
    let layer = InboxLayer::in_order(store.clone()).clock(Arc::new(crate::memory::TokioClock::default()));
    let first = layer.layer(handler_fn(|_: &mut Vec<String>, _: &Event| Answer::retry("not yet")));
    let event = {
        let event = testing_event("t", Some("a"), 1);
        let bytes =
            crate::cloudevents::json::encode(&event, crate::cloudevents::Envelope { gapless: true, replay: None });
        crate::cloudevents::json::decode(&bytes).unwrap()
    };
    first.apply(vec![event.into()]).await.unwrap();
    let service = layer.layer(Scripted(script));
    service.run_sweeper(Duration::from_secs(1), tokio::time::sleep(Duration::from_secs(5))).await;
    assert_eq!(store.state(), ["a@1.1.0"]);
}

//! What goes wrong with stores: what passes is waited for, what does not stops the relay with a remedy.

use std::sync::Arc;

use outbox::{
    BusinessStore, ErrorKind, Operator, Relay, Source,
    bookkeeping::HealthState,
    memory::{MemoryBookkeeping, MemorySink, SeededEntropy},
    relay::RelayError,
    testing::{
        Io,
        faults::{FaultyBookkeeping, FaultySource, FaultyStore, StoreFault, StoreFaults},
    },
};
use tokio::time::sleep;

use crate::rig::{Rig, Running, arrived, eventually, no_breach, route, run, seconds, settings};

pub(crate) fn on_faulty_bookkeeping(rig: &Rig, sink: &Arc<MemorySink>) -> (Running, StoreFaults) {
    let faults = StoreFaults::default();
    let bookkeeping = FaultyBookkeeping::new(rig.bookkeeping.clone() as Arc<dyn Operator>, faults.clone());
    (run(rig.relay().bookkeeping(Arc::new(bookkeeping)).route(settings("all"), sink.clone())), faults)
}

fn error_of(ended: Result<(), RelayError>) -> (ErrorKind, String) {
    match ended.unwrap_err() {
        RelayError::Store(error) => (error.kind(), error.to_string()),
        other => panic!("no error of a store: {other}"),
    }
}

async fn stopped_reason(rig: &Rig) -> String {
    match rig.bookkeeping.health(&route("all")).await.unwrap().unwrap().state {
        HealthState::Stopped { reason } => reason,
        other => panic!("the health says {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_while_the_relay_ran_stops_it_and_the_health_says_why() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 5);
    let relay = rig.run(sink.clone());
    arrived(&sink, 5).await;
    let backup = rig.store.snapshot();
    rig.write("a", 5);
    arrived(&sink, 10).await;
    rig.caught_up("all").await;
    rig.store.restore(&backup);
    rig.write("a", 7);
    let (kind, message) = error_of(relay.ended().await);
    assert_eq!(kind, ErrorKind::HistoryChanged);
    assert!(message.contains("outbox adopt"), "{message}");
    assert_eq!(stopped_reason(&rig).await, message);
    assert_eq!(sink.ids().len(), 10);
    assert!(operator_lease_released(&rig).await);
}

async fn operator_lease_released(rig: &Rig) -> bool {
    outbox::Bookkeeping::lease(&*rig.bookkeeping, "relay").await.unwrap().released
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_while_no_relay_ran_is_noticed_before_anything_is_published() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    rig.write("a", 5);
    arrived(&sink, 5).await;
    rig.caught_up("all").await;
    let backup = rig.store.snapshot();
    rig.write("a", 5);
    arrived(&sink, 10).await;
    relay.stop().await;
    rig.store.restore(&backup);
    rig.write("a", 9);
    let (kind, message) = error_of(rig.run(sink.clone()).ended().await);
    assert_eq!(kind, ErrorKind::HistoryChanged);
    assert!(message.contains("restored from a backup") && message.contains("outbox adopt"), "{message}");
    assert_eq!(stopped_reason(&rig).await, message);
    assert_eq!(sink.ids().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_a_stopped_relay_noted_is_over_once_one_runs_again() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    rig.write("a", 2);
    arrived(&sink, 2).await;
    rig.caught_up("all").await;
    let now = rig.store.snapshot();
    relay.stop().await;
    rig.store.restore(&Rig::new().store.snapshot());
    rig.run(sink.clone()).ended().await.unwrap_err();
    rig.store.restore(&now);
    let relay = rig.run(sink.clone());
    eventually("the note is gone", async || {
        let health = rig.bookkeeping.health(&route("all")).await.unwrap();
        health.is_some_and(|health| health.state == HealthState::Flowing)
    })
    .await;
    rig.write("a", 1);
    arrived(&sink, 3).await;
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_belongs_to_another_bookkeeping_is_refused() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    rig.write("a", 2);
    arrived(&sink, 2).await;
    relay.stop().await;
    let other = Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(99)));
    let relay = run(rig.relay().bookkeeping(other.clone()).route(settings("all"), sink.clone()));
    let (kind, message) = error_of(relay.ended().await);
    assert_eq!(kind, ErrorKind::Ownership);
    assert!(message.contains("outbox adopt"), "{message}");
    assert_eq!(sink.ids().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_copies_of_a_bookkeeping_cannot_both_read_a_store() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    relay.owns().await;
    sleep(seconds(1)).await;
    // As it was before it claimed for this epoch: its next epoch is one that the store has seen already.
    let copy = Arc::new(rig.bookkeeping.copy());
    relay.stop().await;
    let relay = rig.run(sink.clone());
    relay.owns().await;
    sleep(seconds(1)).await;
    let on_copy = run(rig.relay().bookkeeping(copy).route(settings("all"), Arc::new(MemorySink::default())));
    let (kind, _) = error_of(on_copy.ended().await);
    assert_eq!(kind, ErrorKind::Ownership);
    rig.write("a", 1);
    arrived(&sink, 1).await;
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bookkeeping_that_takes_no_writes_for_a_while_loses_nothing() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Full] {
        let rig = Rig::new();
        let sink = Arc::new(MemorySink::default());
        sink.refuse("a@1.2.0", true, "no");
        let (relay, faults) = on_faulty_bookkeeping(&rig, &sink);
        relay.owns().await;
        for io in [Io::Checkpoint, Io::Keep, Io::Settle, Io::NoteHealth] {
            faults.always(io, StoreFault::Fail(kind));
        }
        rig.write("a", 4);
        let mut written = rig.write("b", 100);
        arrived(&sink, 101).await;
        sleep(seconds(300)).await;
        assert_eq!((rig.checkpoint(&route("all")).await, rig.kept("all").await.lanes), (None, 0));
        faults.mend();
        rig.keeps("all", 1, 2).await;
        rig.caught_up("all").await;
        written.extend(rig.write("b", 5));
        sink.mend();
        rig.redrive("all").await;
        arrived(&sink, 109).await;
        relay.stop().await;
        let of_b: Vec<String> = sink.ids().into_iter().filter(|id| id.starts_with("b@")).collect();
        assert_eq!(of_b, written);
        no_breach(&sink);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bookkeeping_whose_answers_are_lost_loses_and_doubles_nothing() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.2.0", true, "no");
    let (relay, faults) = on_faulty_bookkeeping(&rig, &sink);
    for io in [Io::Take, Io::Checkpoint, Io::Keep, Io::Checkpoint, Io::Settle, Io::NoteHealth] {
        faults.once(io, StoreFault::LoseAnswer);
    }
    let mut written = rig.write("a", 4);
    rig.keeps("all", 1, 2).await;
    sink.mend();
    rig.redrive("all").await;
    arrived(&sink, 4).await;
    rig.keeps("all", 0, 0).await;
    written.extend(rig.write("a", 4));
    arrived(&sink, 8).await;
    rig.caught_up("all").await;
    relay.stop().await;
    let mut ids = sink.ids();
    ids.dedup();
    assert_eq!(ids, written);
    no_breach(&sink);
}

/// Whatever I/O fails once, at the start or later, the relay goes on by itself.
#[tokio::test(start_paused = true)]
async fn any_bookkeeping_call_may_fail_once() {
    let calls = [
        Io::Id,
        Io::Lease,
        Io::Take,
        Io::Claims,
        Io::NoteClaims,
        Io::Witnesses,
        Io::Checkpoints,
        Io::Tombstones,
        Io::Troubles,
        Io::Health,
        Io::Paused,
        Io::Replays,
        Io::OperatorChanges,
        Io::KeptCounts,
        Io::Trouble,
        Io::Kept,
        Io::Release,
    ];
    for io in calls {
        let rig = Rig::new();
        let sink = Arc::new(MemorySink::default());
        sink.refuse("a@1.1.0", false, "not yet");
        let written = rig.write("a", 4);
        let (relay, faults) = on_faulty_bookkeeping(&rig, &sink);
        faults.once(io, StoreFault::Fail(ErrorKind::Unavailable));
        eventually("it is set aside", async || rig.kept("all").await.retrying == 1).await;
        faults.once(io, StoreFault::Fail(ErrorKind::Unavailable));
        sink.mend();
        arrived(&sink, 4).await;
        rig.keeps("all", 0, 0).await;
        relay.stop().await;
        assert_eq!(sink.ids(), written, "{io:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_be_read_for_a_while_is_read_later() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let (source, store) = (StoreFaults::default(), StoreFaults::default());
    let business = Arc::new(rig.store.reopen());
    let relay = run(rig
        .relay_on(
            Arc::new(FaultySource::new(business.clone() as Arc<dyn Source>, source.clone())),
            Arc::new(FaultyStore::new(business as Arc<dyn BusinessStore>, store.clone())),
        )
        .route(settings("all"), sink.clone()));
    for io in [Io::Claim, Io::Agreement, Io::Register, Io::Routes] {
        store.once(io, StoreFault::Fail(ErrorKind::Unavailable));
    }
    for io in [Io::Partitions, Io::Start] {
        source.once(io, StoreFault::Fail(ErrorKind::Unavailable));
    }
    source.always(Io::Read, StoreFault::Fail(ErrorKind::Unavailable));
    source.always(Io::Backlog, StoreFault::Fail(ErrorKind::Unavailable));
    let mut written = rig.write("a", 3);
    sleep(seconds(120)).await;
    assert_eq!((sink.calls(), store.pending()), (0, 0));
    source.mend();
    arrived(&sink, 3).await;
    written.extend(rig.write("a", 3));
    arrived(&sink, 6).await;
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_does_not_pass_stops_the_relay() {
    for kind in [ErrorKind::Incompatible, ErrorKind::NotPermitted, ErrorKind::Invalid] {
        let rig = Rig::new();
        let sink = Arc::new(MemorySink::default());
        let (relay, faults) = on_faulty_bookkeeping(&rig, &sink);
        faults.always(Io::Checkpoint, StoreFault::Fail(kind));
        rig.write("a", 3);
        let (found, message) = error_of(relay.ended().await);
        assert_eq!(found, kind);
        assert!(message.contains("scripted failure of Checkpoint"), "{message}");
        assert_eq!(stopped_reason(&rig).await, message);
    }
}

#[tokio::test]
async fn a_relay_without_its_parts_is_not_built_and_says_what_is_missing() {
    let rig = Rig::new();
    let sink = || Arc::new(MemorySink::default());
    let store = || Arc::new(rig.store.reopen());
    let refused = |builder: outbox::relay::RelayBuilder| builder.build().err().unwrap().to_string();
    let of = Relay::builder;
    assert!(refused(of()).contains("a source"));
    assert!(refused(of().source(store())).contains("at least one route"));
    let routed = || of().source(store()).route(settings("all"), sink());
    assert!(refused(routed()).contains("a business store"));
    assert!(refused(routed().store(store())).contains("a bookkeeping"));
    let twice = rig.relay().route(settings("all"), sink()).route(settings("all"), sink());
    assert!(refused(twice).contains("two routes are named `all`"));
    let hasty = rig.relay().route(settings("all"), sink()).failover(std::time::Duration::from_millis(99));
    assert!(refused(hasty).contains("100 ms"));
}

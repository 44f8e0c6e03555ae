//! Stopping in order: what is awaited, what is not, and what is left behind.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    ErrorKind, Operator, RouteSettings, StoreError,
    bookkeeping::Bookkeeping as _,
    memory::MemorySink,
    testing::{
        Call, Hook, Hooked, InWords, Io,
        faults::{FaultySink, SinkFault, SinkFaults},
    },
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    flow::singly,
    frail::{Frail, frail},
    rig::{Rig, arrived, broken_sink, millis, route, run, seconds, settings},
};

#[tokio::test(start_paused = true)]
async fn a_clean_stop_awaits_the_answers_under_way_and_leaves_nothing_to_do_again() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let Frail { mut relay, sink: faults, .. } = frail(&rig, &sink);
    faults.once(SinkFault::Hang);
    let written = rig.write("a", 3);
    faults.hanging_at_least(1).await;
    relay.ask_to_stop();
    sleep(seconds(20)).await;
    assert!(relay.is_owner(), "it waits for the answer");
    faults.release();
    relay.ended().await.unwrap();
    assert_eq!(rig.checkpoint(&route("all")).await, Some(rig.end().await));
    assert!(rig.bookkeeping.lease("relay").await.unwrap().released);

    let next = rig.run(sink.clone());
    next.owns().await;
    sleep(seconds(10)).await;
    next.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_relay_makes_no_new_calls() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let Frail { mut relay, sink: faults, .. } = frail(&rig, &sink);
    faults.once(SinkFault::Hang);
    let written = rig.write("a", 1);
    faults.hanging_at_least(1).await;
    relay.ask_to_stop();
    rig.write("b", 5);
    sleep(seconds(5)).await;
    faults.release();
    relay.ended().await.unwrap();
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_no_longer_than_the_drain_limit() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let faults = SinkFaults::default();
    let hanging = Arc::new(FaultySink::new(sink.clone(), faults.clone()));
    let mut relay = run(rig.relay().drain_limit(seconds(3)).route(settings("all"), hanging));
    let mut written = rig.write("a", 1);
    arrived(&sink, 1).await;
    rig.caught_up("all").await;
    let before = rig.checkpoint(&route("all")).await;
    faults.once(SinkFault::Hang);
    written.extend(rig.write("a", 1));
    faults.hanging_at_least(1).await;
    let begun = Instant::now();
    relay.ask_to_stop();
    relay.ended().await.unwrap();
    let took = begun.elapsed();
    assert!(took >= seconds(3) && took < millis(3100), "it took {took:?}");
    assert_eq!(rig.checkpoint(&route("all")).await, before, "what was not answered is not behind the checkpoint");
    assert!(rig.bookkeeping.lease("relay").await.unwrap().released);
    let next = rig.run(sink.clone());
    arrived(&sink, 2).await;
    next.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_stands_by_stops_when_it_is_asked_to() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let owner = rig.run(sink.clone());
    owner.owns().await;
    let standby = rig.run(sink.clone());
    sleep(seconds(30)).await;
    let begun = Instant::now();
    standby.stop().await;
    assert!(begun.elapsed() < millis(10));
    assert!(owner.is_owner());
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_no_rate_no_pause_and_no_dead_sink() {
    let rig = Rig::new();
    for number in 0..50 {
        rig.write(&format!("key/{number}"), 3);
    }
    let limited = Arc::new(MemorySink::new(singly(4)));
    rig.bookkeeping.pause(&route("paused"), true).await.unwrap();
    let relay = run(rig
        .relay()
        .route(RouteSettings { rate_limit: Some(1), ..settings("limited") }, limited.clone())
        .route(settings("paused"), Arc::new(MemorySink::default()))
        .route(settings("dead"), broken_sink()));
    arrived(&limited, 5).await;
    sleep(millis(500)).await;
    let begun = Instant::now();
    relay.stop().await;
    assert!(begun.elapsed() < millis(10), "it took {:?}", begun.elapsed());
    assert_eq!(limited.ids().len(), 5);
}

/// Holds up who looks for troubles, and has them fail then.
#[derive(Clone, Default)]
struct Unlucky(Arc<(Notify, Notify)>);

#[async_trait]
impl Hook for Unlucky {
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError> {
        if call.io != Io::Troubles {
            return Ok(());
        }
        let (waits, goes_on) = &*self.0;
        waits.notify_one();
        goes_on.notified().await;
        Err(StoreError::new(ErrorKind::Unavailable, "not now"))
    }

    async fn after(&self, _: &Call<'_>, _: &dyn InWords) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_cannot_stop_in_order_stops_all_the_same() {
    let rig = Rig::new();
    let unlucky = Unlucky::default();
    let books = Hooked::new(rig.bookkeeping.clone() as Arc<dyn Operator>, unlucky.clone());
    let sink = Arc::new(MemorySink::default());
    let mut relay = run(rig.relay().bookkeeping(Arc::new(books)).route(settings("all"), sink));
    let (waits, goes_on) = &*unlucky.0;
    // The route is still being brought up when the relay is asked to stop, and fails then.
    waits.notified().await;
    relay.ask_to_stop();
    sleep(millis(10)).await;
    goes_on.notify_one();
    relay.ended().await.unwrap();
}

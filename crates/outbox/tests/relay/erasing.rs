//! What is erased while a relay runs.

use std::sync::Arc;

use outbox::{
    Bookkeeping as _, Fault, Operator as _,
    bookkeeping::HealthState,
    memory::MemorySink,
    relay::RouteState,
    testing::faults::{FaultySink, SinkFault, SinkFaults},
};
use tokio::time::sleep;

use crate::{
    flow::singly,
    rig::{Rig, arrived, eventually, key, no_breach, route, seconds},
};

#[tokio::test(start_paused = true)]
async fn tombstones_of_what_is_erased_are_forgotten_once_the_checkpoint_is_past_them() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 3);
    let relay = rig.run(sink.clone());
    rig.keeps("all", 1, 2).await;
    rig.caught_up("all").await;
    assert_eq!(rig.bookkeeping.erase(&key("a")).await.unwrap(), 3);
    assert_eq!(rig.bookkeeping.tombstones(&route("all")).await.unwrap().len(), 3);
    // The relay looks for what an operator did once a second; what is behind the next checkpoint is forgotten then.
    for _ in 0..10 {
        sleep(seconds(1)).await;
        rig.write("b", 1);
        rig.caught_up("all").await;
    }
    assert_eq!(rig.bookkeeping.tombstones(&route("all")).await.unwrap(), []);
    arrived(&sink, 10).await;
    relay.stop().await;
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_route_ceases_to_back_off_when_all_that_it_kept_is_erased() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 1);
    let relay = rig.run(sink.clone());
    rig.keeps("all", 1, 0).await;
    sink.break_down(Fault::Sink, "connection refused");
    rig.redrive("all").await;
    eventually("it backs off", async || matches!(relay.route("all").state, RouteState::BackingOff { .. })).await;
    assert_eq!(rig.bookkeeping.erase(&key("a")).await.unwrap(), 1);
    // What is erased is noticed when the sink is asked next: within a minute.
    sleep(seconds(120)).await;
    sink.mend();
    rig.write("b", 1);
    arrived(&sink, 1).await;
    eventually("it says that events flow", async || {
        let noted = rig.bookkeeping.health(&route("all")).await.unwrap().unwrap();
        noted.state == HealthState::Flowing && relay.route("all").state == RouteState::Flowing
    })
    .await;
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_follows_an_erased_event_waits_for_the_call_that_the_keeper_has_under_way_for_it() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 1);
    let faults = SinkFaults::default();
    let relay = rig.run(Arc::new(FaultySink::new(sink.clone(), faults.clone())));
    rig.keeps("all", 1, 0).await;
    sink.mend();
    faults.once(SinkFault::Hang);
    rig.redrive("all").await;
    faults.hanging_at_least(1).await;
    assert_eq!(rig.bookkeeping.erase(&key("a")).await.unwrap(), 1);
    rig.write("a", 1);
    sleep(seconds(10)).await;
    assert_eq!(sink.ids(), [""; 0], "two calls for one key");
    faults.release();
    arrived(&sink, 2).await;
    relay.stop().await;
    assert_eq!(sink.ids(), ["a@1.1.0", "a@1.2.0"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_erased_while_it_waits_for_its_turn_at_the_sink_does_not_go_out() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::new(singly(1)));
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 1);
    let faults = SinkFaults::default();
    let relay = rig.run(Arc::new(FaultySink::new(sink.clone(), faults.clone())));
    rig.keeps("all", 1, 0).await;
    sink.mend();
    faults.once(SinkFault::Hang);
    rig.write("b", 1);
    faults.hanging_at_least(1).await;
    rig.redrive("all").await;
    // The relay looks for what an operator did once a second.
    sleep(seconds(3)).await;
    assert_eq!(rig.bookkeeping.erase(&key("a")).await.unwrap(), 1);
    sleep(seconds(3)).await;
    faults.release();
    arrived(&sink, 1).await;
    sleep(seconds(60)).await;
    relay.stop().await;
    assert_eq!(sink.ids(), ["b@1.1.0"]);
}

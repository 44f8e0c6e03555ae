//! What goes wrong with sinks: each failure is contained where it belongs.

use std::sync::Arc;

use outbox::{
    Fault, Operator,
    bookkeeping::HealthState,
    memory::MemorySink,
    relay::RouteState,
    testing::faults::{FaultySink, SinkFault, SinkFaults},
};
use tokio::time::{Instant, sleep};

use crate::{
    flow::singly,
    rig::{Rig, Running, arrived, eventually, millis, no_breach, route, run, seconds, settings},
    watched::{Quirk, Watched},
};

/// A running relay whose sink fails as its script says.
pub(crate) fn faulty(rig: &Rig, sink: &Arc<MemorySink>) -> (Running, SinkFaults) {
    let faults = SinkFaults::default();
    let relay = rig.run(Arc::new(FaultySink::new(sink.clone(), faults.clone())));
    (relay, faults)
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_fails_that_call_and_the_rest_goes_on() {
    let rig = Rig::new();
    let (sink, other) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    let quirk = Quirk::Panics { event: "a@1.2.0".to_owned(), times: 3 };
    let mut written = rig.write("a", 5);
    rig.write("b", 5);
    let panicking = Watched::with(sink.clone(), quirk);
    let relay = run(rig.relay().route(settings("panics"), panicking).route(settings("other"), other.clone()));
    arrived(&sink, 10).await;
    arrived(&other, 10).await;
    written.extend(rig.write("a", 1));
    arrived(&sink, 11).await;
    relay.stop().await;
    let of_a: Vec<String> = sink.ids().into_iter().filter(|id| id.starts_with("a@")).collect();
    assert_eq!(of_a, written);
    assert_eq!(rig.kept("panics").await, outbox::bookkeeping::KeptCounts::default());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_makes_the_sink_panic_every_time_holds_back_its_key_alone() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let quirk = Quirk::Panics { event: "bad@1.1.0".to_owned(), times: usize::MAX };
    rig.write("bad", 3);
    let mut written = rig.write("good", 300);
    let relay = rig.run(Watched::with(sink.clone(), quirk));
    arrived(&sink, 300).await;
    // While others are accepted it is not the sink's fault.
    for _ in 0..60 {
        written.extend(rig.write("good", 1));
        sleep(seconds(1)).await;
    }
    assert_eq!(rig.kept("all").await.retrying, 1);
    assert_eq!(rig.kept("all").await.parked, 2);
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_answers_is_cut_off_at_the_call_timeout() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let faults = SinkFaults::default();
    faults.once(SinkFault::Hang);
    let hanging = Arc::new(FaultySink::new(sink.clone(), faults.clone()));
    let relay = run(rig.relay().call_timeout(seconds(7)).route(settings("all"), hanging));
    let begun = Instant::now();
    let written = rig.write("a", 3);
    arrived(&sink, 3).await;
    let took = begun.elapsed();
    assert!(took >= seconds(7) && took < seconds(8), "it took {took:?}");
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_are_too_few_acknowledge_nothing() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let (relay, faults) = faulty(&rig, &sink);
    faults.once(SinkFault::ShortAnswer);
    let written = rig.write("a", 4);
    // All of them came, and all of them come again.
    arrived(&sink, 8).await;
    rig.caught_up("all").await;
    assert_eq!(sink.ids(), [written.clone(), written].concat());
    assert_eq!((relay.route("all").published, relay.route("all").not_accepted), (4, 1));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_are_too_many_acknowledge_nothing() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let written = rig.write("a", 4);
    let relay = rig.run(Watched::with(sink.clone(), Quirk::OneOutcomeTooMany { times: 2 }));
    arrived(&sink, 4).await;
    rig.caught_up("all").await;
    assert_eq!((relay.route("all").published, relay.route("all").not_accepted), (4, 2));
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_brings_a_duplicate_and_no_disorder() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let (relay, faults) = faulty(&rig, &sink);
    faults.once(SinkFault::AcceptAndLoseAnswer);
    rig.write("a", 4);
    arrived(&sink, 8).await;
    rig.write("a", 4);
    arrived(&sink, 12).await;
    relay.stop().await;
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_asks_to_be_left_alone_is_left_alone_for_so_long() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let faults = SinkFaults::default();
    let watched = Watched::new(sink.clone(), millis(0));
    let relay = rig.run(Arc::new(FaultySink::new(watched.clone(), faults.clone())));
    faults.once(SinkFault::Throttle { after: Some(seconds(45)) });
    let begun = Instant::now();
    let written = rig.write("a", 3);
    arrived(&sink, 3).await;
    let first = watched.calls()[0].at - begun;
    assert!(first >= seconds(45) && first < seconds(46), "it was called after {first:?}");
    assert_eq!(rig.kept("all").await.lanes, 0);
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_throttle_of_one_event_holds_back_its_key_alone() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::new(singly(1)));
    let (relay, faults) = faulty(&rig, &sink);
    faults.once(SinkFault::Throttle { after: Some(seconds(100)) });
    rig.write("slow", 2);
    eventually("it was throttled", async || faults.pending() == 0).await;
    let begun = Instant::now();
    rig.write("quick", 5);
    arrived(&sink, 5).await;
    assert!(begun.elapsed() < seconds(1));
    arrived(&sink, 7).await;
    assert!(begun.elapsed() > seconds(99));
    relay.stop().await;
    assert!(sink.ids()[..5].iter().all(|id| id.starts_with("quick@")));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_as_a_whole_is_probed_by_one_call_and_condemns_nothing() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::new(singly(8)));
    sink.break_down(Fault::Sink, "connection refused");
    let watched = Watched::new(sink.clone(), millis(10));
    for number in 0..200 {
        rig.write(&format!("key/{number}"), 2);
    }
    let relay = rig.run(watched.clone());
    sleep(seconds(3600)).await;
    let first = watched.calls().len();
    sleep(seconds(3600)).await;
    let probes = watched.calls()[first..].to_vec();
    // At most a minute apart, with full jitter: about two a minute, and never two at once.
    assert!(probes.len() > 60 && probes.len() < 600, "{} probes in an hour", probes.len());
    assert!(probes.windows(2).all(|pair| pair[1].at - pair[0].at >= millis(10)), "two probes at the same time");
    assert_eq!(rig.kept("all").await.lanes, 0);
    let health = rig.bookkeeping.health(&route("all")).await.unwrap().unwrap();
    assert_eq!(health.state, HealthState::BackingOff { reason: "connection refused".to_owned() });

    sink.mend();
    arrived(&sink, 400).await;
    eventually("it says so", async || {
        let health = rig.bookkeeping.health(&route("all")).await.unwrap().unwrap();
        health.state == HealthState::Flowing && relay.route("all").state == RouteState::Flowing
    })
    .await;
    relay.stop().await;
    assert_eq!(sink.ids().len(), 400);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_failures_name_nobody_condemns_nothing_either() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.break_down(Fault::Unknown, "500");
    for number in 0..50 {
        rig.write(&format!("key/{number}"), 4);
    }
    let relay = rig.run(sink.clone());
    sleep(seconds(4 * 3600)).await;
    assert_eq!(rig.kept("all").await.lanes, 0);
    sink.mend();
    arrived(&sink, 200).await;
    relay.stop().await;
    assert_eq!(sink.ids().len(), 200);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn the_status_says_who_owns_and_what_happened() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.3.0", true, "no");
    let relay = rig.run(sink.clone());
    assert_eq!((relay.handle.status().owner, relay.handle.status().epoch), (false, None));
    relay.owns().await;
    assert_eq!(relay.handle.status().epoch, Some(1));
    rig.write("a", 4);
    rig.keeps("all", 1, 1).await;
    sleep(seconds(10)).await;
    let status = relay.route("all");
    assert_eq!((status.published, status.in_flight, status.troubled), (2, 0, 1));
    assert!(status.not_accepted >= 1);
    assert_eq!(status.state, RouteState::Flowing);
    let handle = relay.handle.clone();
    relay.stop().await;
    assert_eq!((handle.status().owner, handle.status().epoch), (false, None));
}

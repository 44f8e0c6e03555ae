//! Routes beside each other: their own pace, their own start, their own trouble.

use std::sync::Arc;

use outbox::{
    Operator as _, RouteSettings, Sink as _, SinkLimits, Source, Start,
    bookkeeping::HealthState,
    clock::Clock as _,
    memory::MemorySink,
    relay::RouteState,
    route::WindowLimits,
    testing::{Hooked, Io},
};
use tokio::time::{Instant, sleep};

use crate::{
    flow::singly,
    logged::Logged,
    rig::{Rig, arrived, broken_sink, eventually, millis, no_breach, route, run, seconds, settings},
    watched::Watched,
};

fn small_window(name: &str) -> RouteSettings {
    let window = WindowLimits { events: 16, ..WindowLimits::default() };
    RouteSettings { window, ..settings(name) }
}

#[tokio::test(start_paused = true)]
async fn a_route_with_a_dead_sink_holds_back_no_other() {
    let rig = Rig::new();
    let (dead, live) = (broken_sink(), Arc::new(MemorySink::default()));
    let mut written = rig.write("a", 400);
    let relay = run(rig.relay().route(small_window("dead"), dead.clone()).route(settings("live"), live.clone()));
    let begun = Instant::now();
    arrived(&live, 400).await;
    assert!(begun.elapsed() < seconds(1), "it took {:?}", begun.elapsed());
    assert!(matches!(relay.route("dead").state, RouteState::BackingOff { reason } if reason == "nobody listens"));
    assert_eq!(relay.route("live").state, RouteState::Flowing);

    sleep(seconds(600)).await;
    written.extend(rig.write("a", 10));
    let begun = Instant::now();
    arrived(&live, 410).await;
    assert!(begun.elapsed() < seconds(1), "it took {:?}", begun.elapsed());
    assert_eq!(rig.checkpoint(&route("dead")).await, None);

    dead.mend();
    arrived(&dead, 410).await;
    relay.stop().await;
    assert_eq!((dead.ids(), live.ids()), (written.clone(), written));
}

#[tokio::test(start_paused = true)]
async fn a_slow_route_falls_behind_alone_and_catches_up_exactly() {
    let rig = Rig::new();
    let mut written = rig.write("a", 200);
    let (slow, fast) = (Arc::new(MemorySink::new(singly(1))), Arc::new(MemorySink::default()));
    let reads = Logged::default();
    let store = Arc::new(rig.store.reopen());
    let source = Arc::new(Hooked::new(store.clone() as Arc<dyn Source>, reads.clone()));
    let relay = run(rig
        .relay_on(source, store)
        .route(small_window("slow"), Watched::new(slow.clone(), millis(50)))
        .route(settings("fast"), fast.clone()));
    let begun = Instant::now();
    arrived(&fast, 200).await;
    assert!(begun.elapsed() < millis(500), "it took {:?}", begun.elapsed());
    assert!(slow.ids().len() < 20);
    arrived(&slow, 200).await;
    rig.caught_up("slow").await;

    // Where both stand at the same position again, one read serves both: one that finds, one that finds nothing more.
    reads.clear();
    for more in 1..=10 {
        written.extend(rig.write("a", 1));
        arrived(&slow, 200 + more).await;
        arrived(&fast, 200 + more).await;
    }
    sleep(seconds(5)).await;
    assert!(reads.count(Io::Read) <= 2 * 10, "{} reads for ten entries", reads.count(Io::Read));
    relay.stop().await;
    assert_eq!((slow.ids(), fast.ids()), (written.clone(), written));
}

#[tokio::test(start_paused = true)]
async fn a_new_route_that_starts_now_takes_only_what_follows_its_registration() {
    let rig = Rig::new();
    let (old, new) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    rig.write("a", 5);
    let relay = run(rig.relay().route(settings("old"), old.clone()));
    arrived(&old, 5).await;
    relay.stop().await;
    rig.write("a", 5);
    let starting = RouteSettings { start: Start::Now, ..settings("new") };
    let relay = run(rig.relay().route(settings("old"), old.clone()).route(starting.clone(), new.clone()));
    arrived(&old, 10).await;
    // Killed before the route ever had a checkpoint: its start is where it was registered, not where it runs again.
    relay.kill().await;
    let follows = rig.write("a", 3);
    let relay = run(rig.relay().route(settings("old"), old.clone()).route(starting, new.clone()));
    arrived(&new, 3).await;
    relay.stop().await;
    assert_eq!(new.ids(), follows);
}

#[tokio::test(start_paused = true)]
async fn a_new_route_that_starts_at_the_beginning_takes_all_that_is_retained() {
    let rig = Rig::new();
    let (old, new) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    let written = rig.write("a", 5);
    let relay = run(rig.relay().route(settings("old"), old.clone()));
    arrived(&old, 5).await;
    relay.stop().await;
    let relay = run(rig.relay().route(settings("old"), old.clone()).route(settings("new"), new.clone()));
    arrived(&new, 5).await;
    relay.stop().await;
    assert_eq!((new.ids(), old.ids()), (written.clone(), written));
}

#[tokio::test(start_paused = true)]
async fn a_new_route_that_starts_at_a_time_takes_what_was_recorded_since() {
    let rig = Rig::new();
    rig.write("a", 5);
    sleep(seconds(60)).await;
    let since = rig.clock.wall();
    let follows = rig.write("a", 5);
    let sink = Arc::new(MemorySink::default());
    let relay = run(rig.relay().route(RouteSettings { start: Start::Time(since), ..settings("all") }, sink.clone()));
    arrived(&sink, 5).await;
    rig.caught_up("all").await;
    relay.stop().await;
    assert_eq!(sink.ids(), follows);
}

#[tokio::test(start_paused = true)]
async fn a_paused_route_sends_nothing_until_it_is_resumed() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    let mut written = rig.write("a", 3);
    arrived(&sink, 3).await;
    rig.bookkeeping.pause(&route("all"), true).await.unwrap();
    eventually("the status says so", async || relay.route("all").state == RouteState::Paused).await;
    written.extend(rig.write("a", 20));
    sleep(seconds(600)).await;
    assert_eq!(sink.ids().len(), 3);
    rig.bookkeeping.pause(&route("all"), false).await.unwrap();
    arrived(&sink, 23).await;
    assert_eq!(relay.route("all").state, RouteState::Flowing);
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_paused_route_stays_paused_over_a_restart_and_its_kept_events_too() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 2);
    let relay = rig.run(sink.clone());
    rig.keeps("all", 1, 1).await;
    relay.stop().await;
    sink.mend();
    rig.write("b", 1);
    rig.redrive("all").await;
    rig.bookkeeping.pause(&route("all"), true).await.unwrap();
    let before = sink.calls();
    let relay = rig.run(sink.clone());
    relay.owns().await;
    sleep(seconds(600)).await;
    assert_eq!(sink.calls(), before);
    rig.bookkeeping.pause(&route("all"), false).await.unwrap();
    arrived(&sink, 3).await;
    relay.stop().await;
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn pausing_one_route_lets_the_others_go_on() {
    let rig = Rig::new();
    let (paused, other) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    rig.bookkeeping.pause(&route("paused"), true).await.unwrap();
    let relay = run(rig.relay().route(settings("paused"), paused.clone()).route(settings("other"), other.clone()));
    rig.write("a", 500);
    arrived(&other, 500).await;
    relay.stop().await;
    assert_eq!(paused.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_kept_in_every_second() {
    let rig = Rig::new();
    for number in 0..60 {
        rig.write(&format!("key/{number}"), 2);
    }
    let limits = SinkLimits { max_events: 5, ..MemorySink::default().limits() };
    let sink = Arc::new(MemorySink::new(limits));
    let watched = Watched::new(sink.clone(), millis(1));
    let begun = Instant::now();
    let relay = run(rig.relay().route(RouteSettings { rate_limit: Some(10), ..settings("all") }, watched.clone()));
    arrived(&sink, 120).await;
    relay.stop().await;
    let calls = watched.calls();
    for (index, first) in calls.iter().enumerate() {
        let second = calls[index..].iter().take_while(|call| call.at < first.at + seconds(1));
        let events: usize = second.map(|call| call.ids.len()).sum();
        assert!(events <= 10 + limits.max_events, "{events} events in the second after {:?}", first.at - begun);
    }
    let took = begun.elapsed();
    assert!(took >= seconds(11) && took < seconds(14), "120 events, ten a second, took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn pausing_a_route_that_waits_for_its_rate_is_no_failure_of_its_sink() {
    let rig = Rig::new();
    for number in 0..20 {
        rig.write(&format!("key/{number}"), 1);
    }
    let sink = Arc::new(MemorySink::new(singly(4)));
    let relay = run(rig.relay().route(RouteSettings { rate_limit: Some(1), ..settings("all") }, sink.clone()));
    arrived(&sink, 3).await;
    rig.bookkeeping.pause(&route("all"), true).await.unwrap();
    eventually("the status says so", async || relay.route("all").state == RouteState::Paused).await;
    let sent = sink.ids().len();
    sleep(seconds(600)).await;
    assert_eq!(sink.ids().len(), sent);
    let health = rig.bookkeeping.health(&route("all")).await.unwrap();
    assert!(health.is_none_or(|health| health.state == HealthState::Flowing), "the sink is blamed");
    assert_eq!(relay.route("all").not_accepted, 0);
    rig.bookkeeping.pause(&route("all"), false).await.unwrap();
    arrived(&sink, 20).await;
    relay.stop().await;
    assert_eq!(sink.ids().len(), 20);
}

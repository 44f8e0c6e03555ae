//! What flows where nothing goes wrong.

use std::sync::Arc;

use outbox::{
    Filter, NewEvent, Position, RouteSettings, SinkLimits, Source as _, memory::MemorySink, route::WindowLimits,
};
use tokio::time::Instant;

use crate::{
    rig::{Rig, arrived, event, keyless, millis, no_breach, partition, route, run, seconds, settings},
    watched::Watched,
};

/// One event a call.
pub(crate) fn singly(max_calls: usize) -> SinkLimits {
    SinkLimits { ordered_calls: false, max_events: 1, max_calls, ..outbox::Sink::limits(&MemorySink::default()) }
}

#[tokio::test(start_paused = true)]
async fn events_of_one_key_arrive_in_order_and_once() {
    let rig = Rig::new();
    let mut written = rig.write("a", 300);
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    arrived(&sink, 300).await;
    written.extend(rig.write("a", 50));
    arrived(&sink, 350).await;
    relay.stop().await;
    assert_eq!(sink.ids(), written);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn events_of_many_keys_flow_at_the_same_time() {
    let rig = Rig::new();
    for number in 0..8 {
        rig.write(&format!("key/{number}"), 1);
    }
    let sink = Arc::new(MemorySink::new(singly(8)));
    let watched = Watched::new(sink.clone(), seconds(1));
    let begun = Instant::now();
    let relay = rig.run(watched.clone());
    arrived(&sink, 8).await;
    assert_eq!(watched.most_at_once(), 8);
    assert!(begun.elapsed() < seconds(2), "eight calls of a second each took {:?}", begun.elapsed());
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_one_call_at_a_time() {
    let rig = Rig::new();
    let written = rig.write("a", 6);
    let sink = Arc::new(MemorySink::new(singly(8)));
    let watched = Watched::new(sink.clone(), seconds(1));
    let relay = rig.run(watched.clone());
    arrived(&sink, 6).await;
    relay.stop().await;
    assert_eq!((sink.ids(), watched.most_at_once()), (written, 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_under_way_than_the_sink_takes() {
    let rig = Rig::new();
    for number in 0..50 {
        rig.write(&format!("key/{number}"), 2);
    }
    let sink = Arc::new(MemorySink::new(singly(3)));
    let watched = Watched::new(sink.clone(), millis(100));
    let relay = rig.run(watched.clone());
    arrived(&sink, 100).await;
    relay.stop().await;
    assert_eq!(watched.most_at_once(), 3);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn events_without_a_key_arrive_once_each() {
    let rig = Rig::new();
    for _ in 0..40 {
        rig.store.write([keyless(), keyless()]).unwrap();
    }
    let sink = Arc::new(MemorySink::new(singly(8)));
    let relay = rig.run(sink.clone());
    arrived(&sink, 80).await;
    rig.caught_up("all").await;
    relay.stop().await;
    let mut ids = sink.ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), sink.ids().len()), (80, 80));
}

#[tokio::test(start_paused = true)]
async fn events_of_one_commit_keep_their_order_by_index() {
    let rig = Rig::new();
    rig.store.write([event("a"), event("b"), event("a"), event("a"), event("b")]).unwrap();
    rig.store.write([event("a"), event("a")]).unwrap();
    let sink = Arc::new(MemorySink::new(singly(8)));
    let relay = rig.run(sink.clone());
    arrived(&sink, 7).await;
    relay.stop().await;
    let of = |key: &str| -> Vec<String> { sink.ids().into_iter().filter(|id| id.starts_with(key)).collect() };
    assert_eq!(of("a"), ["a@1.1.0", "a@1.1.1", "a@1.1.2", "a@1.2.0", "a@1.2.1"]);
    assert_eq!(of("b"), ["b@1.1.0", "b@1.1.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_filter_passes_over_what_others_take_and_the_checkpoint_moves_on() {
    let rig = Rig::new();
    let of_kind = |kind: &str| NewEvent::builder(kind).key("a").json(&1).build().unwrap();
    for _ in 0..10 {
        rig.store.write([of_kind("order.placed"), of_kind("cart.filled")]).unwrap();
        rig.store.write([of_kind("cart.filled")]).unwrap();
    }
    let sink = Arc::new(MemorySink::default());
    let filter = Filter { types: vec!["order.*".to_owned()], ..Filter::default() };
    let relay = run(rig.relay().route(RouteSettings { filter, ..settings("orders") }, sink.clone()));
    arrived(&sink, 10).await;
    rig.caught_up("orders").await;
    for _ in 0..10 {
        rig.store.write([of_kind("cart.filled")]).unwrap();
    }
    rig.caught_up("orders").await;
    relay.stop().await;
    assert!(sink.accepted().iter().all(|accepted| accepted.event.kind() == "order.placed" && !accepted.gapless));
    assert_eq!(sink.ids().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_takes_everything_says_that_it_is_gapless() {
    let rig = Rig::new();
    rig.write("a", 2);
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    arrived(&sink, 2).await;
    relay.stop().await;
    assert!(sink.accepted().iter().all(|accepted| accepted.gapless && accepted.replay.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_route_whose_filter_was_changed_is_gapless_no_more_though_both_keep_keys_whole() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let mut arrivals = 0;
    for keys in ["a*", "*", "*"] {
        rig.write("a", 2);
        arrivals += 2;
        let filter = Filter { keys: vec![keys.to_owned()], ..Filter::default() };
        let relay = run(rig.relay().route(RouteSettings { filter, ..settings("all") }, sink.clone()));
        arrived(&sink, arrivals).await;
        rig.caught_up("all").await;
        relay.stop().await;
    }
    let said: Vec<bool> = sink.accepted().iter().map(|accepted| accepted.gapless).collect();
    assert_eq!(said, [true, true, false, false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn no_more_bytes_are_under_way_than_the_window_holds_but_for_one_entry() {
    let rig = Rig::new();
    for number in 0..50 {
        rig.write(&format!("key/{number:02}"), 1);
    }
    let one = outbox::source::Limit { events: 1, bytes: usize::MAX };
    let first = rig.store.reopen().read(&partition(), &Position::new("0"), one).await.unwrap();
    let window = WindowLimits { bytes: first.records[0].weight() * 10, ..WindowLimits::default() };
    let watched = Watched::new(Arc::new(MemorySink::new(singly(50))), seconds(20));
    let relay = run(rig.relay().route(RouteSettings { window, ..settings("all") }, watched.clone()));
    tokio::time::sleep(seconds(10)).await;
    let under_way = watched.calls().len();
    assert!((9..=11).contains(&under_way), "{under_way} events in a window of ten");
    relay.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_while_the_relay_runs_goes_out_at_once() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    relay.owns().await;
    tokio::time::sleep(seconds(90)).await;
    let begun = Instant::now();
    rig.write("a", 1);
    arrived(&sink, 1).await;
    assert!(begun.elapsed() < millis(5), "it took {:?}", begun.elapsed());
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_rolled_back_never_goes_out() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    let mut transaction = rig.store.transaction();
    transaction.write([event("a")]).unwrap();
    drop(transaction);
    rig.write("b", 1);
    arrived(&sink, 1).await;
    rig.caught_up("all").await;
    relay.stop().await;
    assert_eq!(sink.ids(), ["b@1.1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_relay_goes_on_at_its_checkpoint() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let mut written = rig.write("a", 20);
    let relay = rig.run(sink.clone());
    arrived(&sink, 20).await;
    relay.stop().await;
    written.extend(rig.write("a", 5));
    let relay = rig.run(sink.clone());
    arrived(&sink, 25).await;
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_writes_no_checkpoints() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    relay.owns().await;
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(rig.checkpoint(&route("all")).await, None::<Position>);
    relay.stop().await;
    assert_eq!(sink.calls(), 0);
}

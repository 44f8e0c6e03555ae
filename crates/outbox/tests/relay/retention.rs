//! What is purged, and what is not.

use std::{sync::Arc, time::Duration};

use outbox::{
    BusinessStore as _, Filter, Operator as _, bookkeeping::Replay, memory::MemorySink, relay::RetentionPolicy,
};
use tokio::time::sleep;

use crate::rig::{Rig, arrived, broken_sink, eventually, partition, route, run, seconds, settings};

/// Long enough for several rounds of purging.
const ROUNDS: Duration = seconds(600);

#[tokio::test(start_paused = true)]
async fn only_what_every_route_is_past_is_purged() {
    let rig = Rig::new();
    let (behind, ahead) = (broken_sink(), Arc::new(MemorySink::default()));
    let written = rig.write("a", 50);
    let relay = run(rig
        .relay()
        .retention(RetentionPolicy::Newest(0))
        .route(settings("behind"), behind.clone())
        .route(settings("ahead"), ahead.clone()));
    arrived(&ahead, 50).await;
    sleep(ROUNDS).await;
    assert_eq!(rig.store.len(), 50);
    behind.mend();
    arrived(&behind, 50).await;
    // The entry at the checkpoint stays, as the proof of this history.
    eventually("the rest is purged", async || rig.store.len() == 1).await;
    relay.stop().await;
    assert_eq!(behind.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn by_count_the_newest_are_left() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 2000);
    let relay = run(rig.relay().retention(RetentionPolicy::Newest(30)).route(settings("all"), sink.clone()));
    arrived(&sink, 2000).await;
    sleep(ROUNDS).await;
    assert_eq!(rig.store.len(), 30);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn by_age_what_is_younger_is_left() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let age = seconds(4 * 3600);
    let relay = run(rig.relay().retention(RetentionPolicy::Age(age)).route(settings("all"), sink.clone()));
    rig.write("a", 20);
    sleep(age / 2).await;
    rig.write("a", 20);
    sleep(age / 4).await;
    assert_eq!(rig.store.len(), 40);
    sleep(age / 2).await;
    assert_eq!(rig.store.len(), 20);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn unless_told_to_nothing_is_purged() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 20);
    let relay = rig.run(sink.clone());
    arrived(&sink, 20).await;
    sleep(ROUNDS).await;
    relay.stop().await;
    assert_eq!(rig.store.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_registered_and_not_configured_holds_retention_until_it_is_retired() {
    let rig = Rig::new();
    let (old, new) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    let relay = run(rig.relay().route(settings("old"), old.clone()));
    rig.write("a", 5);
    arrived(&old, 5).await;
    relay.stop().await;
    rig.write("a", 20);
    let purging = || rig.relay().retention(RetentionPolicy::Newest(0)).route(settings("new"), new.clone());
    let relay = run(purging());
    arrived(&new, 25).await;
    sleep(ROUNDS).await;
    assert_eq!(rig.store.len(), 21);
    relay.stop().await;
    rig.bookkeeping.forget_route(&route("old")).await.unwrap();
    rig.store.retire_route(&route("old")).await.unwrap();
    let relay = run(purging());
    eventually("the rest is purged", async || rig.store.len() == 1).await;
    relay.stop().await;
    assert_eq!((old.ids().len(), new.ids().len()), (5, 25));
}

#[tokio::test(start_paused = true)]
async fn a_replay_under_way_holds_retention() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let written = rig.write("a", 20);
    let relay = rig.run(sink.clone());
    arrived(&sink, 20).await;
    rig.caught_up("all").await;
    rig.bookkeeping.pause(&route("all"), true).await.unwrap();
    let asked = Replay {
        id: "r1".to_owned(),
        route: route("all"),
        filter: Filter::default(),
        event: None,
        since: None,
        until: None,
        ends: vec![(partition(), rig.end().await)],
        finished: false,
    };
    rig.bookkeeping.put_replay(&asked).await.unwrap();
    relay.stop().await;
    let relay = run(rig.relay().retention(RetentionPolicy::Newest(0)).route(settings("all"), sink.clone()));
    sleep(ROUNDS).await;
    assert_eq!(rig.store.len(), 20);
    rig.bookkeeping.pause(&route("all"), false).await.unwrap();
    arrived(&sink, 40).await;
    eventually("the rest is purged", async || rig.store.len() == 1).await;
    relay.stop().await;
    assert_eq!(sink.ids(), [written.clone(), written].concat());
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_outlives_its_entry() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    let mut written = rig.write("a", 10);
    let relay = run(rig.relay().retention(RetentionPolicy::Newest(0)).route(settings("all"), sink.clone()));
    rig.keeps("all", 1, 9).await;
    eventually("all but the last is purged", async || rig.store.len() == 1).await;
    sink.mend();
    rig.redrive("all").await;
    written.extend(rig.write("a", 2));
    arrived(&sink, 12).await;
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

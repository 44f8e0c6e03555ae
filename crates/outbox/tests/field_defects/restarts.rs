//! What a relay finds again when it comes back, however long it was away and however much there is.

use std::{sync::Arc, time::Duration};

use outbox::{Clock as _, Fault, Operator as _, bookkeeping::Selector, memory::MemorySink, relay::RetentionPolicy};
use tokio::time::sleep;

use crate::rig::{Picky, Rig, eventually, route, run, settings};

#[tokio::test(start_paused = true)]
async fn every_page_of_the_keys_in_trouble_is_read_at_a_restart() {
    // More than two pages of a thousand.
    const KEYS: usize = 2_500;
    let rig = Rig::new();
    let first = rig.write(KEYS, 1);
    let sink = Picky::new(true, first.iter().map(|id| (id.clone(), u32::MAX)));
    let relay = rig.run(sink.clone());
    rig.caught_up().await;
    assert_eq!(rig.kept().await.dead, KEYS as u64);
    relay.stop().await;

    // What follows has to wait behind every single one of them, the one on the last page included.
    rig.write(KEYS, 1);
    sink.mend();
    let relay = rig.run(sink.clone());
    rig.caught_up().await;
    assert_eq!(rig.kept().await.parked, KEYS as u64);
    assert_eq!(sink.inner.calls(), 0);
    relay.stop().await;

    let all = Selector::default();
    assert_eq!(rig.bookkeeping.redrive(&route("main"), &all, rig.clock.wall()).await.unwrap(), KEYS as u64);
    let relay = rig.run(sink.clone());
    eventually("everything is released", async || rig.kept().await.lanes == 0).await;
    relay.stop().await;
    assert_eq!(sink.inner.ids().len(), 2 * KEYS, "each once");
    assert_eq!(sink.inner.breaches(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_was_down_for_longer_than_retention_finds_everything_that_is_unpublished() {
    let rig = Rig::new();
    let (healthy, slow) = (Arc::<MemorySink>::default(), Arc::<MemorySink>::default());
    let relay = || {
        let age = RetentionPolicy::Age(Duration::from_secs(3600));
        run(rig.relay().retention(age).route(settings("main"), healthy.clone()).route(settings("slow"), slow.clone()))
    };
    // Both routes are past the first entry, and then nobody runs for a month.
    rig.write(1, 1);
    let first = relay();
    rig.has_caught_up("main").await;
    rig.has_caught_up("slow").await;
    first.stop().await;
    rig.write(10, 5);
    slow.break_down(Fault::Sink, "down");
    tokio::time::advance(Duration::from_secs(30 * 24 * 3600)).await;

    let second = relay();
    rig.has_caught_up("main").await;
    // Several rounds of purging: the other route has published nothing yet.
    sleep(Duration::from_secs(300)).await;
    assert!(rig.store.len() >= 50, "what one route has not published stays, however old: {}", rig.store.len());
    slow.mend();
    rig.has_caught_up("slow").await;
    assert_eq!((healthy.ids().len(), slow.ids().len()), (51, 51));
    eventually("what both have published is purged", async || rig.store.len() <= 1).await;
    second.stop().await;
}

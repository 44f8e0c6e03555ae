//! Who owns the source: leases, takeovers, and what an owner does that is none any more.

use std::{sync::Arc, time::Duration};

use outbox::{
    BusinessStore, ErrorKind, Operator,
    bookkeeping::Bookkeeping as _,
    memory::{ManualClock, MemorySink},
    testing::{
        Io,
        faults::{FaultyBookkeeping, FaultyStore, SinkFault, StoreFault, StoreFaults},
    },
};
use tokio::time::{Instant, sleep};

use crate::{
    frail::{Frail, frail},
    rig::{Rig, arrived, eventually, millis, no_breach, route, run, seconds, settings, soon},
};

const FAILOVER: Duration = seconds(10);

async fn epoch(rig: &Rig) -> u64 {
    rig.bookkeeping.lease("relay").await.unwrap().epoch
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_at_once_after_a_clean_stop() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let owner = rig.run(sink.clone());
    owner.owns().await;
    let standby = rig.run(sink.clone());
    sleep(seconds(60)).await;
    assert!(!standby.is_owner());
    let mut written = rig.write("a", 100);
    arrived(&sink, 100).await;
    owner.stop().await;
    let begun = Instant::now();
    standby.owns().await;
    assert!(begun.elapsed() < millis(300), "it took {:?}", begun.elapsed());
    written.extend(rig.write("a", 5));
    arrived(&sink, 105).await;
    standby.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_standby_waits_the_failover_time_after_an_owner_fell_silent() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let owner = rig.run(sink.clone());
    owner.owns().await;
    let standby = rig.run(sink.clone());
    sleep(seconds(60)).await;
    let before = rig.bookkeeping.lease("relay").await.unwrap().beat;
    eventually("the owner renews", async || rig.bookkeeping.lease("relay").await.unwrap().beat > before).await;
    let renewed = Instant::now();
    owner.kill().await;
    let written = rig.write("a", 1);
    standby.owns().await;
    let took = renewed.elapsed();
    assert!(took >= FAILOVER && took < FAILOVER + millis(600), "it took {took:?}");
    arrived(&sink, 1).await;
    standby.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_standby_measures_the_silence_by_its_own_clock() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let owner = rig.run(sink.clone());
    owner.owns().await;
    let clock = Arc::new(ManualClock::default());
    let standby = run(rig.relay().clock(clock.clone()).route(settings("all"), sink.clone()));
    sleep(seconds(1)).await;
    owner.kill().await;
    sleep(seconds(3600)).await;
    assert!(!standby.is_owner(), "no time has passed for it");
    clock.advance(FAILOVER.saturating_sub(millis(1)));
    sleep(seconds(60)).await;
    assert!(!standby.is_owner(), "not yet the failover time");
    clock.advance(millis(1));
    standby.owns().await;
    standby.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_waits_as_long_as_the_owner_said_where_that_is_longer() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let owner = run(rig.relay().failover(seconds(120)).route(settings("all"), sink.clone()));
    owner.owns().await;
    let standby = run(rig.relay().failover(seconds(1)).route(settings("all"), sink.clone()));
    sleep(seconds(1)).await;
    let begun = Instant::now();
    owner.kill().await;
    standby.owns().await;
    assert!(begun.elapsed() > seconds(100), "it took over after {:?}", begun.elapsed());
    standby.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_whose_look_at_the_lease_was_long_on_its_way_counts_the_silence_from_its_answer() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let owner = rig.run(sink.clone());
    owner.owns().await;
    let faults = StoreFaults::default();
    faults.once(Io::Lease, StoreFault::Hang);
    let bookkeeping = FaultyBookkeeping::new(rig.bookkeeping.clone(), faults.clone());
    let standby = run(rig.relay().bookkeeping(Arc::new(bookkeeping)).route(settings("all"), sink.clone()));
    sleep(FAILOVER).await;
    let beat = async || rig.bookkeeping.lease("relay").await.unwrap().beat;
    let before = beat().await;
    // Behind a renewal, so that the next look finds the same lease.
    eventually("the owner renews", async || beat().await > before).await;
    faults.release();
    for _ in 0..200 {
        sleep(millis(250)).await;
        assert!(owner.is_owner() && !standby.is_owner());
    }
    assert_eq!(epoch(&rig).await, 1);
}

#[tokio::test(start_paused = true)]
async fn of_many_standbys_one_takes_over() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relays: Vec<_> = (0..5).map(|_| rig.run(sink.clone())).collect();
    let owners = || relays.iter().filter(|relay| relay.is_owner()).count();
    eventually("one owns", async || owners() == 1).await;
    for _ in 0..200 {
        sleep(millis(250)).await;
        assert_eq!(owners(), 1);
    }
    assert_eq!(epoch(&rig).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_froze_writes_nothing_after_another_took_over() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let frozen = frail(&rig, &sink);
    let mut written = rig.write("a", 5);
    arrived(&sink, 5).await;
    rig.caught_up("all").await;
    for io in [Io::Renew, Io::Checkpoint, Io::OperatorChanges, Io::KeptCounts, Io::Keep, Io::Settle, Io::NoteHealth] {
        frozen.store.always(io, StoreFault::Hang);
    }
    frozen.sink.always(SinkFault::Hang);
    written.extend(rig.write("a", 5));
    frozen.sink.hanging_at_least(1).await;

    let next = rig.run(sink.clone());
    next.owns().await;
    arrived(&sink, 10).await;
    rig.caught_up("all").await;
    let checkpoint = rig.checkpoint(&route("all")).await;
    frozen.done.clear();
    frozen.store.mend();
    frozen.sink.mend();
    frozen.store.release();
    frozen.sink.release();
    sleep(seconds(120)).await;
    assert_eq!(frozen.done.writes(), []);
    assert_eq!(rig.checkpoint(&route("all")).await, checkpoint);
    assert!(next.is_owner() && !frozen.relay.is_owner());
    assert!(sink.ids().len() <= written.len() + 5, "more was published again than was in flight");

    // It stands by, and is as good as any other afterwards.
    next.stop().await;
    frozen.relay.owns().await;
    let published = sink.ids().len();
    rig.write("a", 1);
    arrived(&sink, published + 1).await;
    frozen.relay.stop().await;
    assert_eq!(epoch(&rig).await, 3);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_clock_jumped_past_its_lease_publishes_nothing_before_it_owns_again() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let clock = Arc::new(ManualClock::default());
    let relay = run(rig.relay().clock(clock.clone()).route(settings("all"), sink.clone()));
    let mut written = rig.write("a", 1);
    arrived(&sink, 1).await;
    // As after a suspension, just before it would have renewed again.
    clock.advance(FAILOVER);
    written.extend(rig.write("a", 1));
    eventually("it knows that it does not own the source", async || !relay.is_owner()).await;
    sleep(seconds(60)).await;
    assert_eq!((sink.ids().len(), relay.is_owner()), (1, false));
    clock.advance(FAILOVER);
    arrived(&sink, 2).await;
    assert_eq!(epoch(&rig).await, 2);
    relay.stop().await;
    assert_eq!(sink.ids()[..], written);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_renew_stops_before_its_lease_ends() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let Frail { relay, store, .. } = frail(&rig, &sink);
    relay.owns().await;
    let begun = Instant::now();
    store.always(Io::Renew, StoreFault::Fail(ErrorKind::Unavailable));
    eventually("it stops", async || !relay.is_owner()).await;
    assert!(begun.elapsed() <= FAILOVER, "it stopped after {:?}", begun.elapsed());
    rig.write("a", 1);
    sleep(seconds(1)).await;
    assert_eq!(sink.calls(), 0);
    store.mend();
    relay.owns().await;
    arrived(&sink, 1).await;
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_now_and_then_does_no_harm() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let Frail { relay, store, .. } = frail(&rig, &sink);
    for _ in 0..10 {
        store.once(Io::Renew, StoreFault::Fail(ErrorKind::Unavailable));
        store.once(Io::Renew, StoreFault::LoseAnswer);
        rig.write("a", 1);
        sleep(seconds(7)).await;
        assert!(relay.is_owner());
        sleep(seconds(7)).await;
    }
    assert_eq!((epoch(&rig).await, sink.ids().len()), (1, 10));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_was_taken_while_it_was_well_gives_way() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let owner = frail(&rig, &sink);
    let mut written = rig.write("a", 3);
    arrived(&sink, 3).await;
    rig.caught_up("all").await;
    let clock = Arc::new(ManualClock::default());
    let hasty = run(rig.relay().clock(clock.clone()).route(settings("all"), sink.clone()));
    sleep(seconds(1)).await;
    clock.advance(FAILOVER);
    hasty.owns().await;
    owner.done.clear();
    written.extend(rig.write("a", 3));
    eventually("the other gives way", async || !owner.relay.is_owner()).await;
    arrived(&sink, 6).await;
    rig.caught_up("all").await;
    assert_eq!(owner.done.writes(), []);
    assert!(hasty.is_owner());
    no_breach(&sink);
    let mut ids = sink.ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, written);
    hasty.stop().await;
    owner.relay.owns().await;
    owner.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_renewal_is_never_answered_stops_before_its_lease_ends() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let Frail { relay, store, .. } = frail(&rig, &sink);
    relay.owns().await;
    let begun = Instant::now();
    store.always(Io::Renew, StoreFault::Hang);
    soon("it stops", async {
        while relay.is_owner() {
            sleep(millis(5)).await;
        }
    })
    .await;
    assert!(begun.elapsed() <= FAILOVER, "it stopped after {:?}", begun.elapsed());
    store.mend();
    store.release();
    rig.write("a", 1);
    arrived(&sink, 1).await;
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_asked_to_stop_while_its_store_hangs_stops() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let faults = StoreFaults::default();
    faults.always(Io::Id, StoreFault::Hang);
    let bookkeeping = FaultyBookkeeping::new(rig.bookkeeping.clone() as Arc<dyn Operator>, faults.clone());
    let mut relay = run(rig.relay().bookkeeping(Arc::new(bookkeeping)).route(settings("all"), sink));
    faults.hanging_at_least(1).await;
    relay.ask_to_stop();
    relay.ended().await.unwrap();
    assert!(rig.bookkeeping.lease("relay").await.unwrap().released);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_asked_to_stop_while_it_takes_the_lease_gives_it_back() {
    let rig = Rig::new();
    let mut frail = frail(&rig, &Arc::new(MemorySink::default()));
    frail.store.once(Io::Take, StoreFault::Hang);
    frail.store.hanging_at_least(1).await;
    frail.relay.ask_to_stop();
    sleep(seconds(1)).await;
    frail.store.release();
    frail.relay.ended().await.unwrap();
    let lease = rig.bookkeeping.lease("relay").await.unwrap();
    assert!(lease.epoch == 1 && lease.released, "{lease:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_claimed_for_long_leaves_no_heap_of_noted_claims() {
    for io in [Io::Identity, Io::Claim] {
        let rig = Rig::new();
        let sink = Arc::new(MemorySink::default());
        let faults = StoreFaults::default();
        faults.always(io, StoreFault::Fail(ErrorKind::Unavailable));
        let business = Arc::new(rig.store.reopen());
        let store = Arc::new(FaultyStore::new(business.clone() as Arc<dyn BusinessStore>, faults.clone()));
        let relay = run(rig.relay_on(business, store).route(settings("all"), sink.clone()));
        rig.write("a", 1);
        sleep(seconds(600)).await;
        let noted = rig.bookkeeping.claims("relay").await.unwrap();
        assert!(noted.len() <= 1 && epoch(&rig).await > 100, "{} claims are noted: {io:?}", noted.len());
        faults.mend();
        arrived(&sink, 1).await;
        assert_eq!(rig.bookkeeping.claims("relay").await.unwrap().len(), 1);
        relay.stop().await;
    }
}

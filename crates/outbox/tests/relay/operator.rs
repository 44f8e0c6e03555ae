//! What an operator does while a relay runs, and between two runs.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Bookkeeping as _, BusinessStore as _, ErrorKind, Filter, Lane, NewEvent, Operator, RouteSettings, StoreError,
    bookkeeping::Selector,
    memory::{MemoryBookkeeping, MemorySink},
    testing::{
        Call, Hook, Hooked, InWords, Io,
        faults::{FaultySink, SinkFault, SinkFaults, StoreFault},
    },
};
use tokio::time::{sleep, timeout};

use crate::{
    frail::{Frail, frail},
    rig::{Rig, arrived, eventually, key, millis, no_breach, route, run, seconds, settings},
};

#[tokio::test(start_paused = true)]
async fn a_redriven_dead_letter_goes_out_before_what_is_parked_behind_it() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.2.0", true, "no such customer");
    let mut written = rig.write("a", 5);
    rig.write("b", 5);
    let relay = rig.run(sink.clone());
    rig.keeps("all", 1, 3).await;
    arrived(&sink, 6).await;
    let letter = rig.dead_letters("all").await.pop().unwrap();
    assert_eq!((letter.kept.content.id(), &*letter.front.reason, letter.parked), ("a@1.2.0", "no such customer", 3));
    written.extend(rig.write("a", 5));
    rig.keeps("all", 1, 8).await;
    sink.mend();
    rig.redrive("all").await;
    arrived(&sink, 15).await;
    rig.keeps("all", 0, 0).await;
    written.extend(rig.write("a", 5));
    arrived(&sink, 20).await;
    relay.stop().await;
    let of_a: Vec<String> = sink.ids().into_iter().filter(|id| id.starts_with("a@")).collect();
    assert_eq!(of_a, written);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_redriven_event_that_is_refused_again_is_a_dead_letter_again() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 3);
    let relay = rig.run(sink.clone());
    rig.keeps("all", 1, 2).await;
    rig.redrive("all").await;
    let calls = sink.calls();
    eventually("it was tried again", async || sink.calls() > calls).await;
    rig.keeps("all", 1, 2).await;
    relay.stop().await;
    assert_eq!(sink.ids(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_discarded_event_leaves_a_marker_in_its_place() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let faults = SinkFaults::default();
    faults.once(SinkFault::Refuse { event: "a@1.2.0".to_owned(), permanent: true });
    let written = rig.write("a", 4);
    let relay = run(rig.relay().route(settings("all"), Arc::new(FaultySink::new(sink.clone(), faults))));
    rig.keeps("all", 1, 2).await;
    rig.bookkeeping.discard(&route("all"), &Selector::default(), "a test order").await.unwrap();
    arrived(&sink, 4).await;
    rig.keeps("all", 0, 0).await;
    relay.stop().await;
    assert_eq!(sink.ids(), written);
    let marker = &sink.accepted()[1].event;
    assert_eq!((marker.kind(), marker.subject(), marker.data()), ("outbox.skipped", Some("a test order"), None));
    assert_eq!(marker.placing().unwrap().place.to_string(), "1.2.0");
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_event_goes_without_a_marker_where_the_route_has_gaps() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.2.0", true, "no");
    rig.write("a", 4);
    let filter = Filter { types: vec!["test.*".to_owned()], ..Filter::default() };
    let relay = run(rig.relay().route(RouteSettings { filter, ..settings("all") }, sink.clone()));
    rig.keeps("all", 1, 2).await;
    rig.bookkeeping.discard(&route("all"), &Selector::default(), "no").await.unwrap();
    arrived(&sink, 3).await;
    rig.keeps("all", 0, 0).await;
    relay.stop().await;
    assert_eq!(sink.ids(), ["a@1.1.0", "a@1.3.0", "a@1.4.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_event_does_not_come_back_after_a_crash() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 2);
    let filter = Filter { types: vec!["test.*".to_owned()], ..Filter::default() };
    let relay = |limit| {
        let settings = RouteSettings { filter: filter.clone(), ..settings("all") };
        run(rig.relay().checkpoint_after(limit).route(settings, sink.clone()))
    };
    // The first checkpoint comes at once, before anything is done; the next one would take an hour.
    let first = relay(seconds(3600));
    rig.keeps("all", 1, 1).await;
    rig.bookkeeping.discard(&route("all"), &Selector::default(), "no").await.unwrap();
    arrived(&sink, 1).await;
    rig.keeps("all", 0, 0).await;
    first.kill().await;
    sink.mend();
    let second = relay(millis(10));
    rig.write("a", 1);
    eventually("the rest arrives", async || sink.ids().contains(&"a@1.3.0".to_owned())).await;
    second.stop().await;
    assert!(!sink.ids().contains(&"a@1.1.0".to_owned()), "{:?}", sink.ids());
}

/// Somebody discards an event just when the relay, which read it again, is about to keep it, and the keeper settles that; the
/// answer to the settlement comes late.
struct DiscardedMeanwhile(Arc<MemoryBookkeeping>);

#[async_trait]
impl Hook for DiscardedMeanwhile {
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError> {
        if call.io == Io::Keep {
            self.0.discard(&route("all"), &Selector::default(), "no").await?;
            let lane = Lane::Key(key("a"));
            let settled = async {
                while self.0.trouble(&route("all"), &lane).await?.is_some() {
                    sleep(millis(10)).await;
                }
                Ok(())
            };
            timeout(seconds(60), settled).await.expect("the keeper settles it")?;
        }
        Ok(())
    }

    async fn after(&self, call: &Call<'_>, _: &dyn InWords) -> Result<(), StoreError> {
        if call.io == Io::Settle {
            sleep(seconds(5)).await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_discarded_while_it_is_read_again_does_not_go_out_though_its_key_is_free() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("b", 1);
    let filter = Filter { types: vec!["test.*".to_owned()], ..Filter::default() };
    let gappy = RouteSettings { filter, ..settings("all") };
    // The first checkpoint comes at once, the next one would take an hour.
    let first = run(rig.relay().checkpoint_after(seconds(3600)).route(gappy.clone(), sink.clone()));
    arrived(&sink, 1).await;
    rig.write("a", 1);
    rig.keeps("all", 1, 0).await;
    first.kill().await;
    sink.mend();
    let hooked = Hooked::new(rig.bookkeeping.clone() as Arc<dyn Operator>, DiscardedMeanwhile(rig.bookkeeping.clone()));
    let second = run(rig.relay().bookkeeping(Arc::new(hooked)).route(gappy, sink.clone()));
    rig.keeps("all", 0, 0).await;
    rig.write("a", 1);
    eventually("what follows arrives", async || sink.ids().contains(&"a@1.2.0".to_owned())).await;
    second.stop().await;
    assert!(!sink.ids().contains(&"a@1.1.0".to_owned()), "{:?}", sink.ids());
}

#[tokio::test(start_paused = true)]
async fn erasing_a_key_frees_it() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 3);
    let relay = rig.run(sink.clone());
    rig.keeps("all", 1, 2).await;
    assert_eq!(rig.bookkeeping.erase(&key("a")).await.unwrap(), 3);
    sleep(seconds(5)).await;
    rig.write("a", 2);
    arrived(&sink, 2).await;
    relay.stop().await;
    assert_eq!(sink.ids(), ["a@1.4.0", "a@1.5.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_renamed_route_goes_on_where_it_was_with_what_it_keeps() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.2.0", true, "no");
    rig.write("a", 4);
    rig.write("b", 1);
    let relay = run(rig.relay().route(settings("old"), sink.clone()));
    rig.keeps("old", 1, 2).await;
    arrived(&sink, 2).await;
    relay.stop().await;
    rig.bookkeeping.rename_route(&route("old"), &route("new")).await.unwrap();
    rig.store.rename_route(&route("old"), &route("new")).await.unwrap();
    rig.write("b", 1);
    sink.mend();
    let relay = run(rig.relay().route(settings("new"), sink.clone()));
    arrived(&sink, 3).await;
    rig.keeps("new", 1, 2).await;
    rig.redrive("new").await;
    arrived(&sink, 6).await;
    relay.stop().await;
    assert_eq!(sink.ids().len(), 6);
    assert_eq!(rig.store.routes().await.unwrap().len(), 1);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_redriven_event_without_a_key_holds_nobody_and_arrives() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("order-7", true, "no");
    let of_id = |id: &str| NewEvent::builder("t").id(id).json(&1).build().unwrap();
    let relay = rig.run(sink.clone());
    for id in ["order-6", "order-7", "order-8"] {
        rig.store.write([of_id(id)]).unwrap();
    }
    arrived(&sink, 2).await;
    rig.keeps("all", 1, 0).await;
    sink.mend();
    rig.redrive("all").await;
    arrived(&sink, 3).await;
    rig.keeps("all", 0, 0).await;
    relay.stop().await;
    assert_eq!(sink.ids(), ["order-6", "order-8", "order-7"]);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_changed_is_looked_at_again_where_it_could_not_be_read_and_no_route_starts_anew() {
    for io in [Io::OperatorChanges, Io::Paused, Io::Replays, Io::Troubles, Io::Tombstones] {
        let rig = Rig::new();
        let sink = Arc::new(MemorySink::default());
        sink.refuse("a@1.1.0", true, "no");
        let written = rig.write("a", 3);
        let Frail { relay, store, .. } = frail(&rig, &sink);
        rig.keeps("all", 1, 2).await;
        sleep(seconds(5)).await;
        store.once(io, StoreFault::Fail(ErrorKind::Unavailable));
        store.once(io, StoreFault::Fail(ErrorKind::Unavailable));
        sink.mend();
        rig.redrive("all").await;
        arrived(&sink, 3).await;
        assert_eq!((relay.handle.status().epoch, store.pending()), (Some(1), 0), "{io:?}");
        relay.stop().await;
        assert_eq!(sink.ids(), written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_cannot_read_what_is_paused_publishes_nothing_yet() {
    for io in [Io::OperatorChanges, Io::Paused, Io::Replays] {
        let rig = Rig::new();
        let sink = Arc::new(MemorySink::default());
        rig.bookkeeping.pause(&route("all"), true).await.unwrap();
        rig.write("a", 3);
        let Frail { relay, store, .. } = frail(&rig, &sink);
        store.once(io, StoreFault::Fail(ErrorKind::Unavailable));
        store.once(io, StoreFault::Fail(ErrorKind::Unavailable));
        sleep(seconds(60)).await;
        assert_eq!((sink.calls(), store.pending()), (0, 0), "{io:?}");
        rig.bookkeeping.pause(&route("all"), false).await.unwrap();
        arrived(&sink, 3).await;
        relay.stop().await;
    }
}

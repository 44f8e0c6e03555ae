//! Replays: history published again, beside what flows.

use std::sync::Arc;

use outbox::{
    ErrorKind, Filter, Operator, Position,
    bookkeeping::{Replay, Selector},
    clock::Clock as _,
    memory::MemorySink,
    testing::{
        Hooked, Io,
        faults::{FaultyBookkeeping, StoreFault, StoreFaults},
    },
};
use tokio::time::sleep;

use crate::{
    flow::singly,
    logged::Logged,
    rig::{Rig, arrived, eventually, millis, operator, partition, route, run, seconds, settings},
    watched::Watched,
};

/// A replay of everything up to `end`, to the route `name`.
pub(crate) fn replay(id: &str, name: &str, end: Position) -> Replay {
    Replay {
        id: id.to_owned(),
        route: route(name),
        filter: Filter::default(),
        event: None,
        since: None,
        until: None,
        ends: vec![(partition(), end)],
        finished: false,
    }
}

pub(crate) async fn replayed(rig: &Rig, id: &str) {
    eventually("the replay is finished", async || {
        rig.bookkeeping.replays().await.unwrap().iter().any(|replay| replay.id == id && replay.finished)
    })
    .await;
}

/// The ids that came by the replay `id`.
fn by_replay(sink: &MemorySink, id: &str) -> Vec<String> {
    let accepted = sink.accepted().into_iter().filter(|accepted| accepted.replay.as_deref() == Some(id));
    accepted.map(|accepted| accepted.event.id().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_replay_publishes_its_range_to_its_route_alone_and_is_marked() {
    let rig = Rig::new();
    let (asked, other) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    rig.write("a", 4);
    sleep(seconds(60)).await;
    let since = rig.clock.wall();
    let wanted = rig.write("a", 4);
    sleep(seconds(60)).await;
    let until = rig.clock.wall();
    rig.write("a", 4);
    let relay = run(rig.relay().route(settings("asked"), asked.clone()).route(settings("other"), other.clone()));
    arrived(&asked, 12).await;
    arrived(&other, 12).await;
    rig.caught_up("asked").await;
    let range = Replay { since: Some(since), until: Some(until), ..replay("r1", "asked", rig.end().await) };
    rig.bookkeeping.put_replay(&range).await.unwrap();
    arrived(&asked, 16).await;
    replayed(&rig, "r1").await;
    // Beside what is published now.
    rig.write("a", 1);
    arrived(&asked, 17).await;
    arrived(&other, 13).await;
    relay.stop().await;
    assert_eq!(by_replay(&asked, "r1"), wanted);
    assert_eq!((asked.ids().len(), other.ids().len()), (17, 13));
    assert!(other.accepted().iter().all(|accepted| accepted.replay.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_no_further_than_its_end_and_takes_only_what_it_was_asked_for() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 3);
    rig.write("b", 3);
    let end = rig.end().await;
    rig.write("a", 3);
    let relay = rig.run(sink.clone());
    arrived(&sink, 9).await;
    let filter = Filter { keys: vec!["a".to_owned()], ..Filter::default() };
    rig.bookkeeping.put_replay(&Replay { filter, ..replay("keys", "all", end.clone()) }).await.unwrap();
    replayed(&rig, "keys").await;
    let one = Replay { event: Some("b@1.2.0".to_owned()), ..replay("one", "all", end) };
    rig.bookkeeping.put_replay(&one).await.unwrap();
    replayed(&rig, "one").await;
    sleep(seconds(60)).await;
    relay.stop().await;
    assert_eq!(by_replay(&sink, "keys"), ["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
    assert_eq!(by_replay(&sink, "one"), ["b@1.2.0"]);
    assert_eq!(sink.ids().len(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_leaves_events_of_a_key_out_is_not_gapless() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 3);
    let relay = rig.run(sink.clone());
    arrived(&sink, 3).await;
    rig.caught_up("all").await;
    let of_key = Filter { keys: vec!["a".to_owned()], ..Filter::default() };
    let of_type = Filter { types: vec!["test.*".to_owned()], ..Filter::default() };
    let end = rig.end().await;
    let asked = [
        (Replay { filter: of_key, ..replay("key", "all", end.clone()) }, true),
        (Replay { filter: of_type, ..replay("type", "all", end.clone()) }, false),
        (Replay { event: Some("a@1.2.0".to_owned()), ..replay("one", "all", end) }, false),
    ];
    for (asked, gapless) in asked {
        rig.bookkeeping.put_replay(&asked).await.unwrap();
        replayed(&rig, &asked.id).await;
        let brought: Vec<_> =
            sink.accepted().into_iter().filter(|accepted| accepted.replay.as_deref() == Some(&asked.id)).collect();
        assert!(!brought.is_empty() && brought.iter().all(|brought| brought.gapless == gapless), "{}", asked.id);
    }
    relay.stop().await;
    assert_eq!(sink.ids().len(), 3 + 3 + 3 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_a_range_that_holds_nothing_is_finished_without_a_new_event() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 3);
    sleep(seconds(60)).await;
    let relay = rig.run(sink.clone());
    arrived(&sink, 3).await;
    rig.caught_up("all").await;
    let nothing = Replay { since: Some(rig.clock.wall()), ..replay("r1", "all", rig.end().await) };
    rig.bookkeeping.put_replay(&nothing).await.unwrap();
    replayed(&rig, "r1").await;
    relay.stop().await;
    assert_eq!(sink.ids().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_after_a_restart_where_it_was() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::new(singly(1)));
    let written = rig.write("a", 100);
    let relay = run(rig.relay().route(settings("all"), Watched::new(sink.clone(), millis(100))));
    arrived(&sink, 100).await;
    rig.caught_up("all").await;
    rig.bookkeeping.put_replay(&replay("r1", "all", rig.end().await)).await.unwrap();
    arrived(&sink, 150).await;
    relay.stop().await;
    let relay = run(rig.relay().route(settings("all"), Watched::new(sink.clone(), millis(100))));
    replayed(&rig, "r1").await;
    relay.stop().await;
    assert_eq!(by_replay(&sink, "r1"), written);
}

#[tokio::test(start_paused = true)]
async fn a_replay_waits_while_its_route_is_paused() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let written = rig.write("a", 5);
    let relay = rig.run(sink.clone());
    arrived(&sink, 5).await;
    rig.bookkeeping.pause(&route("all"), true).await.unwrap();
    rig.bookkeeping.put_replay(&replay("r1", "all", rig.end().await)).await.unwrap();
    sleep(seconds(60)).await;
    assert_eq!(sink.ids().len(), 5);
    rig.bookkeeping.pause(&route("all"), false).await.unwrap();
    arrived(&sink, 10).await;
    relay.stop().await;
    assert_eq!(by_replay(&sink, "r1"), written);
}

#[tokio::test(start_paused = true)]
async fn a_route_and_its_replays_share_the_calls_that_the_sink_takes() {
    let rig = Rig::new();
    let keys: Vec<String> = (0..50).map(|number| format!("key/{number}")).collect();
    for key in &keys {
        rig.write(key, 1);
    }
    let sink = Arc::new(MemorySink::new(singly(3)));
    let watched = Watched::new(sink.clone(), millis(100));
    let relay = run(rig.relay().route(settings("all"), watched.clone()));
    arrived(&sink, 50).await;
    rig.caught_up("all").await;
    for id in ["r1", "r2"] {
        rig.bookkeeping.put_replay(&replay(id, "all", rig.end().await)).await.unwrap();
    }
    eventually("a replay is under way", async || !by_replay(&sink, "r1").is_empty()).await;
    for key in &keys {
        rig.write(key, 1);
    }
    arrived(&sink, 200).await;
    relay.stop().await;
    let brought: Vec<_> = sink.accepted()[50..].iter().map(|accepted| accepted.replay.clone()).collect();
    let (first, last) = (brought.iter().position(Option::is_none), brought.iter().rposition(Option::is_some));
    assert!(first < last, "beside each other: {brought:?}");
    assert_eq!(watched.most_at_once(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_replay_cannot_deliver_is_kept_for_it_alone() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 4);
    let relay = rig.run(sink.clone());
    arrived(&sink, 4).await;
    sink.refuse("a@1.2.0", true, "not again");
    rig.bookkeeping.put_replay(&replay("r1", "all", rig.end().await)).await.unwrap();
    replayed(&rig, "r1").await;
    let name = route("all").replay("r1");
    let kept = operator(&rig).kept_counts(&name).await.unwrap();
    assert_eq!((kept.dead, kept.parked), (1, 2));
    rig.write("a", 1);
    arrived(&sink, 6).await;
    sink.mend();
    rig.bookkeeping.redrive(&name, &Selector::default(), rig.clock.wall()).await.unwrap();
    arrived(&sink, 9).await;
    relay.stop().await;
    assert_eq!(by_replay(&sink, "r1"), ["a@1.1.0", "a@1.2.0", "a@1.3.0", "a@1.4.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_replay_goes_no_further() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::new(singly(1)));
    rig.write("a", 50);
    let relay = run(rig.relay().route(settings("all"), Watched::new(sink.clone(), millis(100))));
    arrived(&sink, 50).await;
    rig.caught_up("all").await;
    let asked = replay("r1", "all", rig.end().await);
    rig.bookkeeping.put_replay(&asked).await.unwrap();
    arrived(&sink, 60).await;
    relay.stop().await;
    rig.bookkeeping.put_replay(&Replay { finished: true, ..asked }).await.unwrap();
    let published = sink.ids().len();
    let relay = run(rig.relay().route(settings("all"), sink.clone()));
    relay.owns().await;
    sleep(seconds(60)).await;
    relay.stop().await;
    assert_eq!(sink.ids().len(), published);
}

#[tokio::test(start_paused = true)]
async fn a_replay_whose_end_cannot_be_noted_at_once_is_noted_later() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let faults = StoreFaults::default();
    let bookkeeping = FaultyBookkeeping::new(rig.bookkeeping.clone() as Arc<dyn Operator>, faults.clone());
    let written = rig.write("a", 5);
    let relay = run(rig.relay().bookkeeping(Arc::new(bookkeeping)).route(settings("all"), sink.clone()));
    arrived(&sink, 5).await;
    rig.caught_up("all").await;
    faults.once(Io::NoteReplayed, StoreFault::Fail(ErrorKind::Unavailable));
    rig.bookkeeping.put_replay(&replay("r1", "all", rig.end().await)).await.unwrap();
    replayed(&rig, "r1").await;
    assert_eq!(faults.pending(), 0);
    rig.write("a", 1);
    arrived(&sink, 11).await;
    assert_eq!(relay.handle.status().epoch, Some(1), "nothing else started anew for it");
    relay.stop().await;
    assert_eq!(by_replay(&sink, "r1"), written);
}

#[tokio::test(start_paused = true)]
async fn replays_that_are_done_with_are_asked_about_no_more() {
    let rig = Rig::new();
    let asked = Logged::default();
    let bookkeeping = Hooked::new(rig.bookkeeping.clone() as Arc<dyn Operator>, asked.clone());
    rig.write("a", 1);
    for number in 0..20 {
        let done = Replay { finished: true, ..replay(&format!("r{number}"), "all", rig.end().await) };
        rig.bookkeeping.put_replay(&done).await.unwrap();
    }
    let sink = Arc::new(MemorySink::default());
    let relay = run(rig.relay().bookkeeping(Arc::new(bookkeeping)).route(settings("all"), sink.clone()));
    arrived(&sink, 1).await;
    sleep(seconds(10)).await;
    asked.clear();
    for paused in [true, false, true] {
        rig.bookkeeping.pause(&route("all"), paused).await.unwrap();
        sleep(seconds(2)).await;
    }
    assert!(asked.count(Io::Replays) >= 3);
    // The route itself counts what it keeps, every few seconds.
    assert!(asked.count(Io::KeptCounts) < 5, "{} times", asked.count(Io::KeptCounts));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_to_a_route_that_is_not_configured_waits_and_disturbs_nobody() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 5);
    let relay = rig.run(sink.clone());
    arrived(&sink, 5).await;
    rig.bookkeeping.put_replay(&replay("r1", "gone", rig.end().await)).await.unwrap();
    sleep(seconds(60)).await;
    rig.write("a", 5);
    arrived(&sink, 10).await;
    assert!(!rig.bookkeeping.replays().await.unwrap()[0].finished);
    relay.stop().await;
}

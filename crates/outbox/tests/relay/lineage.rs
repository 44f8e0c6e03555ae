//! Shards that split, merge, roll over and go: parents first, each key in its order.

use std::sync::Arc;

use outbox::{
    Operator as _, Position,
    bookkeeping::Replay,
    memory::{Habits, MemorySink, StreamSettings},
    relay::{PartitionState, RouteState},
    testing::{Io, Side, StepGate},
};
use tokio::time::sleep;

use crate::{
    flow::singly,
    rig::{arrived, broken_sink, eventually, millis, no_breach, route, run, seconds, settings},
    streams::{Bend, HOUR, StreamRig, by_key, status_of},
    watched::Watched,
};

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[tokio::test(start_paused = true)]
async fn a_child_is_read_once_all_of_its_parent_is_published() {
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::new(singly(1)));
    rig.write(&KEYS, 5);
    let relay = run(rig.relay().route(settings("all"), Watched::new(sink.clone(), millis(100))));
    arrived(&sink, 5).await;
    let parent = rig.only_shard();
    let children = rig.stream.split(&parent).unwrap();
    rig.write(&KEYS, 5);
    eventually("the children wait", async || {
        let waits = |child| status_of(&relay, child).is_some_and(|s| s.state != PartitionState::Reading);
        children.iter().any(waits) || sink.ids().len() > 30
    })
    .await;
    rig.published(&sink).await;
    relay.stop().await;
    rig.assert_once(&sink);
    let of_parent = sink.ids().iter().rposition(|id| id.ends_with("@1.5.0")).unwrap();
    let of_children = sink.ids().iter().position(|id| id.ends_with("@1.6.0")).unwrap();
    assert!(of_parent < of_children, "{:?}", sink.ids());
}

#[tokio::test(start_paused = true)]
async fn a_merged_shard_waits_for_both_of_its_parents() {
    let rig = StreamRig::with(StreamSettings { shards: 2, ..StreamSettings::default() });
    let sink = Arc::new(MemorySink::new(singly(1)));
    rig.write(&KEYS, 3);
    let open = rig.stream.open_shards();
    rig.stream.merge(&open[0], &open[1]).unwrap();
    rig.write(&KEYS, 3);
    let relay = run(rig.relay().route(settings("all"), Watched::new(sink.clone(), millis(10))));
    rig.published(&sink).await;
    relay.stop().await;
    rig.assert_once(&sink);
    let of_parents = sink.ids().iter().rposition(|id| id.ends_with("@1.3.0")).unwrap();
    assert_eq!(of_parents, 17, "{:?}", sink.ids());
}

#[tokio::test(start_paused = true)]
async fn shards_that_come_and_go_while_events_flow_lose_none_and_change_no_order() {
    let habits = Habits { seed: 4, swapping: true, empty_pages: true, ..Habits::default() };
    let rig = StreamRig::with(StreamSettings { shards: 2, habits, ..StreamSettings::default() });
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    for round in 0..40 {
        rig.write(&KEYS, 3);
        let open = rig.stream.open_shards();
        match round % 4 {
            0 => drop(rig.stream.split(&open[0]).unwrap()),
            1 => drop(rig.stream.roll(&open[open.len() - 1]).unwrap()),
            2 if open.len() > 1 => drop(rig.stream.merge(&open[0], &open[1]).unwrap()),
            _ => {}
        }
        sleep(HOUR).await;
        rig.trim();
    }
    rig.published(&sink).await;
    let listed = rig.stream.open_shards().len();
    assert!(rig.checkpoints("all").await.len() < 30 + listed, "what is gone is forgotten");
    relay.stop().await;
    rig.assert_once(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_not_listed_any_more_counts_as_read() {
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write(&KEYS, 2);
    let parent = rig.only_shard();
    rig.stream.split(&parent).unwrap();
    let relay = rig.run(sink.clone());
    rig.published(&sink).await;
    relay.stop().await;
    sleep(25 * HOUR).await;
    rig.trim();
    rig.write(&KEYS, 2);
    let relay = rig.run(sink.clone());
    rig.published(&sink).await;
    assert!(relay.route("all").partitions.iter().all(|status| status.name != parent.as_str()));
    relay.stop().await;
    rig.assert_once(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_trouble_stays_in_order_across_a_split() {
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.2.0", true, "not this one");
    rig.write(&KEYS, 3);
    let relay = rig.run(sink.clone());
    rig.rig.keeps("all", 1, 1).await;
    rig.stream.split(&rig.only_shard()).unwrap();
    rig.write(&KEYS, 3);
    rig.rig.keeps("all", 1, 4).await;
    rig.stream.roll(&rig.shard_of("a")).unwrap();
    rig.write(&KEYS, 1);
    rig.rig.keeps("all", 1, 5).await;
    arrived(&sink, rig.count() - 6).await;
    sink.mend();
    rig.rig.redrive("all").await;
    rig.published(&sink).await;
    // Its release reached the shard that the key is in by now.
    rig.write(&["a"], 1);
    rig.published(&sink).await;
    assert_eq!(rig.rig.kept("all").await.lanes, 0);
    relay.stop().await;
    rig.assert_once(&sink);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_over_between_a_parents_end_and_its_childs_start_begins_with_the_child() {
    for (io, side, nth) in [
        (Io::Beginning, Side::Before, 1),
        (Io::Beginning, Side::After, 2),
        (Io::Checkpoint, Side::Before, 2),
        (Io::Checkpoint, Side::After, 2),
        (Io::Checkpoint, Side::Before, 3),
        (Io::Checkpoint, Side::After, 3),
        (Io::Checkpoint, Side::After, 4),
    ] {
        let rig = StreamRig::new();
        let sink = Arc::new(MemorySink::default());
        rig.write(&KEYS, 2);
        rig.stream.split(&rig.only_shard()).unwrap();
        rig.write(&KEYS, 2);
        let gate = StepGate::crash_at_io(io, side, nth);
        let dying = run(rig.gated(&gate, &sink));
        gate.crashed().await;
        dying.kill().await;
        let relay = rig.run(sink.clone());
        rig.published(&sink).await;
        relay.stop().await;
        rig.assert_complete(&sink);
    }
}

#[tokio::test(start_paused = true)]
async fn two_routes_at_different_points_of_the_lineage_do_not_wait_for_each_other() {
    let rig = StreamRig::new();
    let (fast, slow) = (Arc::new(MemorySink::default()), broken_sink());
    let relay = run(rig.relay().route(settings("fast"), fast.clone()).route(settings("slow"), slow.clone()));
    for _ in 0..3 {
        rig.write(&KEYS, 2);
        rig.stream.roll(&rig.only_shard()).unwrap();
        rig.published(&fast).await;
    }
    assert_eq!(slow.ids(), Vec::<String>::new());
    slow.mend();
    rig.published(&slow).await;
    relay.stop().await;
    rig.assert_once(&fast);
    rig.assert_once(&slow);
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_of_partitions_that_are_gone_is_forgotten_in_time() {
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    for _ in 0..5 {
        rig.write(&KEYS, 1);
        rig.published(&sink).await;
        rig.stream.roll(&rig.only_shard()).unwrap();
    }
    eventually("the last shard is begun", async || rig.checkpoints("all").await.len() == 6).await;
    sleep(25 * HOUR).await;
    rig.trim();
    sleep(HOUR).await;
    let left: Vec<_> = rig.checkpoints("all").await.into_iter().map(|known| known.partition).collect();
    assert_eq!(left, [rig.only_shard()]);
    rig.write(&KEYS, 1);
    rig.published(&sink).await;
    relay.stop().await;
    rig.assert_once(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_replay_reads_the_shards_that_were_there_when_it_was_asked_for_in_their_order() {
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write(&KEYS, 2);
    rig.stream.split(&rig.only_shard()).unwrap();
    rig.write(&KEYS, 2);
    let relay = rig.run(sink.clone());
    rig.published(&sink).await;
    let asked = rig.written();
    let ends: Vec<(_, Position)> =
        rig.checkpoints("all").await.into_iter().map(|known| (known.partition, known.position)).collect();
    assert_eq!(ends.len(), 3);
    rig.stream.roll(&rig.shard_of("a")).unwrap();
    rig.write(&KEYS, 2);
    rig.published(&sink).await;
    let wanted = Replay {
        id: "r1".to_owned(),
        route: route("all"),
        filter: outbox::Filter::default(),
        event: None,
        since: None,
        until: None,
        ends,
        finished: false,
    };
    rig.rig.bookkeeping.put_replay(&wanted).await.unwrap();
    eventually("the replay is finished", async || {
        rig.rig.bookkeeping.replays().await.unwrap().iter().any(|replay| replay.finished)
    })
    .await;
    relay.stop().await;
    let replayed = sink.accepted().into_iter().filter(|accepted| accepted.replay.is_some());
    assert_eq!(by_key(replayed.map(|accepted| accepted.event.id().to_owned()).collect()), asked);
}

#[tokio::test(start_paused = true)]
async fn a_lineage_that_does_not_get_on_is_told() {
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write(&KEYS, 1);
    let relay = run(rig.bent(Bend::NoEnd).stalled_after(seconds(600)).route(settings("all"), sink.clone()));
    arrived(&sink, 6).await;
    let parent = rig.only_shard();
    let child = rig.stream.roll(&parent).unwrap();
    rig.write(&KEYS, 1);
    sleep(seconds(300)).await;
    assert!(status_of(&relay, &child).is_some_and(|status| !status.stalled), "it may take a while");
    sleep(seconds(600)).await;
    assert!(status_of(&relay, &parent).is_some_and(|status| status.stalled), "closed, and not at its end");
    assert!(status_of(&relay, &child).is_some_and(|status| status.stalled), "it waits for too long");
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_begins_while_its_route_is_paused_waits() {
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write(&KEYS, 2);
    let relay = rig.run(sink.clone());
    rig.published(&sink).await;
    rig.rig.bookkeeping.pause(&route("all"), true).await.unwrap();
    eventually("the route is paused", async || relay.route("all").state == RouteState::Paused).await;
    let children = rig.stream.split(&rig.only_shard()).unwrap();
    rig.write(&KEYS, 2);
    eventually("the children have begun", async || {
        let has_begun = |child| status_of(&relay, child).is_some_and(|status| status.position.is_some());
        children.iter().all(has_begun)
    })
    .await;
    sleep(seconds(60)).await;
    assert_eq!(sink.ids().len(), 12);
    rig.rig.bookkeeping.pause(&route("all"), false).await.unwrap();
    rig.published(&sink).await;
    relay.stop().await;
    rig.assert_once(&sink);
}

//! Routes that are behind what the stream remembers: they read the table again, and lose nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use outbox::{
    Operator as _, PartitionId,
    bookkeeping::{HealthState, Replay},
    memory::{Habits, MemorySink, StreamSettings},
    relay::{PartitionState, RouteState},
    testing::{Io, Side, StepGate},
};
use tokio::time::sleep;

use crate::{
    flow::singly,
    rig::{arrived, broken_sink, eventually, millis, route, run, seconds, settings},
    streams::{Bend, HOUR, StreamRig, by_key},
    watched::Watched,
};

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// What was published when the relay went down, and what was committed while it was.
const BEFORE: u64 = 4;
const MEANWHILE: u64 = 3;

/// A stream of two shards, read up to some point; then the relay is down for a day and a half, in which shards split and
/// most of what came is forgotten.
pub(crate) async fn behind(sink: &Arc<MemorySink>) -> StreamRig {
    let rig = StreamRig::with(StreamSettings {
        shards: 2,
        slack: Duration::from_secs(600),
        habits: Habits { seed: 8, swapping: true, empty_pages: true, ..Habits::default() },
        ..StreamSettings::default()
    });
    rig.write(&KEYS, BEFORE);
    let relay = rig.run(sink.clone());
    rig.published(sink).await;
    relay.stop().await;
    sleep(HOUR).await;
    away(&rig).await;
    rig
}

/// What happens while nobody reads.
async fn away(rig: &StreamRig) {
    rig.write(&KEYS, 1);
    rig.stream.split(&rig.shard_of("a")).unwrap();
    rig.write(&KEYS, 1);
    sleep(30 * HOUR).await;
    rig.write(&KEYS, 1);
    sleep(6 * HOUR).await;
    rig.trim();
}

fn recovers(sink_side: &crate::rig::Running) -> bool {
    matches!(sink_side.route("all").state, RouteState::Recovering { .. })
}

#[tokio::test(start_paused = true)]
async fn a_route_behind_what_the_stream_remembers_reads_the_table_again_and_loses_nothing() {
    let sink = Arc::new(MemorySink::default());
    let rig = behind(&sink).await;
    let relay = rig.run(sink.clone());
    rig.published(&sink).await;
    rig.write(&KEYS, 2);
    rig.published(&sink).await;
    assert_eq!(relay.route("all").state, RouteState::Flowing);
    relay.stop().await;
    rig.assert_complete(&sink);
    // Nothing but what the slack makes come again: nothing was recorded within ten minutes of where the route stood.
    let twice = sink.ids().len() - rig.count();
    assert!(twice <= KEYS.len() * usize::try_from(BEFORE).unwrap(), "{twice} came again");
    let unfinished: Vec<_> =
        rig.checkpoints("all").await.into_iter().filter(|known| known.partition.is_recovery()).collect();
    assert!(unfinished.iter().all(|known| known.finished), "{unfinished:?}");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_is_told_while_it_lasts() {
    let sink = Arc::new(MemorySink::new(singly(1)));
    let rig = behind(&sink).await;
    let relay = run(rig.relay().route(settings("all"), Watched::new(sink.clone(), seconds(20))));
    eventually("it recovers", async || recovers(&relay)).await;
    eventually("the partition is told", async || {
        let is_read = |status: &&outbox::relay::PartitionStatus| status.state == PartitionState::Recovering;
        relay.route("all").partitions.iter().filter(is_read).count() == 1
    })
    .await;
    let health = rig.rig.bookkeeping.health(&route("all")).await.unwrap().unwrap();
    assert!(matches!(health.state, HealthState::Recovering { .. }), "{health:?}");
    relay.kill().await;
    // The next one knows by what is stored.
    let relay = run(rig.relay().route(settings("all"), Watched::new(sink.clone(), seconds(20))));
    eventually("it goes on recovering", async || recovers(&relay)).await;
    rig.published(&sink).await;
    eventually("it flows", async || relay.route("all").state == RouteState::Flowing).await;
    relay.stop().await;
    rig.assert_complete(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_recovery_goes_on_after_a_crash_anywhere_in_it() {
    let sink = Arc::new(MemorySink::default());
    let rig = behind(&sink).await;
    let gate = StepGate::counting();
    let relay = run(rig.gated(&gate, &sink));
    rig.published(&sink).await;
    relay.stop().await;
    let wanted =
        [Io::Start, Io::Beginning, Io::Recovery, Io::AfterRecovery, Io::ForgetCheckpoints, Io::Checkpoint, Io::Publish];
    let mut nth = std::collections::BTreeMap::<(Io, Side), usize>::new();
    let mut killed = 0;
    for step in gate.trace().into_iter().filter(|step| wanted.contains(&step.io)) {
        let nth = nth.entry((step.io, step.side)).and_modify(|nth| *nth += 1).or_insert(1);
        let sink = Arc::new(MemorySink::default());
        let rig = behind(&sink).await;
        let gate = StepGate::crash_at_io(step.io, step.side, *nth);
        let dying = run(rig.gated(&gate, &sink));
        tokio::select! {
            _ = gate.crashed() => killed += 1,
            () = rig.published(&sink) => {}
        }
        dying.kill().await;
        let relay = rig.run(sink.clone());
        rig.published(&sink).await;
        rig.write(&KEYS, 1);
        rig.published(&sink).await;
        relay.stop().await;
        rig.assert_complete(&sink);
        let most = rig.count() * 3;
        assert!(sink.ids().len() < most, "killed at {step:?}: {} events of {}", sink.ids().len(), rig.count());
    }
    assert!(killed > 20, "{killed}");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_under_way_is_not_begun_anew_by_whoever_takes_over() {
    let sink = Arc::new(MemorySink::new(singly(1)));
    let rig = behind(&sink).await;
    let before = sink.ids().len();
    let relay = run(rig.relay().route(settings("all"), Watched::new(sink.clone(), seconds(5))));
    arrived(&sink, before + 12).await;
    let recovery = |known: Vec<outbox::bookkeeping::Checkpoint>| {
        known.into_iter().map(|known| known.partition).find(PartitionId::is_recovery).unwrap()
    };
    let first = recovery(rig.checkpoints("all").await);
    relay.kill().await;
    let relay = rig.run(sink.clone());
    arrived(&sink, before + 14).await;
    assert_eq!(recovery(rig.checkpoints("all").await), first);
    rig.published(&sink).await;
    relay.stop().await;
    rig.assert_complete(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_not_behind_goes_on_while_another_recovers() {
    let rig = StreamRig::new();
    let (well, late) = (Arc::new(MemorySink::default()), broken_sink());
    let relay = run(rig.relay().route(settings("all"), late.clone()).route(settings("well"), well.clone()));
    for _ in 0..4 {
        rig.write(&KEYS, 2);
        rig.stream.roll(&rig.only_shard()).unwrap();
        rig.published(&well).await;
        sleep(13 * HOUR).await;
        rig.trim();
    }
    late.mend();
    rig.published(&late).await;
    rig.write(&KEYS, 2);
    rig.published(&late).await;
    rig.published(&well).await;
    relay.stop().await;
    rig.assert_complete(&late);
    rig.assert_once(&well);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_came_and_went_unread_is_noticed_though_its_parent_was_read() {
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write(&KEYS, 2);
    let gate = StepGate::crash_at_io(Io::Beginning, Side::Before, 1);
    let dying = run(rig.gated(&gate, &sink));
    arrived(&sink, 12).await;
    rig.stream.roll(&rig.only_shard()).unwrap();
    gate.crashed().await;
    dying.kill().await;
    rig.write(&KEYS, 2);
    sleep(HOUR).await;
    rig.stream.roll(&rig.only_shard()).unwrap();
    sleep(25 * HOUR).await;
    rig.trim();
    assert_eq!(rig.stream.open_shards().len(), 1);
    rig.write(&KEYS, 2);
    let relay = rig.run(sink.clone());
    rig.published(&sink).await;
    relay.stop().await;
    rig.assert_complete(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_trouble_stays_in_order_through_a_recovery() {
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.3.0", true, "not this one");
    let rig = StreamRig::new();
    rig.write(&KEYS, BEFORE);
    let relay = rig.run(sink.clone());
    rig.rig.keeps("all", 1, 1).await;
    arrived(&sink, rig.count() - 2).await;
    relay.stop().await;
    away(&rig).await;
    let relay = rig.run(sink.clone());
    arrived(&sink, rig.count() - 2 - usize::try_from(MEANWHILE).unwrap()).await;
    sleep(seconds(60)).await;
    assert!(sink.ids().iter().all(|id| !["a@1.3.0", "a@1.4.0", "a@1.5.0"].contains(&id.as_str())), "it waits");
    sink.mend();
    rig.rig.redrive("all").await;
    rig.published(&sink).await;
    eventually("nothing is kept", async || rig.rig.kept("all").await.lanes == 0).await;
    relay.stop().await;
    rig.assert_complete(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_takes_longer_than_the_stream_remembers_is_followed_by_another() {
    let sink = Arc::new(MemorySink::default());
    let rig = behind(&sink).await;
    sink.break_down(outbox::Fault::Sink, "nobody listens");
    let relay = rig.run(sink.clone());
    eventually("it reads the table", async || {
        rig.checkpoints("all").await.iter().any(|known| known.partition.is_recovery())
    })
    .await;
    rig.write(&KEYS, 1);
    rig.stream.roll(&rig.shard_of("b")).unwrap();
    sleep(30 * HOUR).await;
    rig.trim();
    rig.write(&KEYS, 1);
    sink.mend();
    rig.published(&sink).await;
    rig.write(&KEYS, 1);
    rig.published(&sink).await;
    eventually("it flows", async || relay.route("all").state == RouteState::Flowing).await;
    relay.stop().await;
    rig.assert_complete(&sink);
}

#[tokio::test(start_paused = true)]
async fn recoveries_that_end_too_late_follow_each_other_more_and_more_slowly() {
    let sink = Arc::new(MemorySink::default());
    let rig = behind(&sink).await;
    let last = rig.written()["a"].last().cloned();
    let bend = Bend::TooLateUntil(tokio::time::Instant::now() + HOUR);
    let relay = run(rig.bent(bend).route(settings("all"), sink.clone()));
    sleep(2 * HOUR).await;
    assert_eq!(relay.route("all").state, RouteState::Flowing);
    relay.stop().await;
    rig.assert_complete(&sink);
    let times = sink.ids().into_iter().filter(|id| Some(id) == last.as_ref()).count();
    assert!((10..=25).contains(&times), "the table was published {times} times in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_splits_while_a_recovery_ends_is_followed_by_its_children() {
    let sink = Arc::new(MemorySink::default());
    let rig = behind(&sink).await;
    let relay = run(rig.bent(Bend::SlowAfterRecovery(seconds(90))).route(settings("all"), sink.clone()));
    sleep(seconds(30)).await;
    rig.stream.split(&rig.shard_of("a")).unwrap();
    rig.write(&KEYS, 1);
    rig.published(&sink).await;
    assert_eq!(relay.route("all").state, RouteState::Flowing);
    relay.stop().await;
    rig.assert_complete(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_new_route_reads_from_the_table_what_the_stream_has_forgotten() {
    let rig = StreamRig::new();
    rig.write(&KEYS, 3);
    rig.stream.roll(&rig.only_shard()).unwrap();
    sleep(30 * HOUR).await;
    rig.trim();
    rig.write(&KEYS, 2);
    let sink = Arc::new(MemorySink::default());
    let relay = rig.run(sink.clone());
    rig.published(&sink).await;
    relay.stop().await;
    rig.assert_complete(&sink);
}

#[tokio::test(start_paused = true)]
async fn a_replay_reads_from_the_table_what_the_stream_has_forgotten() {
    let sink = Arc::new(MemorySink::default());
    let rig = behind(&sink).await;
    let relay = rig.run(sink.clone());
    rig.published(&sink).await;
    let asked = rig.written();
    let listed: BTreeSet<_> = {
        use outbox::Source as _;
        rig.stream.partitions().await.unwrap().into_iter().map(|listed| listed.id).collect()
    };
    let known = rig.checkpoints("all").await.into_iter().filter(|known| listed.contains(&known.partition));
    let wanted = Replay {
        id: "r1".to_owned(),
        route: route("all"),
        filter: outbox::Filter::default(),
        event: None,
        since: None,
        until: None,
        ends: known.map(|known| (known.partition, known.position)).collect(),
        finished: false,
    };
    rig.rig.bookkeeping.put_replay(&wanted).await.unwrap();
    eventually("the replay is finished", async || {
        rig.rig.bookkeeping.replays().await.unwrap().iter().any(|replay| replay.finished)
    })
    .await;
    relay.stop().await;
    let mut seen = BTreeSet::new();
    let replayed = sink.accepted().into_iter().filter(|accepted| accepted.replay.is_some());
    let first = replayed.map(|accepted| accepted.event.id().to_owned()).filter(|id| seen.insert(id.clone()));
    assert_eq!(by_key(first.collect()), asked);
}

#[tokio::test(start_paused = true)]
async fn without_a_table_to_read_the_relay_stops_and_says_what_to_do() {
    let sink = Arc::new(MemorySink::default());
    let rig = behind(&sink).await;
    let relay = run(rig.bent(Bend::NoRecovery).route(settings("all"), sink.clone()));
    let before = sink.ids().len();
    let error = relay.ended().await.unwrap_err().to_string();
    assert!(error.contains("`all`") && error.contains("outbox route retire"), "{error}");
    let after: BTreeSet<_> = sink.ids().into_iter().skip(before).collect();
    sleep(millis(100)).await;
    assert!(after.iter().all(|id| !id.starts_with("a@")), "nothing of a key that is behind: {after:?}");
    let health = rig.rig.bookkeeping.health(&route("all")).await.unwrap().unwrap();
    assert!(matches!(health.state, HealthState::Stopped { .. }), "{health:?}");
}

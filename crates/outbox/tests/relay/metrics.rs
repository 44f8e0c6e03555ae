//! What is scraped: each gauge says what is so while it is so, and goes back to nothing; counters count.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    Batch, BusinessStore as _, ErrorKind, Event, Operator, Outcome, RouteName, Sink, SinkError, SinkLimits, Source,
    bookkeeping::{Replay, Selector},
    clock::Clock as _,
    memory::{MemorySink, StreamSettings},
    relay::RetentionPolicy,
    testing::{
        Io,
        faults::{FaultyBookkeeping, FaultySource, SinkFault, StoreFault, StoreFaults},
    },
};
use tokio::time::sleep;

use crate::{
    expiring::Expiring,
    frail::frail,
    measured::Measured,
    recovery::behind,
    replay::{replay, replayed},
    rig::{Rig, arrived, broken_sink, keyless, route, run, seconds, settings},
    streams::{Bend, HOUR, StreamRig},
    told::Told,
};

/// Within this gauges are set anew.
const REPORT: Duration = seconds(6);
const NOTHING: Option<f64> = Some(0.0);
/// A route's.
const GAUGES: [&str; 8] = [
    "backlog_entries",
    "oldest_unpublished_seconds",
    "in_flight",
    "dead_letters",
    "parked_events",
    "troubled_keys",
    "backing_off",
    "stalled_partitions",
];

/// Within a second of `wanted`.
fn is_about(measured: f64, wanted: f64) -> bool {
    (measured - wanted).abs() <= 1.0
}

/// A sink that answers its first calls as told, and accepts everything from then on.
struct Answering(Mutex<VecDeque<Vec<Outcome>>>);

#[async_trait]
impl Sink for Answering {
    fn limits(&self) -> SinkLimits {
        MemorySink::default().limits()
    }

    fn size(&self, event: &Event) -> usize {
        event.weight()
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let told = self.0.lock().unwrap().pop_front();
        Ok(told.unwrap_or_else(|| vec![Outcome::Accepted; batch.events.len()]))
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_and_timed_and_their_events_are_in_flight_meanwhile() {
    let measured = Measured::begin();
    let rig = Rig::new();
    rig.write("a", 3);
    sleep(seconds(100)).await;
    let sink = Arc::new(MemorySink::default());
    let relay = frail(&rig, &sink);
    relay.sink.once(SinkFault::Hang);
    relay.sink.hanging_at_least(1).await;
    sleep(seconds(20)).await;
    assert_eq!(measured.gauge("outbox_in_flight all"), Some(3.0));
    assert_eq!(measured.counter("outbox_published_total all"), 0);
    relay.sink.release();
    rig.caught_up("all").await;
    sleep(REPORT).await;
    assert_eq!(measured.gauge("outbox_in_flight all"), NOTHING);
    assert_eq!(measured.counter("outbox_published_total all"), 3);
    assert_eq!(measured.counter("outbox_calls_total all"), 1);
    assert_eq!(measured.counter("outbox_checkpoints_total all"), relay.done.count(Io::Checkpoint) as u64);
    let (took, lag) = (measured.samples("outbox_call_seconds all"), measured.samples("outbox_lag_seconds all"));
    assert!(matches!(took[..], [took] if is_about(took, 20.0)), "{took:?}");
    assert!(matches!(lag[..], [lag] if is_about(lag, 120.0)), "{lag:?}");
    relay.relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_sink_does_not_accept_is_counted_by_how_it_said_so() {
    let measured = Measured::begin();
    let rig = Rig::new();
    (0..7).for_each(|_| drop(rig.store.write([keyless()]).unwrap()));
    let refused = Outcome::Refused { permanent: false, reason: "no".to_owned() };
    let failed = Outcome::Failed { reason: "something".to_owned() };
    let throttled = Outcome::Throttled { after: None };
    let answer = [vec![Outcome::Accepted], vec![refused; 3], vec![failed; 2], vec![throttled]].concat();
    let relay = rig.run(Arc::new(Answering(Mutex::new([answer].into()))));
    rig.caught_up("all").await;
    rig.keeps("all", 0, 0).await;
    sleep(seconds(120)).await;
    let counted = ["refused", "failed", "throttled"]
        .map(|outcome| measured.counter(&format!("outbox_not_accepted_total all {outcome}")));
    assert_eq!(counted, [3, 2, 1]);
    assert_eq!(measured.counter("outbox_published_total all"), 7);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_its_age_and_a_sink_that_takes_nothing_are_told_until_it_takes_them() {
    let measured = Measured::begin();
    let rig = Rig::new();
    let sink = broken_sink();
    let relay = rig.run(sink.clone());
    rig.write("a", 4);
    sleep(seconds(200)).await;
    rig.write("b", 3);
    sleep(seconds(100)).await;
    assert_eq!(measured.gauge("outbox_backlog_entries all"), Some(7.0));
    let age = measured.gauge("outbox_oldest_unpublished_seconds all").unwrap();
    assert!((294.0..=300.0).contains(&age), "{age}");
    assert_eq!(measured.gauge("outbox_backing_off all"), Some(1.0));
    assert_eq!(measured.gauge("outbox_expiring all"), NOTHING, "the store deletes nothing");
    let calls = measured.counter("outbox_calls_total all");
    assert_eq!(measured.counter("outbox_not_accepted_total all failed"), calls, "calls as a whole");
    sink.mend();
    arrived(&sink, 7).await;
    sleep(REPORT).await;
    for gauge in ["backlog_entries", "oldest_unpublished_seconds", "backing_off"] {
        assert_eq!(measured.gauge(&format!("outbox_{gauge} all")), NOTHING, "{gauge}");
    }
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_cannot_be_looked_at_is_not_shown_as_none() {
    let measured = Measured::begin();
    let rig = Rig::new();
    let (faults, store) = (StoreFaults::default(), Arc::new(rig.store.reopen()));
    let source = FaultySource::new(store.clone() as Arc<dyn Source>, faults.clone());
    let store = Expiring { inner: rig.store.reopen(), after: 2 * HOUR };
    let relay = run(rig.relay_on(Arc::new(source), Arc::new(store)).route(settings("all"), broken_sink()));
    rig.write("a", 4);
    sleep(HOUR + REPORT).await;
    let shown = || {
        ["backlog_entries", "oldest_unpublished_seconds", "expiring"]
            .map(|gauge| measured.gauge(&format!("outbox_{gauge} all")))
    };
    let before = shown();
    assert_eq!((before[0], before[2]), (Some(4.0), Some(1.0)));
    faults.always(Io::Backlog, StoreFault::Fail(ErrorKind::Unavailable));
    sleep(seconds(60)).await;
    assert_eq!(shown(), before);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_told_by_kind_until_nothing_is() {
    let measured = Measured::begin();
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    sink.refuse("b@1.1.0", true, "no");
    sink.refuse("c@1.1.0", false, "not yet");
    let relay = rig.run(sink.clone());
    rig.write("a", 5);
    rig.write("b", 1);
    rig.write("c", 2);
    rig.keeps("all", 2, 5).await;
    sleep(REPORT).await;
    let shown = || {
        ["dead_letters", "parked_events", "troubled_keys"].map(|gauge| measured.gauge(&format!("outbox_{gauge} all")))
    };
    assert_eq!(shown(), [Some(2.0), Some(5.0), Some(3.0)]);
    assert_eq!(measured.gauge("outbox_backlog_entries all"), NOTHING, "what is kept is behind the checkpoint");
    sink.mend();
    rig.redrive("all").await;
    arrived(&sink, 8).await;
    sleep(REPORT).await;
    assert_eq!(shown(), [NOTHING; 3]);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn unpublished_entries_that_have_lived_for_half_of_their_time_are_an_alarm_until_they_are_out() {
    let (measured, told) = (Measured::begin(), Told::begin());
    let rig = Rig::new();
    let sink = broken_sink();
    let store = Expiring { inner: rig.store.reopen(), after: 4 * HOUR };
    let relay = run(rig.relay_on(Arc::new(rig.store.reopen()), Arc::new(store)).route(settings("all"), sink.clone()));
    rig.write("a", 1);
    let alarms = || told.lines("ERROR", "half of the time after which the store deletes them");
    sleep((2 * HOUR).saturating_sub(REPORT)).await;
    assert_eq!((measured.gauge("outbox_expiring all"), alarms().len()), (NOTHING, 0));
    sleep(2 * REPORT).await;
    assert_eq!(measured.gauge("outbox_expiring all"), Some(1.0));
    sleep(HOUR).await;
    let [alarm] = &alarms()[..] else { panic!("told once: {:?}", alarms()) };
    assert!(alarm.contains("route=all") && alarm.contains("expires=14400s"), "{alarm}");
    sink.mend();
    arrived(&sink, 1).await;
    sleep(REPORT).await;
    assert_eq!(measured.gauge("outbox_expiring all"), NOTHING);
    assert_eq!((alarms().len(), told.lines("INFO", "no longer about to be deleted").len()), (1, 1));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_shows_nothing_any_more_once_it_is_over_and_does_not_alarm_for_old_entries() {
    let (measured, told) = (Measured::begin(), Told::begin());
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let store = Expiring { inner: rig.store.reopen(), after: 4 * HOUR };
    let relay = run(rig.relay_on(Arc::new(rig.store.reopen()), Arc::new(store)).route(settings("all"), sink.clone()));
    rig.write("a", 4);
    rig.caught_up("all").await;
    sleep(3 * HOUR).await;
    let name: RouteName = route("all").replay("r1");
    let shown = || GAUGES.map(|gauge| measured.gauge(&format!("outbox_{gauge} {name}")));
    sink.break_down(outbox::Fault::Sink, "nobody listens");
    rig.bookkeeping.put_replay(&replay("r1", "all", rig.end().await)).await.unwrap();
    sleep(seconds(60)).await;
    let [backlog, age, _, _, _, _, backing_off, _] = shown();
    assert_eq!((backlog, backing_off), (Some(4.0), Some(1.0)));
    assert!(age.is_some_and(|age| age > 3.0 * 3600.0), "{age:?}");
    assert_eq!(measured.gauge("outbox_backlog_entries all"), NOTHING);
    sink.mend();
    sink.refuse("a@1.2.0", true, "no");
    replayed(&rig, "r1").await;
    sleep(REPORT).await;
    assert_eq!(shown(), [0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 0.0, 0.0].map(Some), "it waits for its dead letter");
    sink.mend();
    rig.bookkeeping.redrive(&name, &Selector::default(), rig.clock.wall()).await.unwrap();
    arrived(&sink, 8).await;
    sleep(REPORT).await;
    assert_eq!(shown(), [NOTHING; 8]);
    assert_eq!(measured.counter(&format!("outbox_published_total {name}")), 4);
    assert_eq!((measured.gauge(&format!("outbox_expiring {name}")), told.lines("ERROR", "").len()), (NOTHING, 0));
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_over_shows_nothing_though_nothing_can_be_looked_at_just_then() {
    let measured = Measured::begin();
    let rig = Rig::new();
    let (sink, faults) = (Arc::new(MemorySink::default()), StoreFaults::default());
    let source = FaultySource::new(Arc::new(rig.store.reopen()) as Arc<dyn Source>, faults.clone());
    let bookkeeping = FaultyBookkeeping::new(rig.bookkeeping.clone() as Arc<dyn Operator>, faults.clone());
    let relay = rig.relay_on(Arc::new(source), Arc::new(rig.store.reopen())).bookkeeping(Arc::new(bookkeeping));
    let relay = run(relay.route(settings("all"), sink.clone()));
    rig.write("a", 4);
    rig.caught_up("all").await;
    let name: RouteName = route("all").replay("r1");
    let shown = || GAUGES.map(|gauge| measured.gauge(&format!("outbox_{gauge} {name}")));
    sink.refuse("a@1.2.0", true, "no");
    rig.bookkeeping.put_replay(&replay("r1", "all", rig.end().await)).await.unwrap();
    replayed(&rig, "r1").await;
    sleep(REPORT).await;
    assert_eq!(shown(), [0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 0.0, 0.0].map(Some));
    for io in [Io::Backlog, Io::KeptCounts] {
        faults.always(io, StoreFault::Fail(ErrorKind::Unavailable));
    }
    sink.mend();
    rig.bookkeeping.redrive(&name, &Selector::default(), rig.clock.wall()).await.unwrap();
    arrived(&sink, 8).await;
    sleep(seconds(60)).await;
    assert_eq!(shown(), [NOTHING; 8]);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_cannot_be_done_tends_what_it_keeps_and_then_shows_nothing_any_more() {
    let (measured, told) = (Measured::begin(), Told::begin());
    let rig = StreamRig::with(StreamSettings { shards: 2, ..StreamSettings::default() });
    let (sink, faults) = (Arc::new(MemorySink::default()), StoreFaults::default());
    let bookkeeping = FaultyBookkeeping::new(rig.rig.bookkeeping.clone() as Arc<dyn Operator>, faults.clone());
    let relay = run(rig.relay().bookkeeping(Arc::new(bookkeeping)).route(settings("all"), sink.clone()));
    rig.write(&["a", "b"], 3);
    rig.published(&sink).await;
    let name: RouteName = route("all").replay("r1");
    let shown = || GAUGES.map(|gauge| measured.gauge(&format!("outbox_{gauge} {name}")));
    // It stays at its beginning, with a dead letter.
    sink.break_down(outbox::Fault::Sink, "nobody listens");
    let ends = rig.checkpoints("all").await.into_iter().map(|known| (known.partition, known.position)).collect();
    let asked = Replay { ends, ..replay("r1", "all", rig.rig.end().await) };
    rig.rig.bookkeeping.put_replay(&asked).await.unwrap();
    sleep(seconds(60)).await;
    faults.always(Io::Checkpoint, StoreFault::Fail(ErrorKind::Unavailable));
    sink.mend();
    sink.refuse("a@1.1.0", true, "no");
    sleep(seconds(600)).await;
    let [backlog, _, _, dead, parked, ..] = shown();
    assert_eq!([backlog, dead, parked], [6.0, 1.0, 2.0].map(Some));
    relay.kill().await;
    // When the next one comes its range is forgotten.
    sleep(36 * HOUR).await;
    rig.trim();
    let relay = run(rig.bent(Bend::NoRecovery).route(settings("all"), sink.clone()));
    sleep(seconds(60)).await;
    assert_eq!(told.lines("ERROR", "a replay cannot be done").len(), 1);
    assert_eq!(shown(), [0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 0.0, 0.0].map(Some), "it waits for its dead letter");
    sink.mend();
    rig.rig.bookkeeping.redrive(&name, &Selector::default(), rig.rig.clock.wall()).await.unwrap();
    arrived(&sink, 12).await;
    sleep(REPORT).await;
    assert_eq!(shown(), [NOTHING; 8]);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_waits_for_too_long_is_told_until_it_begins() {
    let measured = Measured::begin();
    let rig = StreamRig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = run(rig.relay().stalled_after(seconds(600)).route(settings("all"), sink.clone()));
    rig.write(&["a", "b"], 1);
    rig.published(&sink).await;
    sink.break_down(outbox::Fault::Sink, "nobody listens");
    rig.write(&["a", "b"], 1);
    rig.stream.roll(&rig.only_shard()).unwrap();
    sleep(seconds(300)).await;
    assert_eq!(measured.gauge("outbox_stalled_partitions all"), NOTHING);
    sleep(seconds(600)).await;
    assert_eq!(measured.gauge("outbox_stalled_partitions all"), Some(1.0));
    sink.mend();
    rig.published(&sink).await;
    sleep(REPORT).await;
    assert_eq!(measured.gauge("outbox_stalled_partitions all"), NOTHING);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_about_to_read_the_table_again_does_not_show_an_empty_backlog() {
    let sink = Arc::new(MemorySink::default());
    let rig = behind(&sink).await;
    let measured = Measured::begin();
    let (faults, store) = (StoreFaults::default(), Arc::new(rig.rig.store.reopen()));
    faults.always(Io::Recovery, StoreFault::Fail(ErrorKind::Unavailable));
    let source = FaultySource::new(Arc::new(rig.stream.on(&store)) as Arc<dyn Source>, faults.clone());
    let relay = run(rig.rig.relay_on(Arc::new(source), store).route(settings("all"), sink.clone()));
    sleep(seconds(60)).await;
    assert_ne!(measured.gauge("outbox_backlog_entries all"), NOTHING);
    assert_eq!(measured.counter("outbox_recoveries_total all"), 0);
    faults.mend();
    rig.published(&sink).await;
    sleep(REPORT).await;
    assert_eq!(measured.gauge("outbox_backlog_entries all"), NOTHING);
    assert_eq!(measured.counter("outbox_recoveries_total all"), 1);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_own_the_source_says_so() {
    let rig = Rig::new();
    let first = rig.run(Arc::new(MemorySink::default()));
    first.owns().await;
    let measured = Measured::begin();
    let standby = rig.run(Arc::new(MemorySink::default()));
    sleep(seconds(1)).await;
    assert_eq!(measured.gauge("outbox_owner"), NOTHING);
    first.stop().await;
    standby.owns().await;
    assert_eq!(measured.gauge("outbox_owner"), Some(1.0));
    standby.kill().await;
    assert_eq!(measured.gauge("outbox_owner"), NOTHING);
    let last = rig.run(Arc::new(MemorySink::default()));
    last.owns().await;
    assert_eq!(measured.gauge("outbox_owner"), Some(1.0));
    last.stop().await;
    assert_eq!(measured.gauge("outbox_owner"), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_nobody_configures_is_told_until_it_is_retired_and_what_is_purged_is_counted() {
    let measured = Measured::begin();
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let relay = run(rig.relay().route(settings("old"), sink.clone()).route(settings("new"), sink.clone()));
    rig.write("a", 20);
    arrived(&sink, 40).await;
    assert_eq!(measured.gauge("outbox_unconfigured_routes"), NOTHING);
    relay.stop().await;
    let purging = || run(rig.relay().retention(RetentionPolicy::Newest(5)).route(settings("new"), sink.clone()));
    let relay = purging();
    rig.write("a", 20);
    sleep(seconds(600)).await;
    assert_eq!(measured.gauge("outbox_unconfigured_routes"), Some(1.0));
    let purged = measured.counter("outbox_purged_entries_total");
    assert_eq!((purged, rig.store.len()), (15, 25), "`old` is past no more");
    relay.stop().await;
    rig.bookkeeping.forget_route(&route("old")).await.unwrap();
    rig.store.retire_route(&route("old")).await.unwrap();
    let relay = purging();
    sleep(seconds(600)).await;
    assert_eq!(measured.gauge("outbox_unconfigured_routes"), NOTHING);
    assert_eq!(measured.counter("outbox_purged_entries_total"), 35);
    relay.stop().await;
}

//! One owner at a time, that hands over cleanly and costs nothing while there is nothing to do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use outbox::{
    memory::MemorySink,
    relay::RelayBuilder,
    testing::{
        Io, Side, Step, StepGate,
        faults::{FaultySink, SinkFault, SinkFaults},
    },
};
use tokio::time::sleep;

use crate::rig::{Rig, run, settings, soon};

/// A relay whose I/Os are counted.
fn counted(rig: &Rig, gate: &StepGate, sink: &Arc<MemorySink>) -> RelayBuilder {
    let store = Arc::new(rig.store.reopen());
    rig.relay()
        .source(gate.source(store.clone()))
        .store(gate.store(store))
        .bookkeeping(gate.bookkeeping(rig.bookkeeping.clone()))
        .route(settings("main"), gate.sink(sink.clone()))
}

/// How often each I/O took place.
fn counts(steps: &[Step]) -> BTreeMap<Io, usize> {
    let mut counts = BTreeMap::new();
    for step in steps.iter().filter(|step| step.side == Side::After) {
        *counts.entry(step.io).or_default() += 1;
    }
    counts
}

const HOUR: Duration = Duration::from_secs(3600);
/// What only looks.
const LOOKS: [Io; 8] =
    [Io::Lease, Io::OperatorChanges, Io::Paused, Io::Replays, Io::Partitions, Io::Read, Io::Backlog, Io::KeptCounts];

#[tokio::test(start_paused = true)]
async fn an_idle_relay_writes_nothing_but_its_lease_renewals_and_looks_once_a_second() {
    let (rig, gate, sink) = (Rig::new(), StepGate::counting(), Arc::<MemorySink>::default());
    rig.write(10, 10);
    let relay = run(counted(&rig, &gate, &sink));
    rig.caught_up().await;
    sleep(Duration::from_secs(1)).await;
    let before = gate.trace().len();
    sleep(HOUR).await;
    let mut counts = counts(&gate.trace()[before..]);
    let renewals = counts.remove(&Io::Renew).unwrap_or_default();
    // A third of the failover time of ten seconds.
    assert!((1000..=1100).contains(&renewals), "{renewals} renewals in an hour");
    for (io, count) in counts {
        assert!(LOOKS.contains(&io) && count <= 3700, "{io:?}, {count} times");
    }
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_stands_by_writes_nothing_at_all() {
    let (rig, gate, sink) = (Rig::new(), StepGate::counting(), Arc::<MemorySink>::default());
    let owner = rig.run(sink.clone());
    rig.write(10, 10);
    rig.caught_up().await;
    let standby = run(counted(&rig, &gate, &sink));
    sleep(HOUR).await;
    assert_eq!(counts(&gate.trace()).into_keys().collect::<Vec<_>>(), [Io::Lease]);
    standby.stop().await;
    owner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handoff_drains_first_and_sends_nothing_twice() {
    let (rig, sink, faults) = (Rig::new(), Arc::<MemorySink>::default(), SinkFaults::default());
    let ids = rig.write(1, 10);
    faults.once(SinkFault::Hang);
    let first = rig.run(Arc::new(FaultySink::new(sink.clone(), faults.clone())));
    soon("the first call hangs", faults.hanging_at_least(1)).await;
    let second = rig.run(sink.clone());
    let first = first.ask_to_stop();
    // For longer than the failover time: whoever drains still owns the source.
    sleep(Duration::from_secs(25)).await;
    assert_eq!(sink.calls(), 0, "nobody publishes before the call under way is back");
    faults.release();
    soon("the first relay ends", first).await.unwrap().unwrap();
    rig.caught_up().await;
    second.stop().await;
    assert_eq!(sink.ids(), ids, "each once, in order");
}

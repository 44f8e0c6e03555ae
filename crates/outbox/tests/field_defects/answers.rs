//! What sinks answer: read for each event, and believed only as far as it goes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    Batch, Event, Fault, Outcome, Sink, SinkError, SinkLimits,
    cloudevents::{Envelope, json},
    inbox::{Answer, Applied, Handler, InboxLayer, InboxService, Incoming, memory},
    testing::faults::{FaultySink, SinkFault, SinkFaults},
};
use tower::Layer as _;

use crate::rig::{Picky, Rig, eventually, run, settings};

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_that_was_not_accepted_whatever_the_sink_answers() {
    let rig = Rig::new();
    let ids = rig.write(40, 2);
    let poison = "order/7@1.1.0".to_owned();
    let (sink, faults) = (Arc::<outbox::memory::MemorySink>::default(), SinkFaults::default());
    faults.always(SinkFault::Refuse { event: poison.clone(), permanent: true });
    faults.once(SinkFault::Refuse { event: "order/3@1.2.0".to_owned(), permanent: false });
    faults.once(SinkFault::ShortAnswer);
    faults.once(SinkFault::Throttle { after: Some(Duration::from_secs(1)) });
    faults.once(SinkFault::FailCall(Fault::Unknown));
    let relay = rig.run(Arc::new(FaultySink::new(sink.clone(), faults.clone())));
    rig.caught_up().await;
    eventually("everything is accepted or kept", async || {
        let accepted: BTreeSet<_> = sink.ids().into_iter().collect();
        let kept = rig.kept().await;
        accepted.len() == 78 && (kept.dead, kept.parked, kept.retrying) == (1, 1, 0)
    })
    .await;
    assert_eq!(faults.pending(), 1, "every fault took place, and only the refusal stays");
    relay.stop().await;
    let accepted: BTreeSet<_> = sink.ids().into_iter().collect();
    let missing: Vec<_> = ids.iter().filter(|id| !accepted.contains(*id)).collect();
    assert_eq!(missing, [&poison, "order/7@1.2.0"]);
    assert_eq!(sink.breaches(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn rejected_entries_of_a_batch_are_retried_or_dead_lettered_and_no_other_is_sent_again() {
    let rig = Rig::new();
    let mut ids = rig.write(100, 1);
    // Partial failures again and again: each call's refusals are another part of it.
    let refusals = ids.iter().enumerate().map(|(number, id)| (id.clone(), u32::try_from(number % 4).unwrap()));
    let sink = Picky::new(false, refusals);
    let relay = rig.run(sink.clone());
    rig.caught_up().await;
    eventually("nothing is kept any more", async || rig.kept().await.lanes == 0).await;
    relay.stop().await;
    ids.sort();
    assert_eq!(sink.accepted(), ids, "each once: none dropped, none sent again that was accepted");

    let more = rig.write(10, 1);
    let sink = Picky::new(true, more[..4].iter().map(|id| (id.clone(), u32::MAX)));
    let relay = rig.run(sink.clone());
    rig.caught_up().await;
    let kept = rig.kept().await;
    assert_eq!((kept.dead, kept.parked, kept.retrying), (4, 0, 0));
    relay.stop().await;
    let mut accepted = more[4..].to_vec();
    accepted.sort();
    assert_eq!(sink.accepted(), accepted);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_once_by_anybodys_fault_loses_and_condemns_nothing() {
    for fault in [Fault::Sink, Fault::Throttle, Fault::Event, Fault::Unknown] {
        // A kind that is added has to be thought about here, too.
        match fault {
            Fault::Sink | Fault::Throttle | Fault::Event | Fault::Unknown => {}
        }
        let rig = Rig::new();
        let ids = rig.write(5, 4);
        let (sink, faults) = (Arc::<outbox::memory::MemorySink>::default(), SinkFaults::default());
        faults.once(SinkFault::FailCall(fault));
        let relay = rig.run(Arc::new(FaultySink::new(sink.clone(), faults)));
        rig.caught_up().await;
        assert_eq!(rig.kept().await.lanes, 0, "{fault:?}: nothing is kept");
        relay.stop().await;
        assert_eq!(sink.ids().len(), ids.len(), "{fault:?}: each once");
        assert_eq!(sink.breaches(), Vec::<String>::new(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_target_is_checked_at_the_start_before_there_is_anything_to_publish() {
    let rig = Rig::new();
    let (first, second) = (Picky::new(false, []), Picky::new(false, []));
    let routes = rig.relay().route(settings("main"), first.clone()).route(settings("second"), second.clone());
    let relay = run(routes);
    eventually("both targets are asked", async || {
        first.checks.load(Ordering::SeqCst) == 1 && second.checks.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(first.inner.calls() + second.inner.calls(), 0);
    relay.stop().await;
}

type Seen = memory::MemoryInbox<Vec<String>>;

/// An inbox as a relay reaches it over a network that loses every second answer.
struct Lossy<H> {
    inbox: InboxService<Seen, H>,
    calls: AtomicU64,
    arrived: AtomicU64,
}

#[async_trait]
impl<H> Sink for Lossy<H>
where
    H: for<'t> Handler<memory::MemoryTx<'t, Vec<String>>>,
{
    fn limits(&self) -> SinkLimits {
        SinkLimits { ordered_calls: true, max_events: 3, max_bytes: 1 << 20, max_event_bytes: 1 << 20, max_calls: 4 }
    }

    fn size(&self, event: &Event) -> usize {
        event.weight()
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let envelope = Envelope { gapless: batch.gapless, replay: None };
        let over_the_wire = |event: &Event| Incoming::Event(json::decode(&json::encode(event, envelope)).unwrap());
        let incoming: Vec<_> = batch.events.iter().map(|event| over_the_wire(event)).collect();
        self.arrived.fetch_add(incoming.len() as u64, Ordering::SeqCst);
        let applied = self.inbox.apply(incoming).await.unwrap();
        assert!(applied.iter().all(Applied::may_be_acknowledged), "{applied:?}");
        if self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return Err(SinkError::new(Fault::Unknown, "the connection broke before the answer").uncertain());
        }
        Ok(vec![Outcome::Accepted; batch.events.len()])
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_published_and_its_answer_lost_comes_again_with_its_id_and_the_inbox_suppresses_it() {
    for mode in [InboxLayer::in_order, InboxLayer::once] {
        let rig = Rig::new();
        let mut ids = rig.write(4, 25);
        let store = Seen::new();
        let note = memory::handler_fn(|seen: &mut Vec<String>, event: &Event| {
            seen.push(event.id().to_owned());
            Answer::Done
        });
        let inbox = mode(store.clone()).clock(rig.clock.clone()).layer(note);
        let sink = Arc::new(Lossy { inbox, calls: AtomicU64::new(0), arrived: AtomicU64::new(0) });
        let relay = rig.run(sink.clone());
        rig.caught_up().await;
        eventually("nothing is kept any more", async || rig.kept().await.lanes == 0).await;
        relay.stop().await;
        assert!(sink.arrived.load(Ordering::SeqCst) > 100, "some came again");
        let mut seen = store.state();
        for key in 0..4 {
            let of_key = |id: &&String| id.starts_with(&format!("order/{key}@"));
            let (seen, written) = (seen.iter().filter(of_key), ids.iter().filter(of_key));
            assert!(seen.eq(written), "the effects of a key are in its order, each once");
        }
        seen.sort();
        ids.sort();
        assert_eq!(seen, ids);
    }
}

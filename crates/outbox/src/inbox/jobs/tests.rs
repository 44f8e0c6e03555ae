//! What a store may ask of a job: how much it is, and to do less.

use tower::Layer;

use super::*;
use crate::{
    bookkeeping::KeptId,
    clock::Moment,
    inbox::{
        InboxLayer,
        memory::{MemoryInbox, MemoryTx, handler_fn},
        settings::{InboxRetry, Mode},
    },
    memory::ManualClock,
    testing_event,
};

type Tx = MemoryTx<'static, ()>;

fn settings(drain: usize) -> Arc<InboxSettings> {
    Arc::new(InboxSettings { drain, ..InboxSettings::new(Mode::InOrder) })
}

fn apply(events: u64) -> ApplyJob<Deferring> {
    let incoming = (1..=events).map(|sequence| testing_event("t", Some("a"), sequence).into()).collect();
    ApplyJob::new(
        incoming,
        Deferring { expiry: Duration::ZERO, ends: Moment::default() },
        settings(1),
        Timestamp::UNIX_EPOCH,
    )
}

/// How much the job is each time that it is asked to do less.
fn lessened<J: Job<Tx>>(job: &mut J, measure: impl Fn(&J) -> usize) -> Vec<usize> {
    let mut measured = Vec::new();
    while job.less() {
        measured.push(measure(job));
        assert!(measured.len() < 100, "it can always do less");
    }
    measured
}

#[test]
fn what_has_arrived_weighs_as_many_events_as_it_is() {
    assert_eq!(Job::<Tx>::weight(&apply(3)), 3);
}

#[test]
fn what_has_arrived_is_halved_and_then_taken_without_what_is_kept() {
    let mut job = apply(5);
    assert_eq!(lessened(&mut job, |job| job.taken), [3, 2, 1, 1]);
    assert!(job.only_arrivals);
}

#[test]
fn a_pass_that_failed_over_a_kept_event_is_done_again_once_without_those() {
    let mut job = apply(1);
    assert!(!Job::<Tx>::again(&mut job), "it failed over what has arrived");
    let lane = LaneId { producer: "/tests".into(), lane: Lane::Event("a".into()) };
    job.blame.set(Some(Blamed { lane, kept: KeptId(1) }));
    assert!(Job::<Tx>::again(&mut job) && job.only_arrivals);
    assert!(!Job::<Tx>::again(&mut job));
}

#[test]
fn a_sweep_does_half_as_many_keys_down_to_one_and_then_half_as_many_events_of_that() {
    let mut share = Share::of(&settings(5));
    let mut seen = Vec::new();
    while share.less() {
        seen.push((share.lanes, share.drain));
        assert!(seen.len() < 100, "it can always do less");
    }
    assert_eq!(seen, [(32, 5), (16, 5), (8, 5), (4, 5), (2, 5), (1, 5), (1, 3), (1, 2), (1, 1)]);
}

#[test]
fn a_sweep_weighs_as_many_keys_as_it_may_look_at_and_can_do_less() {
    let executor = Deferring { expiry: Duration::ZERO, ends: Moment::default() };
    let (settings, share) = (settings(1), Share::of(&settings(1)));
    let (scope, blame) = (Scope::Due, Blame::default());
    let mut job = SweepJob { executor, settings, now: Timestamp::UNIX_EPOCH, scope, blame, share };
    assert_eq!(Job::<Tx>::weight(&job), SWEEP);
    assert_eq!(lessened(&mut job, |job| job.share.lanes), [32, 16, 8, 4, 2, 1]);
}

#[tokio::test]
async fn a_sweep_looks_at_every_key_however_many_there_are() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let retry = InboxRetry { attempts: 2, ..InboxRetry::default() };
    let layer = InboxLayer::once(MemoryInbox::new()).retry(retry).clock(clock.clone());
    let service = layer.layer(handler_fn(|(): &mut (), _: &crate::Event| Answer::retry("no")));
    let events = (0..=SWEEP).map(|key| testing_event("t", Some(&format!("key/{key}")), 1).into());
    service.apply(events.collect()).await.unwrap();
    clock.advance(Duration::from_secs(60));
    assert_eq!(service.sweep_due().await.unwrap().lanes, SWEEP as u64 + 1);
    assert_eq!(service.operator().totals().await.unwrap().retrying, 0, "each was tried");
    assert_eq!(service.sweep().await.unwrap().lanes, SWEEP as u64 + 1);
}

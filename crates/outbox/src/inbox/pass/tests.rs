//! What a pass counts, and how an event fares that it keeps.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tower::Layer;

use super::*;
use crate::{
    event::SKIPPED,
    inbox::{
        Chosen, InboxLayer, Kinds,
        memory::{MemoryInbox, handler_fn},
    },
    memory::ManualClock,
    testing_event,
};

#[tokio::test]
async fn what_becomes_of_events_is_counted_each_time() {
    let only = |kind: &str| [kind.to_owned()].into();
    let kinds = Kinds { create: only("made"), change: only("changed"), remove: only("gone") };
    let layer = InboxLayer::latest(MemoryInbox::new()).kinds(kinds);
    let service = layer.layer(handler_fn(|(): &mut (), _: &Event| Answer::Done));
    for (kind, sequence, expected) in [
        ("changed", 5, Applied::Parked(Waits::Create)),
        ("changed", 3, Applied::Superseded),
        ("changed", 2, Applied::Superseded),
        (SKIPPED, 6, Applied::Ignored),
        (SKIPPED, 7, Applied::Ignored),
        ("made", 8, Applied::Applied),
        ("made", 8, Applied::Duplicate),
        ("made", 8, Applied::Duplicate),
        ("made", 4, Applied::Superseded),
    ] {
        let event = testing_event(kind, Some("k"), sequence);
        assert_eq!(service.apply(vec![event.into()]).await.unwrap(), [expected], "{kind} {sequence}");
    }
    let totals = service.operator().totals().await.unwrap();
    let InboxCounts { applied, duplicates, superseded, ignored, early, .. } = totals.counts;
    assert_eq!(
        (applied, duplicates, superseded, ignored, early),
        (1, 2, 4, 2, 1),
        "number 5 was superseded by number 8"
    );
    assert_eq!(totals.lanes, 0, "nothing is kept any more");
}

#[tokio::test]
async fn a_change_behind_a_create_that_failed_is_neither_ignored_nor_does_it_take_its_place() {
    let only = |kind: &str| [kind.to_owned()].into();
    let kinds = Kinds { create: only("made"), change: only("changed"), remove: only("gone") };
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    let third = handler_fn(move |(): &mut (), event: &Event| {
        let is_third = event.placing().is_some_and(|placing| placing.place.sequence == 3);
        if is_third && breaks.load(Relaxed) { Answer::give_up("no") } else { Answer::Done }
    });
    let service = InboxLayer::latest(MemoryInbox::new()).kinds(kinds).layer(third);
    for (kind, sequence) in [("made", 1), ("gone", 2), ("made", 3), ("changed", 4)] {
        service.apply(vec![testing_event(kind, Some("k"), sequence).into()]).await.unwrap();
    }
    let operator = service.operator();
    assert_eq!(operator.totals().await.unwrap().counts.applied, 2, "it waits behind the dead letter");
    broken.store(false, Relaxed);
    operator.redrive(&Chosen::default()).await.unwrap();
    service.sweep().await.unwrap();
    let totals = operator.totals().await.unwrap();
    assert_eq!((totals.counts.applied, totals.counts.superseded, totals.lanes), (4, 0, 0));
}

#[tokio::test]
async fn a_newer_state_is_not_charged_with_the_attempts_of_the_one_whose_place_it_takes() {
    let service =
        InboxLayer::latest(MemoryInbox::new()).layer(handler_fn(|(): &mut (), _: &Event| Answer::retry("no")));
    for sequence in 1..=3 {
        let applied = service.apply(vec![testing_event("t", Some("k"), sequence).into()]).await.unwrap();
        assert!(matches!(applied[..], [Applied::Retrying { attempts: 1, .. }]), "{applied:?}");
    }
}

#[tokio::test]
async fn markers_of_events_without_a_key_are_counted_each_time() {
    let service = InboxLayer::once(MemoryInbox::new()).layer(handler_fn(|(): &mut (), _: &Event| Answer::Done));
    for number in 1..=2 {
        let marker = testing_event(SKIPPED, None, number);
        assert_eq!(service.apply(vec![marker.into()]).await.unwrap(), [Applied::Ignored]);
    }
    assert_eq!(service.operator().totals().await.unwrap().counts.ignored, 2);
}

#[tokio::test]
async fn an_event_that_is_tried_again_is_in_trouble_since_its_first_attempt() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let layer = InboxLayer::latest(MemoryInbox::new()).clock(clock.clone());
    let service = layer.layer(handler_fn(|(): &mut (), _: &Event| Answer::retry("no")));
    let event = || testing_event("t", Some("k"), 1);
    service.apply(vec![event().into()]).await.unwrap();
    for duplicates in 1..=2 {
        assert_eq!(service.apply(vec![event().into()]).await.unwrap(), [Applied::Duplicate]);
        assert_eq!(service.operator().totals().await.unwrap().counts.duplicates, duplicates);
    }
    clock.advance(Duration::from_secs(60));
    service.sweep_due().await.unwrap();
    let kept = service.operator().kept(None, 10).await.unwrap();
    let trouble = kept[0].record.trouble.as_ref().unwrap();
    assert_eq!((trouble.attempts, trouble.since), (2, Timestamp::UNIX_EPOCH));
}

#[tokio::test]
async fn a_dead_letter_had_the_attempt_that_made_it_one() {
    let gives_up = handler_fn(|(): &mut (), _: &Event| Answer::give_up("no"));
    let service = InboxLayer::once(MemoryInbox::new()).layer(gives_up);
    service.apply(vec![testing_event("t", None, 1).into()]).await.unwrap();
    let kept = service.operator().kept(None, 10).await.unwrap();
    assert_eq!(kept[0].record.trouble.as_ref().unwrap().attempts, 1);
}

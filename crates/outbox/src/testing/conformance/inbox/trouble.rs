//! Failures of handlers, and what cannot be decoded.

use std::time::Duration;

use super::{InboxUnderTest, Run, event, retry, with_gaps};
use crate::{
    bookkeeping::Lane,
    clock::Clock as _,
    cloudevents::{Envelope, json},
    event::NewEvent,
    inbox::{Answer, Applied, Chosen, InboxLayer, Incoming, RawMessage, Waits},
    inbox_store::KeptMessage,
    place::Place,
};

/// An effect that was written before the handler failed is taken back; its record is not.
pub async fn a_failed_effect_leaves_nothing_but_its_record<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.1.0", retry());
    let applied = run.one(event("a", 1)).await;
    assert!(matches!(applied, Applied::Retrying { attempts: 1, .. }) && applied.may_be_acknowledged(), "{applied:?}");
    run.effects_are(&[]);
    let totals = run.totals().await;
    assert_eq!((totals.marks, totals.retrying), (0, 1));
}

/// One failure in a batch takes back only its own effect: what others wrote is written again.
pub async fn a_failed_batch_is_done_again_one_by_one<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.script.say("b@1.1.0", retry());
    let applied = run.apply([event("a", 1), event("b", 1), event("b", 2), event("c", 1)]).await;
    assert!(
        matches!(
            applied[..],
            [
                Applied::Applied,
                Applied::Retrying { attempts: 1, .. },
                Applied::Parked(Waits::Trouble),
                Applied::Applied
            ]
        ),
        "{applied:?}"
    );
    run.effects_are(&["a@1.1.0", "c@1.1.0"]);
}

/// An event is tried again when it is due and not before, and what is parked behind it follows.
pub async fn a_failed_event_is_tried_again_when_it_is_due<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.1.0", retry());
    run.apply([event("a", 1), event("a", 2)]).await;
    run.script.silence();
    run.sweep_after(0).await;
    run.effects_are(&[]);
    run.sweep_after(1).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0"]);
    assert_eq!(run.totals().await.lanes, 0);
}

/// A restart does not begin the attempts anew.
pub async fn attempts_are_counted_over_a_restart<B: InboxUnderTest>(bench: &B) {
    let mut run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.1.0", retry());
    for _ in 0..3 {
        run.one(event("a", 1)).await;
        run.restart();
        run.sweep_after(20).await;
    }
    assert_eq!(run.totals().await.dead, 1);
    let dead = run.operator().dead_letters(&Chosen::default(), 10).await.expect("listed");
    let trouble = dead[0].record.trouble.clone().expect("a dead letter is trouble");
    assert_eq!((trouble.attempts, trouble.reason.as_str()), (3, "not now"));
}

/// One poison event becomes a dead letter; its key waits behind it, over a restart too, and no other key does.
pub async fn a_poison_event_holds_back_its_key_only<B: InboxUnderTest>(bench: &B) {
    let mut run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.2.0", retry());
    run.apply([event("a", 1), event("a", 2), event("b", 1)]).await;
    for _ in 0..4 {
        run.sweep_after(20).await;
    }
    run.restart();
    assert_eq!(run.one(event("a", 3)).await, Applied::Parked(Waits::Trouble));
    assert_eq!(run.one(event("b", 2)).await, Applied::Applied);
    run.sweep_after(100_000).await;
    run.effects_are(&["a@1.1.0", "b@1.1.0", "b@1.2.0"]);
    let totals = run.totals().await;
    assert_eq!((totals.dead, totals.parked, totals.retrying), (1, 1, 0));
    assert!(totals.oldest_dead.is_some());
}

/// Giving up takes no attempts.
pub async fn a_handler_that_gives_up_makes_a_dead_letter_at_once<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.1.0", Answer::give_up("no such\ncustomer"));
    assert_eq!(run.one(event("a", 1)).await, Applied::DeadLetter { reason: "no such customer".to_owned() });
}

/// A handler that says when is asked then.
pub async fn a_handler_decides_when_it_is_tried_again<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let later = || Answer::Retry { after: Some(Duration::from_secs(500)), reason: "limit".to_owned() };
    run.script.say("a@1.1.0", later());
    run.one(event("a", 1)).await;
    run.script.silence();
    run.sweep_after(499).await;
    run.effects_are(&[]);
    run.sweep_after(1).await;
    run.effects_are(&["a@1.1.0"]);
}

/// What waits for its time waits no longer because the wall clock was set back.
pub async fn a_clock_that_is_set_back_holds_no_failed_event_back<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.1.0", retry());
    run.apply([event("a", 1), event("a", 2)]).await;
    run.clock.set_wall(run.clock.wall() - Duration::from_secs(24 * 3600));
    run.sweep_after(0).await;
    run.sweep_after(1).await;
    run.script.silence();
    run.sweep_after(1).await;
    run.effects_are(&[]);
    run.sweep_after(1).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0"]);
}

/// A panic takes back its own effect and is tried again; the inbox goes on.
pub async fn a_panic_is_a_failure_like_any_other<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.1.0", Answer::retry("panic"));
    let applied = run.apply([event("a", 1), event("b", 1)]).await;
    assert!(matches!(&applied[0], Applied::Retrying { reason, .. } if reason.contains("panicked")), "{applied:?}");
    run.script.silence();
    run.sweep_after(1).await;
    run.effects_are(&["b@1.1.0", "a@1.1.0"]);
}

/// The sender's repetitions do not use up the attempts.
pub async fn a_duplicate_of_a_failed_event_is_not_an_attempt<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    run.script.say("a@1.1.0", retry());
    run.one(event("a", 1)).await;
    for _ in 0..5 {
        assert_eq!(run.one(event("a", 1)).await, Applied::Duplicate);
    }
    assert_eq!(run.totals().await.retrying, 1);
}

fn rubbish(body: &'static str) -> Incoming {
    Incoming::Undecodable {
        message: RawMessage::new("application/cloudevents+json", body),
        reason: "not JSON".to_owned(),
    }
}

/// A message without a readable key is a dead letter with its bytes, once, and holds back nothing.
pub async fn what_cannot_be_decoded_is_kept_with_its_bytes_and_parks_nothing<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let incoming = vec![rubbish("{oops"), Incoming::Event(event("a", 1)), rubbish("{oops"), rubbish("{other")];
    let applied = run.service.apply(incoming).await.expect("recorded");
    let dead = Applied::DeadLetter { reason: "not JSON".to_owned() };
    assert_eq!(applied, [dead.clone(), Applied::Applied, Applied::Duplicate, dead]);
    let kept = run.operator().dead_letters(&Chosen::default(), 10).await.expect("listed");
    let bodies: Vec<_> = kept
        .iter()
        .map(|kept| match &kept.first.message {
            KeptMessage::Raw { message, .. } => message.body.to_vec(),
            KeptMessage::Event(event) => panic!("{event:?} was decoded"),
        })
        .collect();
    assert!(bodies.contains(&b"{oops".to_vec()) && bodies.contains(&b"{other".to_vec()) && bodies.len() == 2);
}

/// A message that a newer version can decode is applied as the event it is.
pub async fn what_can_be_decoded_by_now_is_applied_when_redriven<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let body = json::encode(&event("a", 1), Envelope { gapless: true, replay: None });
    let message = RawMessage::new(json::MEDIA_TYPE, body);
    let unread = Incoming::Undecodable { message, reason: "unknown then".to_owned() };
    run.service.apply(vec![unread, rubbish("{oops"), Incoming::Event(event("a", 2))]).await.expect("recorded");
    assert_eq!(run.operator().redrive(&Chosen::default()).await.expect("redriven"), 2);
    run.sweep_after(0).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0"]);
    let left = run.operator().dead_letters(&Chosen::default(), 10).await.expect("listed");
    assert!(left.len() == 1 && matches!(left[0].lane.lane, Lane::Event(_)), "{left:?}");
}

/// What was acknowledged long ago is not lost because it cannot be taken: it stays as it came, with the reason.
pub async fn what_is_refused_when_redriven_stays_a_dead_letter<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, InboxLayer::in_order);
    let gaps = with_gaps(NewEvent::builder("sample").key("a"), Place::new(1, 1, 0), Place::ORIGIN);
    let body = json::encode(&gaps, Envelope { gapless: false, replay: None });
    let message = RawMessage::new(json::MEDIA_TYPE, body);
    let unread = Incoming::Undecodable { message: message.clone(), reason: "unknown then".to_owned() };
    run.service.apply(vec![unread]).await.expect("recorded");
    assert_eq!(run.operator().redrive(&Chosen::default()).await.expect("redriven"), 1);
    run.sweep_after(0).await;
    run.effects_are(&[]);
    let left = run.operator().dead_letters(&Chosen::default(), 10).await.expect("listed");
    assert!(
        matches!(&left[..], [kept] if matches!(&kept.first.message, KeptMessage::Raw { message: kept, .. } if *kept == message))
    );
    let trouble = left[0].record.trouble.clone().expect("a dead letter is trouble");
    assert_ne!(trouble.reason, "unknown then");
}

/// Ids tell nothing of order: a store of the one is refused to the other, with the way out.
pub async fn an_inbox_of_ids_does_not_become_one_of_marks<B: InboxUnderTest>(bench: &B) {
    Run::start(bench, InboxLayer::once).one(event("a", 1)).await;
    let run = Run::start(bench, InboxLayer::in_order);
    let error = run.service.apply(vec![Incoming::Event(event("a", 2))]).await.expect_err("refused");
    assert!(error.kind() == crate::ErrorKind::Invalid && error.to_string().contains("`once`"), "{error}");
}

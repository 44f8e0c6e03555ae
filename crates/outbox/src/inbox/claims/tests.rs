//! What is due is taken up again.

use jiff::Timestamp;

use super::*;
use crate::{
    inbox::{InboxLayer, memory::MemoryInbox},
    memory::ManualClock,
    testing_event,
};

/// Asks for another attempt at the first.
struct Second;

impl ClaimHandler for Second {
    async fn handle(&self, claimed: &Claimed) -> Answer {
        if claimed.attempt == 1 { Answer::retry("not yet") } else { Answer::Done }
    }
}

#[tokio::test]
async fn a_sweep_of_what_is_due_applies_it_and_says_so() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let layer = InboxLayer::once(MemoryInbox::<()>::new()).clock(clock.clone());
    let service = layer.claim(ClaimSettings::default()).unwrap().layer(Second);
    let event = testing_event("t", Some("k"), 1);
    let applied = service.apply(vec![event.into()]).await.unwrap();
    assert!(matches!(applied[..], [Applied::Retrying { attempts: 1, .. }]), "{applied:?}");
    assert_eq!(service.sweep_due().await.unwrap().counts.applied, 0, "it is not due yet");
    clock.advance(Duration::from_secs(60));
    let swept = service.sweep_due().await.unwrap();
    assert_eq!((swept.lanes, swept.counts.applied), (1, 1));
}

/// Gives the first of a key up.
struct ButTheFirst;

impl ClaimHandler for ButTheFirst {
    async fn handle(&self, claimed: &Claimed) -> Answer {
        if claimed.event.placing().is_some_and(|placing| placing.place.sequence == 1) {
            Answer::give_up("broken")
        } else {
            Answer::Done
        }
    }
}

#[tokio::test]
async fn the_newest_state_takes_the_place_of_one_that_was_given_up_while_it_came() {
    let service =
        InboxLayer::latest(MemoryInbox::<()>::new()).claim(ClaimSettings::default()).unwrap().layer(ButTheFirst);
    let states = [1, 2, 3].map(|number| testing_event("t", Some("k"), number).into());
    service.apply(states.to_vec()).await.unwrap();
    let totals = service.operator().totals().await.unwrap();
    assert_eq!((totals.counts.applied, totals.counts.superseded, totals.dead), (2, 1, 0), "all but the first");
}

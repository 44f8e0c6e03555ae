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

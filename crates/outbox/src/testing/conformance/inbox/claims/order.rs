//! One handler a key, whatever arrives while it runs.

use std::sync::Arc;

use tower::Layer;

use super::{
    super::{InboxUnderTest, event, placed},
    LONG, asked, claimed, gated, service, take,
};
use crate::{
    event::NewEvent,
    inbox::{Applied, InboxLayer},
    memory::ManualClock,
    place::Place,
};

/// An older state that comes while the newest one is handled is of no use any more: handled after it, it would undo it.
pub async fn an_older_state_is_superseded_while_a_newer_one_is_handled<B: InboxUnderTest>(bench: &B) {
    let (clock, (slow, gate)) = (Arc::<ManualClock>::default(), gated());
    let layer = InboxLayer::latest(bench.open()).clock(clock).claim(claimed(LONG)).expect("valid settings");
    let inbox = layer.layer(slow.clone());
    let working = tokio::spawn({
        let inbox = inbox.clone();
        async move { take(&inbox, vec![event("a", 2)]).await }
    });
    asked(&slow, 1).await;
    assert_eq!(take(&inbox, vec![event("a", 1)]).await, [Applied::Superseded]);
    gate.add_permits(2);
    assert_eq!(working.await.expect("the handler ends"), [Applied::Applied]);
    inbox.sweep().await.expect("swept");
    assert_eq!(slow.ids(), ["a@1.2.0"]);
}

/// Where the producer's history went back, what is handled at that moment comes to its end before the new history goes on.
pub async fn a_new_history_waits_for_the_handler_of_the_old_one<B: InboxUnderTest>(bench: &B) {
    let (clock, (slow, gate)) = (Arc::default(), gated());
    let inbox = service(bench, &clock, &slow, LONG);
    gate.add_permits(1);
    take(&inbox, vec![event("a", 1)]).await;
    let working = tokio::spawn({
        let inbox = inbox.clone();
        async move { take(&inbox, vec![event("a", 2)]).await }
    });
    asked(&slow, 2).await;
    let reborn = placed(NewEvent::builder("t").key("a"), Place::new(2, 2, 0), Place::new(1, 1, 0));
    let parked = take(&inbox, vec![reborn]).await;
    assert!(matches!(parked[..], [Applied::Parked(_)]), "{parked:?}");
    assert_eq!(slow.ids(), ["a@1.1.0", "a@1.2.0"], "two of a key were handled at the same time");
    gate.add_permits(2);
    assert_eq!(working.await.expect("the handler ends"), [Applied::Applied]);
    assert_eq!(slow.ids(), ["a@1.1.0", "a@1.2.0", "a@2.2.0"]);
}

//! What is noted of a route's health for those who ask later.

use outbox::{
    ErrorKind, Operator as _,
    bookkeeping::HealthState,
    testing::{Io, faults::StoreFault},
};
use tokio::time::sleep;

use crate::{
    rig::{Rig, arrived, broken_sink, eventually, route, seconds},
    stores::on_faulty_bookkeeping,
};

/// Waits until the bookkeeping says that events of `all` flow, or that they do not.
async fn noted(rig: &Rig, flowing: bool) {
    eventually("the health is noted", async || {
        let health = rig.bookkeeping.health(&route("all")).await.unwrap();
        health.is_some_and(|health| (health.state == HealthState::Flowing) == flowing)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_health_that_could_not_be_noted_is_noted_later() {
    let rig = Rig::new();
    let sink = broken_sink();
    let (relay, faults) = on_faulty_bookkeeping(&rig, &sink);
    rig.write("a", 1);
    noted(&rig, false).await;
    faults.once(Io::NoteHealth, StoreFault::Fail(ErrorKind::Unavailable));
    faults.once(Io::NoteHealth, StoreFault::Fail(ErrorKind::Full));
    sink.mend();
    arrived(&sink, 1).await;
    noted(&rig, true).await;
    assert_eq!(faults.pending(), 0);
    relay.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_note_of_the_health_that_takes_long_does_not_cover_a_later_one() {
    let rig = Rig::new();
    let sink = broken_sink();
    let (relay, faults) = on_faulty_bookkeeping(&rig, &sink);
    faults.once(Io::NoteHealth, StoreFault::Hang);
    rig.write("a", 1);
    faults.hanging_at_least(1).await;
    sink.mend();
    arrived(&sink, 1).await;
    sleep(seconds(60)).await;
    faults.release();
    noted(&rig, true).await;
    sleep(seconds(60)).await;
    noted(&rig, true).await;
    relay.stop().await;
}

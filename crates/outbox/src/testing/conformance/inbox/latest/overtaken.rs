//! What fails while a newer state is kept behind it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tower::Layer;

use super::{
    super::{InboxUnderTest, Run, Script, event, retry, typed},
    with_kinds,
};
use crate::{
    event::Event,
    inbox::{Answer, Applied, ClaimHandler, ClaimService, ClaimSettings, Claimed, InboxLayer, Incoming, Waits},
    inbox_store::InboxStore,
    memory::ManualClock,
};

/// Answers by a script, and remembers what was done.
#[derive(Clone, Default)]
struct Scripted {
    script: Script,
    done: Arc<Mutex<Vec<String>>>,
    /// Says so once it is asked, and never answers.
    hangs: Option<Arc<Notify>>,
}

impl ClaimHandler for Scripted {
    async fn handle(&self, claimed: &Claimed) -> Answer {
        if let Some(asked) = &self.hangs {
            asked.notify_one();
            std::future::pending::<()>().await;
        }
        let answer = self.script.answer(&claimed.event);
        if answer == Answer::Done {
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push(claimed.event.id().to_owned());
        }
        answer
    }
}

impl Scripted {
    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn claiming<S: InboxStore>(layer: InboxLayer<S>, handler: &Scripted) -> (ClaimService<S, Scripted>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let layer = layer.clock(clock.clone()).claim(ClaimSettings::default());
    (layer.expect("valid settings").layer(handler.clone()), clock)
}

async fn take(inbox: &ClaimService<impl InboxStore, Scripted>, events: Vec<Event>) -> Vec<Applied> {
    inbox.apply(events.into_iter().map(Incoming::Event).collect()).await.expect("recorded")
}

/// What is given up while a newer state waits behind its claim is no dead letter: that takes its place.
pub async fn latest_lets_what_came_under_a_claim_take_the_place_of_what_was_given_up<B: InboxUnderTest>(bench: &B) {
    let handler = Scripted::default();
    handler.script.say("a@1.1.0", Answer::give_up("bad"));
    let (inbox, _) = claiming(InboxLayer::latest(bench.open()), &handler);
    assert_eq!(take(&inbox, vec![event("a", 1), event("a", 2)]).await, [Applied::Superseded, Applied::Applied]);
    assert_eq!(handler.done(), ["a@1.2.0"]);
    let totals = inbox.operator().totals().await.expect("read");
    assert_eq!((totals.lanes, totals.counts.superseded), (0, 1));
}

/// Nor is what a worker had in hand that is gone handled again.
pub async fn latest_lets_a_newer_state_take_the_place_of_one_whose_worker_is_gone<B: InboxUnderTest>(bench: &B) {
    let asked = Arc::new(Notify::new());
    let hanging = Scripted { hangs: Some(asked.clone()), ..Scripted::default() };
    let (lost, clock) = claiming(InboxLayer::latest(bench.open()), &hanging);
    let worker = tokio::spawn(async move { take(&lost, vec![event("a", 1), event("a", 2)]).await });
    let handler = Scripted::default();
    let settings = ClaimSettings::default();
    let layer = InboxLayer::latest(bench.open()).clock(clock.clone()).claim(settings);
    let inbox = layer.expect("valid settings").layer(handler.clone());
    tokio::time::timeout(Duration::from_secs(20), asked.notified()).await.expect("the handler is asked");
    clock.advance(settings.expiry + Duration::from_secs(1));
    inbox.sweep().await.expect("the sweep works");
    assert_eq!(handler.done(), ["a@1.2.0"]);
    worker.abort();
}

/// A removal that fails under its claim is tried again though a change came meanwhile, and that does nothing then.
pub async fn latest_tries_a_removal_again_that_failed_before_a_change<B: InboxUnderTest>(bench: &B) {
    let handler = Scripted::default();
    let (inbox, clock) = claiming(with_kinds(bench.open()), &handler);
    take(&inbox, vec![typed("create", "a", 1)]).await;
    handler.script.say("a@1.2.0", retry());
    let applied = take(&inbox, vec![typed("remove", "a", 2), typed("change", "a", 3)]).await;
    assert!(matches!(applied[..], [Applied::Retrying { .. }, Applied::Parked(_)]), "{applied:?}");
    handler.script.silence();
    clock.advance(Duration::from_secs(60));
    inbox.sweep().await.expect("the sweep works");
    assert_eq!(handler.done(), ["a@1.1.0", "a@1.2.0"]);
    let totals = inbox.operator().totals().await.expect("read");
    assert_eq!((totals.lanes, totals.counts.ignored), (0, 1));
}

/// A later create takes the place of one that was given up, and of whatever is kept between the two.
pub async fn latest_lets_a_later_create_take_the_place_of_one_that_was_given_up<B: InboxUnderTest>(bench: &B) {
    let handler = Scripted::default();
    let (inbox, _) = claiming(with_kinds(bench.open()), &handler);
    take(&inbox, vec![typed("create", "a", 1), typed("remove", "a", 2)]).await;
    handler.script.say("a@1.3.0", Answer::give_up("bad"));
    let states = vec![typed("create", "a", 3), typed("change", "a", 4), typed("create", "a", 5)];
    let applied = take(&inbox, states).await;
    assert_eq!((&applied[0], &applied[2]), (&Applied::Superseded, &Applied::Applied));
    assert_eq!(handler.done(), ["a@1.1.0", "a@1.2.0", "a@1.5.0"]);
    assert_eq!(inbox.operator().totals().await.expect("read").lanes, 0);
}

/// What neither creates, changes nor removes waits behind a create that failed, for what follows needs that.
pub async fn latest_keeps_a_create_that_failed_for_the_changes_that_need_it<B: InboxUnderTest>(bench: &B) {
    let run = Run::start(bench, with_kinds);
    run.script.say("a@1.1.0", retry());
    assert!(matches!(run.one(typed("create", "a", 1)).await, Applied::Retrying { .. }));
    assert_eq!(run.one(typed("noted", "a", 2)).await, Applied::Parked(Waits::Trouble));
    assert_eq!(run.one(typed("change", "a", 3)).await, Applied::Parked(Waits::Trouble));
    run.script.silence();
    run.sweep_after(60).await;
    run.effects_are(&["a@1.1.0", "a@1.2.0", "a@1.3.0"]);
    assert_eq!(run.totals().await.lanes, 0);
}

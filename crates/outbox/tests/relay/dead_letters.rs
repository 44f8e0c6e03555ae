//! Events that are given up on: which, when, and what becomes of those behind them.

use std::sync::Arc;

use outbox::{
    Fault, NewEvent, Operator, RouteSettings, Sink as _, SinkLimits,
    memory::MemorySink,
    route::{AfterDeadLetter, RetryPolicy},
    testing::{Hooked, Io, faults::SinkFault},
};
use tokio::time::sleep;

use crate::{
    failures::faulty,
    logged::Logged,
    rig::{Rig, Running, arrived, eventually, key, no_breach, route, run, seconds, settings},
};

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_its_calls_without_being_named_is_found_out() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    let (relay, faults) = faulty(&rig, &sink);
    faults.always(SinkFault::Poison { event: "bad@1.1.0".to_owned(), fault: Fault::Unknown });
    rig.write("bad", 3);
    for number in 0..40 {
        rig.write(&format!("key/{number}"), 2);
    }
    arrived(&sink, 80).await;
    // Others go on being accepted: so it is the event's fault, and after long enough it is given up on.
    for _ in 0..240 {
        rig.write("key/0", 1);
        sleep(seconds(10)).await;
    }
    rig.keeps("all", 1, 2).await;
    faults.mend();
    rig.redrive("all").await;
    arrived(&sink, 80 + 240 + 3).await;
    relay.stop().await;
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_for_now_is_tried_so_often_and_given_up_on() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", false, "not yet");
    rig.write("a", 3);
    rig.write("b", 1);
    let retry = RetryPolicy { attempts: 6, ..RetryPolicy::default() };
    let relay = run(rig.relay().route(RouteSettings { retry, ..settings("all") }, sink.clone()));
    arrived(&sink, 1).await;
    rig.keeps("all", 1, 2).await;
    let letter = rig.dead_letters("all").await.pop().unwrap();
    assert_eq!((letter.front.attempts, &*letter.front.reason), (6, "not yet"));
    relay.stop().await;
    assert_eq!(sink.ids(), ["b@1.1.0"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_taken_at_last_lets_its_followers_go_on() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", false, "not yet");
    let mut written = rig.write("a", 3);
    let relay = rig.run(sink.clone());
    eventually("it is set aside", async || rig.kept("all").await.retrying == 1).await;
    sink.mend();
    arrived(&sink, 3).await;
    rig.keeps("all", 0, 0).await;
    written.extend(rig.write("a", 3));
    arrived(&sink, 6).await;
    relay.stop().await;
    assert_eq!(sink.ids(), written);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_is_a_dead_letter_and_its_key_alone_waits() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    rig.write("a", 1);
    rig.store.write_undecodable(Some(key("a")), "column `data` holds no JSON: write JSON", &b"rubbish"[..]);
    rig.store.write_undecodable(None, "column `key` is not UTF-8: write UTF-8", &b"\xff"[..]);
    rig.write("a", 2);
    rig.write("b", 2);
    let relay = rig.run(sink.clone());
    arrived(&sink, 3).await;
    rig.keeps("all", 2, 2).await;
    rig.caught_up("all").await;
    let reasons: Vec<_> = rig.dead_letters("all").await.into_iter().map(|letter| letter.front.reason).collect();
    assert!(reasons.contains(&"column `data` holds no JSON: write JSON".to_owned()), "{reasons:?}");
    assert!(reasons.contains(&"column `key` is not UTF-8: write UTF-8".to_owned()), "{reasons:?}");
    relay.stop().await;
    assert_eq!(sink.ids(), ["a@1.1.0", "b@1.1.0", "b@1.2.0"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_larger_than_the_sink_takes_is_a_dead_letter_without_a_call() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::new(SinkLimits { max_event_bytes: 2000, ..MemorySink::default().limits() }));
    let large = |key: &str| NewEvent::builder("t").key(key).bytes("text/plain", vec![b'x'; 5000]).build().unwrap();
    rig.store.write([large("a")]).unwrap();
    rig.write("a", 1);
    rig.write("b", 1);
    let relay = rig.run(sink.clone());
    rig.keeps("all", 1, 1).await;
    arrived(&sink, 1).await;
    let letter = rig.dead_letters("all").await.pop().unwrap();
    assert!(letter.front.reason.contains("2000"), "{}", letter.front.reason);
    relay.stop().await;
    assert_eq!(sink.ids(), ["b@1.1.0"]);
    no_breach(&sink);
}

#[tokio::test(start_paused = true)]
async fn redriving_what_can_never_go_out_makes_it_a_dead_letter_again() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::new(SinkLimits { max_event_bytes: 2000, ..MemorySink::default().limits() }));
    let large = NewEvent::builder("t").key("large").bytes("text/plain", vec![b'x'; 5000]).build().unwrap();
    rig.store.write([large]).unwrap();
    rig.write("large", 1);
    rig.store.write_undecodable(Some(key("row")), "rubbish", &b"rubbish"[..]);
    rig.write("row", 1);
    let (relay, writes) = logged(&rig, &sink);
    rig.keeps("all", 2, 2).await;
    rig.redrive("all").await;
    assert_eq!(rig.kept("all").await.dead, 0);
    rig.keeps("all", 2, 2).await;
    sleep(seconds(60)).await;
    assert_eq!(writes.count(Io::Settle), 2, "once for each, and not again and again");
    relay.stop().await;
    assert_eq!(sink.calls(), 0);
}

/// A running relay, and the log of what it does to its bookkeeping.
fn logged(rig: &Rig, sink: &Arc<MemorySink>) -> (Running, Logged) {
    let writes = Logged::default();
    let bookkeeping = Hooked::new(rig.bookkeeping.clone() as Arc<dyn Operator>, writes.clone());
    (run(rig.relay().bookkeeping(Arc::new(bookkeeping)).route(settings("all"), sink.clone())), writes)
}

#[tokio::test(start_paused = true)]
async fn under_continue_a_dead_letter_lets_its_followers_pass() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.2.0", true, "no");
    rig.write("a", 1);
    rig.store.write_undecodable(Some(key("b")), "rubbish", &b"rubbish"[..]);
    rig.write("a", 3);
    rig.write("b", 1);
    let retry = RetryPolicy { after_dead_letter: AfterDeadLetter::Continue, ..RetryPolicy::default() };
    let relay = run(rig.relay().route(RouteSettings { retry, ..settings("all") }, sink.clone()));
    arrived(&sink, 4).await;
    rig.keeps("all", 2, 0).await;
    let mut ids = sink.ids();
    ids.sort_unstable();
    assert_eq!(ids, ["a@1.1.0", "a@1.3.0", "a@1.4.0", "b@1.1.0"]);
    assert!(sink.accepted().iter().all(|accepted| !accepted.gapless));
    sink.mend();
    let only = outbox::bookkeeping::Selector { key: Some(key("a")), ..outbox::bookkeeping::Selector::default() };
    let now = outbox::Clock::wall(&*rig.clock);
    assert_eq!(rig.bookkeeping.redrive(&route("all"), &only, now).await.unwrap(), 1);
    arrived(&sink, 5).await;
    relay.stop().await;
    assert_eq!(sink.ids().last().unwrap(), "a@1.2.0");
}

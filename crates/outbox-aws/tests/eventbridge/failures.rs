//! What goes wrong at the service, and what becomes of the events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use outbox::{Clock, Fault as Whose, Moment, Outcome, Sink as _, System, bookkeeping::KeptCounts};
use outbox_aws::{
    eventbridge::EventBridgeSettings,
    testing::proxy::{Fault, Odds, Proxy},
};

use crate::scene::{
    Running, accepted_ids, emulator, event, event_in, eventually, make_bus, publish, service, sink_on, sink_through,
    unused_name,
};

fn carts() -> EventBridgeSettings {
    EventBridgeSettings::new("carts")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_call_that_failed_in_part_twice_in_a_row_only_what_failed_comes_again() {
    let service = service().await;
    let held = service.hold("PutEvents");
    let relay = Running::start(sink_through(&service, carts()).await, Arc::new(System));
    // The first event keeps the others waiting until they share a call.
    let first = relay.write("first");
    held.arrived().await;
    let mut ids: Vec<_> = (0..6).map(|number| relay.write(&format!("cart/{number}"))).collect();
    service.script(
        "PutEvents",
        [
            Fault::entries([(1, "InternalFailure"), (4, "ThrottlingException"), (5, "InternalFailure")]),
            Fault::entries([(0, "ThrottlingException")]),
        ],
    );
    held.release();
    eventually("everything is accepted", async || service.accepted().len() == 7).await;
    assert_eq!(relay.kept().await.dead, 0);
    relay.stop().await;
    let mut accepted = accepted_ids(&service);
    accepted.sort();
    ids.push(first);
    ids.sort();
    assert_eq!(accepted, ids, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_entry_becomes_a_dead_letter_and_holds_back_its_key_alone() {
    let service = service().await;
    service.rule("PutEvents", |call| {
        let entries = call.body["Entries"].as_array().unwrap().iter().enumerate();
        let poison = entries.filter(|(_, entry)| event_in(entry).id() == "bad@1.1.0");
        Fault::entries(poison.map(|(position, _)| (position, "MalformedDetail")).collect::<Vec<_>>())
    });
    let relay = Running::start(sink_through(&service, carts()).await, Arc::new(System));
    relay.write("bad");
    relay.write("bad");
    for number in 0..30 {
        relay.write(&format!("good/{number}"));
    }
    eventually("all others are accepted", async || service.accepted().len() == 30).await;
    eventually("the poison and what is behind it are kept", async || {
        relay.kept().await == KeptCounts { dead: 1, parked: 1, lanes: 1, ..KeptCounts::default() }
    })
    .await;
    let letter = relay.dead_letters().await.pop().unwrap();
    assert!(letter.front.reason.contains("MalformedDetail"), "{}", letter.front.reason);
    service.rule("PutEvents", |_| Fault::Pass);
    relay.redrive().await;
    eventually("what was kept is accepted", async || service.accepted().len() == 32).await;
    relay.stop().await;
    assert_eq!(&accepted_ids(&service)[30..], ["bad@1.1.0", "bad@1.2.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_put_on_a_bus_that_does_not_exist() {
    let Some(_) = emulator() else { return };
    let (name, proxy) = (unused_name(), Proxy::before(emulator().unwrap()).await);
    let sink = sink_through(&proxy, EventBridgeSettings::new(&name)).await;
    let error = sink.check().await.unwrap_err();
    assert!(error.fault == Whose::Sink && error.message.contains(&format!("no event bus `{name}`")), "{error}");
    let error = publish(&*sink, [event("a")]).await.unwrap_err();
    assert!(error.fault == Whose::Sink && error.message.contains("make it"), "{error}");
    assert_eq!(proxy.calls("PutEvents").len(), 0, "for that would answer success");
    make_bus(&name).await;
    sink.check().await.unwrap();
    assert_eq!(publish(&*sink, [event("a")]).await.unwrap(), [Outcome::Accepted]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_waits_for_a_bus_that_does_not_exist_and_says_so() {
    let Some(_) = emulator() else { return };
    let (name, proxy) = (unused_name(), Proxy::before(emulator().unwrap()).await);
    let relay = Running::start(sink_through(&proxy, EventBridgeSettings::new(&name)).await, Arc::new(System));
    let id = relay.write("cart/1");
    eventually("the status says why", async || {
        let status = relay.handle.status();
        status.routes.iter().any(|route| format!("{route:?}").contains("no event bus"))
    })
    .await;
    assert_eq!((relay.kept().await, proxy.calls("PutEvents").len()), (KeptCounts::default(), 0));
    make_bus(&name).await;
    eventually("the event is accepted", async || accepted_ids(&proxy) == [id.clone()]).await;
    relay.stop().await;
}

/// A clock that is moved by hand.
#[derive(Default)]
struct ByHand(AtomicU64);

impl Clock for ByHand {
    fn moment(&self) -> Moment {
        Moment::from_zero(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }

    fn wall(&self) -> jiff::Timestamp {
        System.wall()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_was_deleted_meanwhile_is_noticed_within_a_minute() {
    let (service, clock) = (service().await, Arc::new(ByHand::default()));
    let sink = sink_on(&service, carts(), clock.clone()).await;
    publish(&*sink, [event("a")]).await.unwrap();
    publish(&*sink, [event("b")]).await.unwrap();
    assert_eq!(service.calls("DescribeEventBus").len(), 1, "it is not asked for each call");
    service.rule("DescribeEventBus", |_| Fault::error("ResourceNotFoundException"));
    clock.0.store(60, Ordering::Relaxed);
    let error = publish(&*sink, [event("c")]).await.unwrap_err();
    assert!(error.fault == Whose::Sink && error.message.contains("no event bus"), "{error}");
    assert_eq!(service.accepted().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_blame_no_event_and_name_the_remedy() {
    let service = service().await;
    let sink = sink_through(&service, carts()).await;
    service
        .script("PutEvents", [Fault::error("AccessDeniedException"), Fault::entries([(0, "AccessDeniedException")])]);
    for _ in 0..2 {
        let error = publish(&*sink, [event("a")]).await.unwrap_err();
        assert!(error.fault == Whose::Sink && error.message.contains("grant this role"), "{error}");
    }
    service.rule("DescribeEventBus", |_| Fault::error("AccessDeniedException"));
    let error = sink.check().await.unwrap_err();
    assert!(error.fault == Whose::Sink && error.message.contains("events:DescribeEventBus"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_a_call_is_laid_to_whom_it_belongs() {
    let service = service().await;
    let sink = sink_through(&service, carts()).await;
    for (fault, whose, uncertain) in [
        (Fault::error("ThrottlingException"), Whose::Throttle, false),
        (Fault::error("ServiceUnavailable"), Whose::Sink, true),
        (Fault::error("ResourceNotFoundException"), Whose::Sink, false),
        (Fault::error("UnrecognizedClientException"), Whose::Sink, false),
        (Fault::error("ExpiredTokenException"), Whose::Sink, false),
        (Fault::error("InternalException"), Whose::Unknown, true),
        (Fault::error("ValidationException"), Whose::Event, false),
        (Fault::LoseCall, Whose::Unknown, true),
        (Fault::LoseAnswer, Whose::Unknown, true),
        (Fault::Answer(200, "no json".to_owned()), Whose::Unknown, true),
        (Fault::Answer(200, r#"{"FailedEntryCount":0,"Entries":[]}"#.to_owned()), Whose::Unknown, true),
        (Fault::Answer(418, "{}".to_owned()), Whose::Unknown, false),
    ] {
        service.script("PutEvents", [fault.clone()]);
        let error = publish(&*sink, [event("a"), event("b")]).await.unwrap_err();
        assert_eq!((error.fault, error.uncertain), (whose, uncertain), "{fault:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_answered_in_time_may_have_had_its_effect() {
    let service = service().await;
    let sink = sink_through(&service, EventBridgeSettings { timeout: Duration::from_millis(200), ..carts() }).await;
    sink.check().await.unwrap();
    let held = outbox_aws::testing::proxy::Held::default();
    service.script("PutEvents", [Fault::HoldAnswer(held.clone())]);
    let error = publish(&*sink, [event("a")]).await.unwrap_err();
    assert!(error.uncertain && error.fault == Whose::Unknown, "{error:?}");
    held.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_no_entry_is_refused_and_the_rest_is_put() {
    let service = service().await;
    let sink = sink_through(&service, carts()).await;
    let long = outbox::NewEvent::builder("t".repeat(129)).key("b").json(&1).build().unwrap();
    let outcomes = publish(&*sink, [event("a"), crate::scene::event_of(long), event("c")]).await.unwrap();
    let refused = matches!(&outcomes[1], Outcome::Refused { permanent: true, reason } if reason.contains("128"));
    assert!(refused && outcomes[0] == Outcome::Accepted && outcomes[2] == Outcome::Accepted, "{outcomes:?}");
    assert_eq!(accepted_ids(&service), ["a@1.1.0", "c@1.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_by_chance_everything_arrives_in_order_by_key() {
    for seed in 1..=3 {
        let service = service().await;
        let odds = Odds {
            throttled: 80,
            internal: 80,
            lost_call: 50,
            lost_answer: 50,
            slow: 50,
            slow_by: Duration::from_millis(3),
            entry: 60,
            ..Odds::default()
        };
        service.seeded(seed, odds);
        let relay = Running::start(sink_through(&service, carts()).await, Arc::new(System));
        let mut written: Vec<Vec<String>> = vec![Vec::new(); 8];
        for _ in 0..6 {
            for (key, ids) in written.iter_mut().enumerate() {
                ids.push(relay.write(&format!("cart/{key}")));
            }
        }
        let firsts = |key: usize| {
            let mut firsts: Vec<String> = Vec::new();
            for id in accepted_ids(&service) {
                if id.starts_with(&format!("cart/{key}@")) && !firsts.contains(&id) {
                    firsts.push(id);
                }
            }
            firsts
        };
        eventually("everything is accepted", async || (0..8).all(|key| firsts(key).len() == 6)).await;
        assert_eq!(relay.kept().await.dead, 0, "seed {seed}");
        relay.stop().await;
        for (key, ids) in written.iter().enumerate() {
            assert_eq!(firsts(key), *ids, "seed {seed}");
        }
    }
}

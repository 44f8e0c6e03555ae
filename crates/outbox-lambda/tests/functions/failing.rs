//! When the sink as a whole, or the bookkeeping, is not there: the batch is asked for again from the first record that is not
//! done, and nothing is lost.

use std::time::Duration;

use jiff::SignedDuration;
use outbox::{Clock as _, Operator as _, System, bookkeeping::HealthState};
use outbox_aws::{dynamodb::Redelivery, testing::proxy::Fault};

use crate::{
    forwarding::carts,
    mapping::{Mapping, payload},
    runtime::Outcome,
    stream::Stream,
    watermark::lease,
    world::{World, route, turning_away},
};

const SHORT: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_down_fails_the_batch_and_is_seen_in_the_status() {
    let (world, stream) = (World::new().await, carts(1, 4, 12));
    world.bus.rule("PutEvents", |_| Fault::error("ServiceUnavailable"));
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), Some(0), "{outcome:?}");
    assert!(matches!(outcome, Outcome::Answered(_)), "it answers before its deadline: {outcome:?}");
    assert_eq!(world.kept().await.lanes, 0, "no event is blamed for it");
    let health = world.bookkeeping.health(&route()).await.unwrap().unwrap();
    assert!(matches!(health.state, HealthState::BackingOff { .. }), "{health:?}");
    world.bus.rule("PutEvents", |_| Fault::Pass);
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), None, "{outcome:?}");
    assert_eq!(world.assert_exact(&stream), 0);
    let health = world.bookkeeping.health(&route()).await.unwrap().unwrap();
    assert_eq!(health.state, HealthState::Flowing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_goes_down_in_the_middle_loses_and_reorders_nothing() {
    let (world, stream) = (World::new().await, carts(2, 60, 300));
    let mut calls = 0;
    world.bus.rule("PutEvents", move |_| {
        calls += 1;
        if (4..14).contains(&calls) { Fault::error("ServiceUnavailable") } else { Fault::Pass }
    });
    let seen = Mapping { timeout: SHORT, ..Mapping::default() }.run(&world, &stream).await;
    assert_eq!(world.assert_exact(&stream), 0, "what was accepted before is not published again: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_does_not_exist_is_waited_for() {
    let (world, stream) = (World::new().await, carts(1, 2, 4));
    world.bus.rule("DescribeEventBus", |_| Fault::error("ResourceNotFoundException"));
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), Some(0), "{outcome:?}");
    assert!(world.arrived().is_empty());
    world.bus.rule("DescribeEventBus", |_| Fault::Answer(200, r#"{"Name":"carts"}"#.to_owned()));
    Mapping::default().run(&world, &stream).await;
    assert_eq!(world.assert_exact(&stream), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_not_done_though_the_rest_of_its_batch_is() {
    let Some(_) = crate::server::emulator() else { return };
    let (world, stream) = (World::new().await, carts(1, 3, 9));
    let dynamo = world.dynamo.as_ref().expect("the bookkeeping fails before an emulator: name one by OUTBOX_TEST_AWS");
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    // The route is registered and has its lease before.
    let first = sandbox.invoke(payload(&records[..3]), SHORT).await;
    assert_eq!(first.failed_from(&records[..3]), None, "{first:?}");
    world.bus.rule("PutEvents", turning_away("MalformedDetail", |id| id.starts_with("cart/1@1.2.")));
    dynamo.rule("TransactWriteItems", |_| Fault::error("ThrottlingException"));
    let rest = &records[3..];
    let outcome = sandbox.invoke(payload(rest), SHORT).await;
    assert_eq!(outcome.failed_from(rest), Some(1), "from the event on that could not be kept: {outcome:?}");
    dynamo.rule("TransactWriteItems", |_| Fault::Pass);
    let outcome = sandbox.invoke(payload(&rest[1..]), SHORT).await;
    assert_eq!(outcome.failed_from(&rest[1..]), None, "{outcome:?}");
    assert_eq!(world.dead_letters().await.len(), 1);
    world.assert_ordered(&stream);
    assert!(world.arrived().iter().any(|id| id.starts_with("cart/2@1.3.")), "the other carts go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bookkeeping_that_is_not_there_at_the_start_fails_the_invocation_and_loses_nothing() {
    let Some(_) = crate::server::emulator() else { return };
    let (world, stream) = (World::new().await, carts(1, 3, 9));
    let dynamo = world.dynamo.as_ref().expect("the bookkeeping fails before an emulator: name one by OUTBOX_TEST_AWS");
    dynamo.rule("GetItem", |_| Fault::error("InternalServerError"));
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    let outcome = sandbox.invoke(payload(records), Duration::from_secs(30)).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert!(world.arrived().is_empty());
    dynamo.rule("GetItem", |_| Fault::Pass);
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), None, "{outcome:?}");
    assert_eq!(world.assert_exact(&stream), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_route_publishes_nothing_and_its_batch_waits() {
    let (world, stream) = (World::new().await, carts(1, 3, 9));
    world.bookkeeping.pause(&route(), true).await.unwrap();
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), Some(0), "{outcome:?}");
    assert!(world.arrived().is_empty());
    world.bookkeeping.pause(&route(), false).await.unwrap();
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), None, "{outcome:?}");
    assert_eq!(world.assert_exact(&stream), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_the_bus_fails_without_naming_it_does_not_hold_up_its_shard() {
    let (world, stream) = (World::new().await, carts(1, 4, 24));
    // Alone in a call it looks as if the bus were down.
    world.bus.rule("PutEvents", turning_away("InternalFailure", |id| id.starts_with("cart/2@1.6.")));
    let seen = Mapping { timeout: Duration::from_secs(10), ..Mapping::default() }.run(&world, &stream).await;
    assert_eq!(seen.invocations, 1, "{seen:?}");
    assert_eq!((world.kept().await.retrying, world.kept().await.lanes), (1, 1));
    world.assert_ordered(&stream);
    let health = world.bookkeeping.health(&route()).await.unwrap();
    assert!(health.is_none_or(|health| health.state == HealthState::Flowing), "the bus takes the others");
}

/// As if it had been noted some minutes ago that nothing of the batch is accepted.
async fn age_doubt(world: &World, batch: &str) {
    let noted = world.bookkeeping.redelivery(&route(), batch).await.unwrap();
    let doubted = Some(noted.doubted.unwrap_or_else(|| System.wall()) - SignedDuration::from_mins(5));
    let older = Redelivery { doubted, ..noted };
    world.bookkeeping.note_redelivery(&lease(world).await, &route(), batch, &older).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_alone_in_its_batch_that_the_bus_fails_without_naming_it_is_kept_after_some_minutes() {
    let (world, stream) = (World::new().await, carts(1, 1, 1));
    world.bus.rule("PutEvents", turning_away("InternalFailure", |_| true));
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), Some(0), "the bus may be down: {outcome:?}");
    let batch = records[0]["dynamodb"]["SequenceNumber"].as_str().unwrap();
    let doubted = world.bookkeeping.redelivery(&route(), batch).await.unwrap().doubted;
    let again = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(again.failed_from(records), Some(0), "{again:?}");
    let still = world.bookkeeping.redelivery(&route(), batch).await.unwrap().doubted;
    assert!(doubted.is_some() && still == doubted, "since the first time: {doubted:?} {still:?}");
    assert_eq!(world.kept().await.lanes, 0);
    age_doubt(&world, batch).await;
    let outcome = World::forwarder(&world.environment()).await.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), None, "the shard goes on: {outcome:?}");
    assert_eq!((world.kept().await.retrying, world.kept().await.lanes), (1, 1), "and nothing is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_however_long_a_bus_is_down_that_says_so() {
    let (world, stream) = (World::new().await, carts(1, 1, 1));
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    world.bus.rule("PutEvents", |_| Fault::error("AccessDeniedException"));
    sandbox.invoke(payload(records), SHORT).await;
    age_doubt(&world, records[0]["dynamodb"]["SequenceNumber"].as_str().unwrap()).await;
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!((outcome.failed_from(records), world.kept().await.lanes), (Some(0), 0), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_that_the_bus_fails_without_naming_them_do_not_hold_up_their_shard_for_ever() {
    let (world, mut stream) = (World::new().await, carts(1, 20, 20));
    stream.commit("other/1", 1);
    world.bus.rule("PutEvents", turning_away("InternalFailure", |id| id.starts_with("cart/")));
    let seen = Mapping { timeout: Duration::from_secs(4), tries: 6, ..Mapping::default() }.run(&world, &stream).await;
    assert!(seen.invocations > 1, "{seen:?}");
    assert_eq!(world.kept().await.lanes, 20);
    assert!(world.arrived().contains(&"other/1@1.1.0".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_and_is_kept_says_nothing_about_a_bus_that_is_down() {
    let (world, mut stream) = (World::new().await, Stream::new(1));
    stream.commit("cart/7", 1);
    stream.spoil_last("cart/7");
    stream.commit("cart/1", 1);
    world.bus.rule("PutEvents", |_| Fault::error("ServiceUnavailable"));
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    let outcome = sandbox.invoke(payload(records), SHORT).await;
    assert_eq!(outcome.failed_from(records), Some(1), "{outcome:?}");
    assert_eq!(world.kept().await.lanes, 1);
    let health = world.bookkeeping.health(&route()).await.unwrap().unwrap();
    assert!(matches!(health.state, HealthState::BackingOff { .. }), "{health:?}");
}

//! The same batch again: after a function that died, beside one that still runs, and behind records that are done.

use std::time::Duration;

use outbox::{Clock as _, Operator as _, System, bookkeeping::Selector};
use outbox_aws::testing::proxy::Fault;

use crate::{
    forwarding::carts,
    mapping::{Mapping, invoke, payload},
    runtime::Outcome,
    world::{World, ids_in, missing, route, turning_away},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_killed_in_the_middle_loses_nothing_and_repeats_no_more_than_its_batch() {
    let (world, stream) = (World::new().await, carts(1, 6, 60));
    let records = &stream.shards[0];
    let mut sandbox = World::forwarder(&world.environment()).await;
    let first = invoke(&mut sandbox, &records[..20]).await;
    assert_eq!(first.failed_from(&records[..20]), None, "{first:?}");
    // The bus has the entries of some calls, and their answers never come.
    let held = world.bus.hold("PutEvents");
    world.bus.script("PutEvents", [Fault::Pass, Fault::HoldAnswer(held.clone())]);
    let killer = sandbox.killer();
    let (outcome, ()) = tokio::join!(sandbox.invoke(payload(&records[20..40]), Duration::from_secs(20)), async {
        held.arrived().await;
        killer.kill().await;
    });
    assert_eq!(outcome, Outcome::Died);
    held.release();
    let published = world.arrived().len();
    let left = stream_of(&stream, 20);
    Mapping { batch: 20, ..Mapping::default() }.shard(&world.environment(), &left).await;
    let duplicates = world.assert_exact(&stream);
    assert!(duplicates <= published, "{duplicates} of {published}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_batch_twice_at_once_only_brings_duplicates() {
    let (world, stream) = (World::new().await, carts(1, 8, 80));
    world.bus.rule("PutEvents", turning_away("MalformedDetail", |id| id == "cart/3@1.5.0"));
    let records = &stream.shards[0];
    let (mut one, mut other) =
        (World::forwarder(&world.environment()).await, World::forwarder(&world.environment()).await);
    let (first, second) = tokio::join!(invoke(&mut one, records), invoke(&mut other, records));
    assert_eq!((first.failed_from(records), second.failed_from(records)), (None, None), "{first:?} {second:?}");
    world.assert_ordered(&stream);
    let lost = missing(&stream, &world.arrived());
    assert!(lost.iter().all(|id| id.starts_with("cart/3@")), "{lost:?}");
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1, "it is kept once");
    assert!(usize::try_from(letters[0].parked).unwrap() + 1 >= lost.len(), "and so is what waits behind it");
    world.bus.rule("PutEvents", |_| Fault::Pass);
    world.bookkeeping.redrive(&route(), &Selector::default(), System.wall()).await.unwrap();
    let outcome = world.keeper().await.invoke("{}".to_owned(), Duration::from_secs(20)).await;
    assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
    world.assert_exact(&stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_behind_the_first_failure_is_left_out_also_by_another_process() {
    let (world, stream) = (World::new().await, carts(1, 40, 80));
    let records = &stream.shards[0];
    // Some calls go through; then the bus takes nothing any more.
    let mut calls = 0;
    world.bus.rule("PutEvents", move |call| {
        calls += usize::from(!ids_in(call).is_empty());
        match calls {
            1 => Fault::entries([(0, "ThrottlingException")]),
            2 => Fault::Pass,
            _ => Fault::error("ServiceUnavailable"),
        }
    });
    let mut sandbox = World::forwarder(&world.environment()).await;
    let outcome = sandbox.invoke(payload(records), Duration::from_secs(5)).await;
    let from = outcome.failed_from(records).expect("most of the batch cannot be published");
    let before = world.arrived().len();
    assert!(before > from, "others went out behind it");
    world.bus.rule("PutEvents", |_| Fault::Pass);
    let mut another = World::forwarder(&world.environment()).await;
    let again = invoke(&mut another, &records[from..]).await;
    assert_eq!(again.failed_from(&records[from..]), None, "{again:?}");
    assert_eq!(world.assert_exact(&stream), 0, "nothing came twice");
}

/// The records of the only shard from `from` on.
fn stream_of(stream: &crate::stream::Stream, from: usize) -> Vec<serde_json::Value> {
    stream.shards[0][from..].to_vec()
}

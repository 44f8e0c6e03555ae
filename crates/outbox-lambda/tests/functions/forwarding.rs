//! What arrives when the bus does as it should, or nearly.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use outbox_aws::testing::proxy::Fault;

use crate::{
    keeping::keep_all,
    mapping::{Mapping, invoke, payload},
    runtime::Outcome,
    stream::Stream,
    world::{World, ids_in, turning_away},
};

/// Purchases of so many carts, in turns, over so many shards.
pub(crate) fn carts(shards: usize, carts: usize, entries: usize) -> Stream {
    let mut stream = Stream::new(shards);
    for number in 0..entries {
        stream.commit(&format!("cart/{}", number % carts), 1 + u32::try_from(number % 3).unwrap());
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn several_shards_arrive_once_and_each_key_in_its_order() {
    let (world, mut stream) = (World::new().await, carts(3, 20, 600));
    stream.expire("cart/1");
    let seen = Mapping::default().run(&world, &stream).await;
    assert_eq!(world.assert_exact(&stream), 0, "nothing came twice");
    assert_eq!((seen.in_part, seen.failed, seen.died), (0, 0, 0), "{seen:?}");
    assert_eq!(world.kept().await.lanes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_are_turned_away_in_part_go_out_again_alone() {
    let (world, stream) = (World::new().await, carts(2, 12, 200));
    let calls = AtomicUsize::new(0);
    world.bus.rule("PutEvents", move |_| match calls.fetch_add(1, Ordering::Relaxed) % 4 {
        0 | 1 => Fault::entries([(0, "InternalFailure")]),
        2 => Fault::entries([(0, "ThrottlingException")]),
        _ => Fault::Pass,
    });
    let seen = Mapping::default().run(&world, &stream).await;
    // What fails three times in a row is kept, and its key parks: the keeper goes on with it.
    let mut keeper = world.keeper().await;
    world.bus.rule("PutEvents", |_| Fault::Pass);
    keep_all(&world, &mut keeper).await;
    assert_eq!(world.assert_exact(&stream), 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_bus_is_waited_for() {
    let (world, stream) = (World::new().await, carts(1, 5, 30));
    world.bus.script("PutEvents", (0..4).map(|_| Fault::error("ThrottlingException")));
    let seen = Mapping::default().run(&world, &stream).await;
    assert_eq!(world.assert_exact(&stream), 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_event_is_a_dead_letter_and_holds_back_only_its_key() {
    let (world, stream) = (World::new().await, carts(1, 6, 60));
    world.bus.rule("PutEvents", turning_away("MalformedDetail", |id| id == "cart/2@1.3.1"));
    let seen = Mapping { batch: 20, ..Mapping::default() }.run(&world, &stream).await;
    assert_eq!((seen.invocations, seen.in_part, seen.failed), (3, 0, 0), "the batches succeed: {seen:?}");
    assert_eq!(world.assert_ordered(&stream), 0);
    let arrived = world.arrived();
    let of_cart_2 = arrived.iter().filter(|id| id.starts_with("cart/2@")).count();
    let ids = stream.ids();
    let before = ids["cart/2"].iter().position(|id| id == "cart/2@1.3.1").unwrap();
    assert_eq!(of_cart_2, before, "what came before it, and nothing behind it");
    assert_eq!(
        arrived.len() - of_cart_2,
        ids.iter().filter(|(key, _)| *key != "cart/2").map(|(_, of)| of.len()).sum::<usize>()
    );
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].kept.content.id(), "cart/2@1.3.1");
    assert_eq!(usize::try_from(letters[0].parked).unwrap(), ids["cart/2"].len() - before - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_a_dead_letter_and_fails_nothing() {
    let (world, mut stream) = (World::new().await, carts(1, 3, 9));
    stream.commit("cart/1", 1);
    stream.spoil_last("cart/1");
    stream.commit("cart/1", 1);
    stream.commit("cart/2", 1);
    let mut sandbox = World::forwarder(&world.environment()).await;
    let mut records = stream.shards[0].clone();
    records.push(serde_json::json!("what is this?"));
    let outcome = invoke(&mut sandbox, &records).await;
    assert_eq!(outcome, Outcome::Answered(serde_json::json!({ "batchItemFailures": [] })));
    let letters = world.dead_letters().await;
    let parked: Vec<_> = letters.iter().map(|letter| (letter.kept.content.id(), letter.parked)).collect();
    assert!(parked.contains(&("entry/cart/1/4", 1)), "{parked:?}");
    assert_eq!(letters.len(), 2, "{parked:?}");
    assert!(world.arrived().contains(&"cart/2@1.4.0".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_the_stream_left_out_is_read_from_the_table_first() {
    let (world, stream) = (World::new().await, carts(1, 1, 4));
    let mut records = stream.shards[0].clone();
    let left_out = records.remove(1);
    let item = left_out["dynamodb"]["NewImage"].clone();
    put(&world, &item).await;
    let mut sandbox = World::forwarder(&world.environment()).await;
    let outcome = invoke(&mut sandbox, &records).await;
    assert_eq!(outcome, Outcome::Answered(serde_json::json!({ "batchItemFailures": [] })));
    assert_eq!(world.assert_exact(&stream), 0);
}

/// The batch that comes again shows that it is missing only if it begins with the entry before.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_the_stream_left_out_is_not_forgotten_where_the_batch_fails_behind_the_one_before() {
    let (world, mut stream) = (World::new().await, carts(1, 1, 4));
    // More keys than are kept for the keeper at a time: the batch fails.
    for other in 0..20 {
        stream.commit(&format!("other/{other}"), 1);
    }
    let mut records = stream.shards[0].clone();
    put(&world, &records.remove(1)["dynamodb"]["NewImage"]).await;
    world.bus.rule("PutEvents", |call| {
        let is_first = ids_in(call).iter().all(|id| id.starts_with("cart/0@1.1."));
        if is_first { Fault::Pass } else { Fault::error("ServiceUnavailable") }
    });
    let mut sandbox = World::forwarder(&world.environment()).await;
    let outcome = sandbox.invoke(payload(&records), Duration::from_secs(6)).await;
    let from = outcome.failed_from(&records).expect("the bus takes nothing but the first");
    world.bus.rule("PutEvents", |_| Fault::Pass);
    let again = invoke(&mut World::forwarder(&world.environment()).await, &records[from..]).await;
    assert_eq!(again.failed_from(&records[from..]), None, "{again:?}");
    assert_eq!(world.assert_exact(&stream), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_fetched_and_fails_without_a_name_is_kept_before_the_one_that_it_was_fetched_for() {
    let (world, mut stream) = (World::new().await, carts(1, 1, 4));
    stream.commit("other/1", 1);
    let mut records = stream.shards[0].clone();
    put(&world, &records.remove(1)["dynamodb"]["NewImage"]).await;
    world.bus.rule("PutEvents", turning_away("InternalFailure", |id| id.starts_with("cart/0@1.2.")));
    let mut sandbox = World::forwarder(&world.environment()).await;
    let outcome = sandbox.invoke(payload(&records), Duration::from_secs(4)).await;
    assert_eq!(outcome.failed_from(&records), None, "{outcome:?}");
    assert_eq!(world.kept().await.lanes, 1);
    world.bus.rule("PutEvents", |_| Fault::Pass);
    let mut keeper = world.keeper().await;
    keep_all(&world, &mut keeper).await;
    assert_eq!(world.assert_exact(&stream), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_key_that_are_swapped_within_a_batch_arrive_in_their_order() {
    let (world, stream) = (World::new().await, carts(1, 3, 12));
    let mut records = stream.shards[0].clone();
    records.swap(0, 3);
    records.swap(4, 10);
    let outcome = invoke(&mut World::forwarder(&world.environment()).await, &records).await;
    assert_eq!(outcome.failed_from(&records), None, "{outcome:?}");
    assert_eq!(world.assert_exact(&stream), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_fetched_and_kept_leaves_the_one_that_it_was_fetched_for() {
    let Some(_) = crate::server::emulator() else { return };
    let (world, stream) = (World::new().await, carts(1, 1, 4));
    let dynamo = world.dynamo.as_ref().expect("the bookkeeping fails before an emulator: name one by OUTBOX_TEST_AWS");
    let all = &stream.shards[0];
    // The second is in the table, and is not wanted; the third is nowhere, and is waited for.
    put(&world, &all[1]["dynamodb"]["NewImage"]).await;
    world.bus.rule("PutEvents", turning_away("MalformedDetail", |id| id.starts_with("cart/0@1.2.")));
    let mut kept = 0;
    dynamo.rule("TransactWriteItems", move |call| {
        let text = call.body.to_string();
        kept += usize::from(text.contains("\"trouble\""));
        // What is kept later is not.
        if kept > 1 && !text.contains("redelivery") { Fault::error("ThrottlingException") } else { Fault::Pass }
    });
    let records = [all[0].clone(), all[3].clone()];
    let mut sandbox = World::forwarder(&world.environment()).await;
    let outcome = sandbox.invoke(crate::mapping::payload(&records), std::time::Duration::from_secs(8)).await;
    assert_eq!(outcome.failed_from(&records), Some(1), "{outcome:?}");
    dynamo.rule("TransactWriteItems", |_| Fault::Pass);
    let outcome = invoke(&mut sandbox, &records[1..]).await;
    assert_eq!(outcome.failed_from(&records[1..]), None, "{outcome:?}");
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].parked, 2, "the other event of the second, and the fourth");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_is_an_error_that_says_so() {
    let world = World::new().await;
    let mut sandbox = World::forwarder(&world.environment()).await;
    let outcome = sandbox.invoke(r#"{"detail": {}}"#.to_owned(), Mapping::default().timeout).await;
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("event source mapping"), "{error}");
}

/// Puts an item in DynamoDB's JSON into the table of entries.
pub(crate) async fn put(world: &World, item: &serde_json::Value) {
    use aws_sdk_dynamodb::types::AttributeValue;

    fn value(json: &serde_json::Value) -> AttributeValue {
        let (kind, inner) = json.as_object().unwrap().iter().next().unwrap();
        match kind.as_str() {
            "S" => AttributeValue::S(inner.as_str().unwrap().to_owned()),
            "N" => AttributeValue::N(inner.as_str().unwrap().to_owned()),
            // The commit's id, which is always the same here.
            "B" => AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new([7; 16])),
            "L" => AttributeValue::L(inner.as_array().unwrap().iter().map(value).collect()),
            "M" => AttributeValue::M(inner.as_object().unwrap().iter().map(|(k, v)| (k.clone(), value(v))).collect()),
            other => panic!("{other}"),
        }
    }
    let item = item.as_object().unwrap().iter().map(|(name, json)| (name.clone(), value(json))).collect();
    let table = format!("{}-entries", world.prefix);
    world.client().put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
}

//! The keeper: what the forwarder kept is retried, redriven, discarded and replayed, under the lease.

use std::time::Duration;

use outbox::{
    Bookkeeping as _, Clock as _, Filter, Operator as _, System,
    bookkeeping::{Replay, Selector},
};
use outbox_aws::{dynamodb::TableSource, testing::proxy::Fault};
use serde_json::json;

use crate::{
    forwarding::carts,
    mapping::{Mapping, invoke},
    runtime::{Outcome, Sandbox},
    world::{World, id_of, route, turning_away},
};

const TIME: Duration = Duration::from_secs(20);
/// How long what is kept may take until it is published.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) async fn keep(keeper: &mut Sandbox) -> serde_json::Value {
    match keeper.invoke("{}".to_owned(), TIME).await {
        Outcome::Answered(kept) => kept,
        other => panic!("{other:?}"),
    }
}

/// Invokes the keeper again and again, until nothing is kept any more.
pub(crate) async fn keep_all(world: &World, keeper: &mut Sandbox) {
    let began = System.moment();
    while world.kept().await.lanes > 0 {
        let waited = System.moment().since(began);
        assert!(waited < PATIENCE, "after {waited:?} something is kept still: {:?}", world.kept().await);
        keep(keeper).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_keeper_takes_no_lease() {
    let world = World::new().await;
    let mut keeper = world.keeper().await;
    assert_eq!(keep(&mut keeper).await, json!("idle"));
    assert_eq!(world.bookkeeping.lease("relay").await.unwrap().epoch, 0);
}

/// As docs/lambda.md says, with its cost.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_keeper_writes_nothing_and_asks_for_little() {
    let Some(_) = crate::server::emulator() else { return };
    let world = World::new().await;
    let dynamo = world.dynamo.as_ref().expect("a proxy stands before an emulator: name one by OUTBOX_TEST_AWS");
    let mut keeper = world.keeper().await;
    // The first one looks at everything.
    keep(&mut keeper).await;
    let asked = || {
        let count = |operation: &str| dynamo.calls(operation).len();
        let writes = ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"].map(count);
        let of_stream = ["DescribeStream", "GetShardIterator", "GetRecords"].map(count);
        (count("GetItem"), count("Query"), writes.iter().sum::<usize>(), of_stream.iter().sum::<usize>())
    };
    let before = asked();
    keep(&mut keeper).await;
    let now = asked();
    let seen = (now.0 - before.0, now.1 - before.1, now.2 - before.2, now.3 - before.3);
    assert_eq!(seen, (9, 11, 0, 0));
    assert!(world.bus.calls("PutEvents").is_empty() && world.bus.calls("DescribeEventBus").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_registered_and_not_configured_is_measured() {
    let world = World::new().await;
    let mut keeper = world.keeper().await;
    keep(&mut keeper).await;
    assert_eq!(keeper.printed()["outbox_unconfigured_routes"], 0);
    let mut environment = world.environment();
    environment.push(("OUTBOX_ROUTE".to_owned(), "other".to_owned()));
    let (stream, mut other) = (carts(1, 1, 1), World::forwarder(&environment).await);
    crate::mapping::invoke(&mut other, &stream.shards[0]).await;
    keep(&mut keeper).await;
    assert_eq!(keeper.printed()["outbox_unconfigured_routes"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_a_retry_arrives_in_order_once_the_bus_takes_it() {
    let (world, stream) = (World::new().await, carts(1, 4, 24));
    world.bus.rule("PutEvents", turning_away("InternalFailure", |id| id.starts_with("cart/2@1.3.")));
    Mapping { timeout: Duration::from_secs(5), ..Mapping::default() }.run(&world, &stream).await;
    assert_eq!(world.kept().await.retrying, 1);
    world.bus.rule("PutEvents", |_| Fault::Pass);
    let mut keeper = world.keeper().await;
    keep_all(&world, &mut keeper).await;
    assert_eq!(world.assert_exact(&stream), 0);
    let lease = world.bookkeeping.lease("relay").await.unwrap();
    assert!(lease.epoch > 0 && lease.released, "it gives the lease back: {lease:?}");
    assert_eq!(keep(&mut keeper).await, json!("idle"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_waits_for_the_operator_and_is_redriven_with_what_is_behind_it() {
    let (world, stream) = (World::new().await, carts(1, 4, 24));
    world.bus.rule("PutEvents", turning_away("MalformedDetail", |id| id == "cart/1@1.2.0"));
    Mapping::default().run(&world, &stream).await;
    world.bus.rule("PutEvents", |_| Fault::Pass);
    let mut keeper = world.keeper().await;
    assert_eq!(keep(&mut keeper).await, json!("idle"), "nobody asked for it");
    assert_eq!(world.bookkeeping.redrive(&route(), &Selector::default(), System.wall()).await.unwrap(), 1);
    assert_eq!(keep(&mut keeper).await, json!("done"));
    assert_eq!(world.assert_exact(&stream), 0);
    assert_eq!(world.kept().await.lanes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_event_leaves_its_marker_and_what_was_behind_it_goes_on() {
    let (world, stream) = (World::new().await, carts(1, 2, 8));
    world.bus.rule("PutEvents", turning_away("MalformedDetail", |id| id == "cart/1@1.2.0"));
    Mapping::default().run(&world, &stream).await;
    world.bus.rule("PutEvents", |_| Fault::Pass);
    world.bookkeeping.discard(&route(), &Selector::default(), "a test").await.unwrap();
    let mut keeper = world.keeper().await;
    assert_eq!(keep(&mut keeper).await, json!("done"));
    let entries = world.bus.accepted();
    let markers: Vec<_> = entries.iter().filter(|entry| entry["DetailType"] == "outbox.skipped").map(id_of).collect();
    assert_eq!(markers.len(), 1);
    assert!(world.arrived().contains(&"cart/1@1.4.0".to_owned()));
    assert_eq!(world.kept().await.lanes, 0);
    // The batch once more, as after a lost answer: what was discarded does not come back.
    Mapping::default().run(&world, &stream).await;
    let again = world.bus.accepted();
    let original =
        |entry: &&serde_json::Value| id_of(entry) == "cart/1@1.2.0" && entry["DetailType"] != "outbox.skipped";
    assert_eq!(again.iter().filter(original).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_publishes_the_table_again_and_ends() {
    let (world, stream) = (World::new().await, carts(1, 3, 9));
    Mapping::default().run(&world, &stream).await;
    let published = world.arrived().len();
    for record in &stream.shards[0] {
        crate::forwarding::put(&world, &record["dynamodb"]["NewImage"]).await;
    }
    let mut keeper = world.keeper().await;
    keep(&mut keeper).await;
    let end = TableSource::published_elsewhere();
    let replay = Replay {
        id: "again".to_owned(),
        route: route(),
        filter: Filter::default(),
        event: None,
        since: None,
        until: None,
        ends: vec![(end.partition, end.position)],
        finished: false,
    };
    world.bookkeeping.put_replay(&replay).await.unwrap();
    assert_eq!(keep(&mut keeper).await, json!("done"));
    assert!(world.bookkeeping.replays().await.unwrap()[0].finished);
    let entries = world.bus.accepted();
    let replayed: Vec<_> = entries[published..].iter().map(id_of).collect();
    assert_eq!(replayed.len(), published, "{replayed:?}");
    let detail: serde_json::Value = serde_json::from_str(entries[published]["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail["replayid"], "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_is_killed_is_followed_by_another_and_nothing_is_lost() {
    let (world, stream) = (World::new().await, carts(1, 4, 40));
    world.bus.rule("PutEvents", turning_away("MalformedDetail", |id| id == "cart/1@1.2.0"));
    Mapping::default().run(&world, &stream).await;
    world.bus.rule("PutEvents", |_| Fault::Pass);
    world.bookkeeping.redrive(&route(), &Selector::default(), System.wall()).await.unwrap();
    let held = world.bus.hold("PutEvents");
    let mut keeper = world.keeper().await;
    let killer = keeper.killer();
    let (outcome, ()) = tokio::join!(keeper.invoke("{}".to_owned(), TIME), async {
        held.arrived().await;
        killer.kill().await;
    });
    assert_eq!(outcome, Outcome::Died);
    held.release();
    let mut another = world.keeper().await;
    keep_all(&world, &mut another).await;
    world.assert_exact(&stream);
}

/// A forwarder parks behind an event while the keeper releases its key.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_release_and_park_one_key_at_once_strand_and_reorder_nothing() {
    let (world, stream) = (World::new().await, carts(1, 1, 24));
    let (mut forwarder, mut keeper) = (World::forwarder(&world.environment()).await, world.keeper().await);
    for (round, records) in stream.shards[0].chunks(4).enumerate() {
        let (failing, later) = records.split_at(2);
        let front = format!("cart/0@1.{}.0", 4 * round + 1);
        world.bus.rule("PutEvents", turning_away("MalformedDetail", move |id| id == front));
        let kept = invoke(&mut forwarder, failing).await;
        assert_eq!((kept.failed_from(failing), world.kept().await.dead), (None, 1), "{kept:?}");
        world.bus.rule("PutEvents", |_| Fault::Pass);
        world.bookkeeping.redrive(&route(), &Selector::default(), System.wall()).await.unwrap();
        let (_, parked) = tokio::join!(keep(&mut keeper), invoke(&mut forwarder, later));
        assert_eq!(parked.failed_from(later), None, "{parked:?}");
        keep_all(&world, &mut keeper).await;
    }
    assert_eq!(world.assert_exact(&stream), 0);
}

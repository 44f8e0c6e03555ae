//! How far the route is: forwarders note it, the keeper compares it with the stream, and what may be lost is an alarm until it
//! was published from the table.

use jiff::{SignedDuration, Timestamp};
use outbox::{
    Bookkeeping as _, Clock as _, Filter, Operator as _, PartitionId, Position, Source as _, System,
    bookkeeping::{Checkpoint, Lease, Replay},
};
use outbox_aws::{
    dynamodb::{DynamoStore, Loss, Seen, SourceOptions, StoreOptions, StreamsSource, TableSource, Tables, Watermark},
    testing::proxy::{Fault, Proxy},
};
use serde_json::json;

use crate::{
    forwarding::{carts, put},
    keeping::keep,
    mapping::{Mapping, invoke},
    runtime::{Outcome, Sandbox},
    world::{World, route, turning_away},
};

fn hours(hours: i64) -> Timestamp {
    System.wall() - SignedDuration::from_hours(hours)
}

async fn watermark(world: &World) -> Watermark {
    world.bookkeeping.watermark(&route()).await.unwrap()
}

pub(crate) async fn lease(world: &World) -> Lease {
    let name = format!("forwarder/{}", route());
    let epoch = world.bookkeeping.lease(&name).await.unwrap().epoch;
    Lease { name, epoch }
}

/// The replay that the command asks for.
fn recovery(loss: &Loss) -> Replay {
    let end = TableSource::published_elsewhere();
    Replay {
        id: "recovery".to_owned(),
        route: route(),
        filter: Filter::default(),
        event: None,
        since: Some(loss.since),
        until: None,
        ends: vec![(end.partition, end.position)],
        finished: false,
    }
}

fn dynamo(world: &World) -> &Proxy {
    world.dynamo.as_ref().expect("a proxy stands before an emulator: name one by OUTBOX_TEST_AWS")
}

/// A world whose keeper has looked before, when all until then had been handed in.
async fn looked(at: i64, until: i64) -> World {
    let world = World::new().await;
    keep(&mut world.keeper().await).await;
    let seen = watermark(&world).await.seen.expect("it looks at once");
    let seen = Seen { at: hours(at), until: hours(until), ..seen };
    world.bookkeeping.note_seen(&lease(&world).await, &route(), &seen).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_the_route_is_is_noted_once_a_minute() {
    let Some(_) = crate::server::emulator() else { return };
    let (world, stream) = (World::new().await, carts(1, 4, 40));
    let mut sandbox = World::forwarder(&world.environment()).await;
    for batch in stream.shards[0].chunks(10) {
        invoke(&mut sandbox, batch).await;
    }
    let mark = watermark(&world).await;
    let (handed_in, accepted) = (mark.handed_in().unwrap(), mark.accepted.unwrap());
    assert!(handed_in > hours(1) && accepted >= handed_in, "{mark:?}");
    let noted = dynamo(&world).calls("TransactWriteItems");
    let noted = noted.iter().filter(|call| call.body.to_string().contains("watermark")).count();
    assert_eq!(noted, 1);
    assert_eq!(mark.loss, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_stream_is_about_to_forget_are_an_alarm_though_nothing_of_them_gets_through() {
    let (world, mut stream) = (World::new().await, carts(1, 2, 6));
    stream.age(21 * 3600);
    world.bus.rule("PutEvents", |_| Fault::error("ServiceUnavailable"));
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    let outcome = sandbox.invoke(crate::mapping::payload(records), std::time::Duration::from_secs(4)).await;
    assert_eq!(outcome.failed_from(records), Some(0), "{outcome:?}");
    let loss = watermark(&world).await.loss.expect("an alarm");
    assert!(loss.since < hours(21) && loss.since > hours(23), "with slack: {loss:?}");
    assert!(loss.reason.contains("21 hours"), "{loss:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_holds_and_nobody_was_handed_for_twenty_hours_is_an_alarm() {
    let Some(_) = crate::server::emulator() else { return };
    let world = looked(2, 22).await;
    let held = |age| {
        let created = hours(age).as_second();
        let record = json!({ "eventName": "INSERT", "dynamodb": { "ApproximateCreationDateTime": created, "SequenceNumber": "7" } });
        let expired =
            json!({ "eventName": "REMOVE", "dynamodb": { "ApproximateCreationDateTime": hours(21).as_second() } });
        Fault::Answer(200, json!({ "Records": [expired, record], "NextShardIterator": "next" }).to_string())
    };
    dynamo(&world).rule("GetRecords", move |_| held(5));
    keep(&mut world.keeper().await).await;
    let mark = watermark(&world).await;
    assert_eq!(mark.loss, None, "it may come yet");
    let waiting = mark.waiting().expect("it shows at once");
    assert!(waiting > hours(6) && waiting < hours(4), "{mark:?}");
    let seen = mark.seen.unwrap();
    assert!(seen.at > hours(1) && seen.until < hours(21), "and is looked at again: {seen:?}");
    let again = Seen { at: hours(2), ..seen };
    world.bookkeeping.note_seen(&lease(&world).await, &route(), &again).await.unwrap();
    dynamo(&world).rule("GetRecords", move |_| held(21));
    keep(&mut world.keeper().await).await;
    let loss = watermark(&world).await.loss.expect("an alarm");
    assert!(loss.since < hours(22) && loss.reason.contains("20 hours"), "{loss:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_in_the_stream_shows_until_it_is_handed_in_or_gone() {
    let world = looked(2, 22).await;
    let waits = Seen { waiting: Some(hours(1)), ..watermark(&world).await.seen.unwrap() };
    let waiting = async || {
        world.bookkeeping.note_seen(&lease(&world).await, &route(), &waits).await.unwrap();
        assert_eq!(watermark(&world).await.waiting(), waits.waiting);
    };
    waiting().await;
    keep(&mut world.keeper().await).await;
    assert_eq!(watermark(&world).await.waiting(), None, "the stream does not hold it");
    waiting().await;
    Mapping::default().run(&world, &carts(1, 1, 1)).await;
    assert_eq!(watermark(&world).await.waiting(), None, "it was handed in");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_is_no_alarm() {
    let Some(_) = crate::server::emulator() else { return };
    let world = looked(2, 22).await;
    keep(&mut world.keeper().await).await;
    let mark = watermark(&world).await;
    assert_eq!(mark.loss, None);
    assert!(mark.seen.unwrap().until > hours(1), "nothing was handed in, and nothing was there");
    let requests = dynamo(&world).calls("GetRecords").len();
    keep(&mut world.keeper().await).await;
    assert_eq!(
        dynamo(&world).calls("GetRecords").len(),
        requests,
        "it is looked at once an hour, also by another process"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_looked_at_for_longer_than_it_remembers_is_an_alarm() {
    let world = looked(30, 30).await;
    keep(&mut world.keeper().await).await;
    let loss = watermark(&world).await.loss.expect("an alarm");
    assert!(loss.since < hours(30) && loss.since > hours(32), "{loss:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_the_place_of_another_is_an_alarm_of_all_since_the_last_look() {
    let world = looked(2, 2).await;
    // What functions were handed in the meantime is of the new one.
    Mapping::default().run(&world, &carts(1, 1, 1)).await;
    let seen = watermark(&world).await.seen.unwrap();
    let other = Seen { stream: "2015-05-11T21:21:33.291".to_owned(), ..seen };
    world.bookkeeping.note_seen(&lease(&world).await, &route(), &other).await.unwrap();
    keep(&mut world.keeper().await).await;
    let loss = watermark(&world).await.loss.expect("an alarm");
    assert!(loss.reason.contains("another one enabled"), "{loss:?}");
    assert!(loss.since < hours(2) && loss.since > hours(4), "{loss:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_off_shows_at_once_and_is_not_taken_for_one_in_which_nothing_happens() {
    let Some(_) = crate::server::emulator() else { return };
    let world = looked(2, 3).await;
    let off =
        json!({ "StreamDescription": { "StreamStatus": "DISABLED", "StreamViewType": "NEW_IMAGE", "Shards": [] } });
    dynamo(&world).rule("DescribeStream", move |_| Fault::Answer(200, off.to_string()));
    keep(&mut world.keeper().await).await;
    let mark = watermark(&world).await;
    assert!(mark.waiting().is_some_and(|since| since > hours(1)), "{mark:?}");
    let seen = mark.seen.unwrap();
    assert!(seen.at > hours(1) && seen.until < hours(2), "what is written now is in no stream: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_inserted_within_the_minute_behind_a_look_is_found_by_the_next() {
    let Some(_) = crate::server::emulator() else { return };
    let world = looked(2, 5).await;
    let created = watermark(&world).await.seen.unwrap().until + SignedDuration::from_secs(30);
    let record = json!({ "eventName": "INSERT", "dynamodb": { "ApproximateCreationDateTime": created.as_second(), "SequenceNumber": "7" } });
    let page = json!({ "Records": [record], "NextShardIterator": "next" }).to_string();
    dynamo(&world).rule("GetRecords", move |_| Fault::Answer(200, page.clone()));
    keep(&mut world.keeper().await).await;
    let waiting = watermark(&world).await.waiting().map(Timestamp::as_second);
    assert_eq!(waiting, Some(created.as_second()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_read_stops_no_keeper() {
    let Some(_) = crate::server::emulator() else { return };
    let world = looked(2, 22).await;
    dynamo(&world).rule("GetRecords", |_| Fault::error("AccessDeniedException"));
    assert_eq!(keep(&mut world.keeper().await).await, json!("idle"));
    assert_eq!(watermark(&world).await.loss, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_read_in_time_is_left_for_an_hour() {
    let Some(_) = crate::server::emulator() else { return };
    let world = looked(2, 22).await;
    let before = watermark(&world).await.seen.unwrap();
    dynamo(&world).rule("GetRecords", |_| Fault::Slow(std::time::Duration::from_secs(30)));
    let outcome = world.keeper().await.invoke("{}".to_owned(), std::time::Duration::from_secs(8)).await;
    assert_eq!(outcome, Outcome::Answered(json!("idle")));
    let mark = watermark(&world).await;
    let seen = mark.seen.unwrap();
    assert!(seen.at > hours(1) && seen.until == before.until, "{seen:?}");
    assert_eq!(mark.loss, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_is_published_from_the_table_and_the_alarm_ends() {
    let (world, stream) = (World::new().await, carts(1, 3, 9));
    for record in &stream.shards[0] {
        put(&world, &record["dynamodb"]["NewImage"]).await;
    }
    // The first entries of each cart were forgotten.
    Mapping::default().shard(&world.environment(), &stream.shards[0][3..]).await;
    assert!(!crate::world::missing(&stream, &world.arrived()).is_empty());
    let loss = Loss { since: hours(2), found: System.wall(), reason: "a test".to_owned(), replay: None };
    world.bookkeeping.note_loss(&lease(&world).await, &route(), &loss, System.wall()).await.unwrap();
    let mut keeper = world.keeper().await;
    keep(&mut keeper).await;
    assert_eq!(watermark(&world).await.loss, Some(loss.clone()), "it stays");
    let replay = recovery(&loss);
    world.bookkeeping.put_replay(&replay).await.unwrap();
    world.bookkeeping.note_recovering(&route(), &loss, &replay.id).await.unwrap();
    assert_eq!(keep(&mut keeper).await, json!("done"));
    assert_eq!(crate::world::missing(&stream, &world.arrived()), Vec::<String>::new());
    keep(&mut keeper).await;
    assert_eq!(watermark(&world).await.loss, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_recovery_cannot_publish_is_measured_though_its_alarm_has_ended() {
    let (world, stream) = (World::new().await, carts(1, 1, 3));
    for record in &stream.shards[0] {
        put(&world, &record["dynamodb"]["NewImage"]).await;
    }
    keep(&mut world.keeper().await).await;
    world.bus.rule("PutEvents", turning_away("MalformedDetail", |id| id == "cart/0@1.1.0"));
    let loss = Loss { since: hours(2), found: System.wall(), reason: "a test".to_owned(), replay: None };
    world.bookkeeping.note_loss(&lease(&world).await, &route(), &loss, System.wall()).await.unwrap();
    let replay = recovery(&loss);
    world.bookkeeping.put_replay(&replay).await.unwrap();
    world.bookkeeping.note_recovering(&route(), &loss, &replay.id).await.unwrap();
    let mut keeper = world.keeper().await;
    keep(&mut keeper).await;
    keep(&mut keeper).await;
    assert_eq!(watermark(&world).await.loss, None);
    let printed = keeper.printed();
    assert_eq!(
        (&printed["outbox_dead_letters"], &printed["outbox_parked_events"]),
        (&json!(1), &json!(5)),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_is_cancelled_leaves_the_alarm() {
    let world = looked(0, 0).await;
    let loss = Loss { since: hours(2), found: System.wall(), reason: "a test".to_owned(), replay: None };
    world.bookkeeping.note_loss(&lease(&world).await, &route(), &loss, System.wall()).await.unwrap();
    let replay = Replay { finished: true, ..recovery(&loss) };
    world.bookkeeping.put_replay(&replay).await.unwrap();
    world.bookkeeping.note_recovering(&route(), &loss, &replay.id).await.unwrap();
    keep(&mut world.keeper().await).await;
    assert_eq!(watermark(&world).await.loss, Some(loss));
}

/// A checkpoint that a relay left in the only shard, from when on it had read nothing.
async fn left_by_a_relay(world: &World, since: Timestamp) -> Checkpoint {
    let (tables, client) = (Tables::with_prefix(&world.prefix), world.client());
    let store = DynamoStore::open(client, &tables, StoreOptions::default()).await.unwrap();
    let source = StreamsSource::open(&store, &crate::clients::streams().await, SourceOptions::default()).await.unwrap();
    let partition = source.partitions().await.unwrap().remove(0).id;
    Checkpoint { partition, position: Position::new(format!("@s5/{}", since.as_second())), finished: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_take_the_place_of_a_relay_forget_where_it_stood_so_that_another_one_begins_anew() {
    let world = World::new().await;
    let since = System.wall() - SignedDuration::from_mins(30);
    world.bookkeeping.reset_checkpoint(&route(), &left_by_a_relay(&world, since).await).await.unwrap();
    keep(&mut world.keeper().await).await;
    let mark = watermark(&world).await;
    assert_eq!(mark.loss, None, "the stream holds what came since");
    assert_eq!(mark.seen.unwrap().until.as_second(), since.as_second(), "and whether it is handed in shows");
    let known = world.bookkeeping.checkpoints(&route()).await.unwrap();
    assert_eq!(known, [TableSource::published_elsewhere()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_still_runs_keeps_its_checkpoints_and_the_keeper_fails() {
    let world = World::new().await;
    let prefix = &world.prefix;
    let file = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{prefix}.toml"));
    let text = format!(
        "[store]\ndynamodb = '{prefix}'\n[relay]\nfailover = '1s'\nbookkeeping = 'dynamodb:{prefix}-bookkeeping'\n\
         [[route]]\nname = 'bus'\neventbridge = 'carts'\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut environment = world.environment();
    environment.push(("OUTBOX_CONFIG".to_owned(), file.to_str().unwrap().to_owned()));
    let mut keeper = Sandbox::start(env!("CARGO_BIN_EXE_outbox-keeper"), &environment).await;
    let left = left_by_a_relay(&world, hours(1)).await;
    world.bookkeeping.reset_checkpoint(&route(), &left).await.unwrap();
    let view = world.bookkeeping.lease("relay").await.unwrap();
    let second = std::time::Duration::from_secs(1);
    let lease = world.bookkeeping.take("relay", &view, "a relay", second).await.unwrap().unwrap();
    let renewing = async {
        loop {
            world.bookkeeping.renew(&lease).await.unwrap();
            tokio::time::sleep(second / 5).await;
        }
    };
    tokio::select! {
        () = renewing => {}
        outcome = keeper.invoke("{}".to_owned(), 20 * second) => {
            let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
            assert!(error.to_string().contains("no relay may run beside"), "{error}");
        }
    }
    assert_eq!(watermark(&world).await.seen, None, "what the relay publishes is handed to nobody, and no alarm");
    assert_eq!(world.bookkeeping.checkpoints(&route()).await.unwrap(), [left]);
    // It died: its lease stands still.
    keep(&mut keeper).await;
    assert_eq!(world.bookkeeping.checkpoints(&route()).await.unwrap(), [TableSource::published_elsewhere()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_without_the_time_to_see_that_a_relay_is_gone_says_so_at_once() {
    let world = World::new().await;
    let left = left_by_a_relay(&world, hours(1)).await;
    world.bookkeeping.reset_checkpoint(&route(), &left).await.unwrap();
    let view = world.bookkeeping.lease("relay").await.unwrap();
    let (minute, time) = (std::time::Duration::from_mins(1), std::time::Duration::from_secs(20));
    world.bookkeeping.take("relay", &view, "a relay", minute).await.unwrap().unwrap();
    let outcome = world.keeper().await.invoke("{}".to_owned(), time).await;
    let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("give the keeper a timeout"), "{error}");
    assert_eq!(world.bookkeeping.checkpoints(&route()).await.unwrap(), [left]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stood_behind_the_stream_s_memory_when_functions_took_its_place_is_an_alarm() {
    let world = World::new().await;
    let left = left_by_a_relay(&world, hours(30)).await;
    world.bookkeeping.reset_checkpoint(&route(), &left).await.unwrap();
    // The functions are up to date already, with what they are handed.
    Mapping::default().run(&world, &carts(1, 1, 1)).await;
    keep(&mut world.keeper().await).await;
    let loss = watermark(&world).await.loss.expect("an alarm");
    assert!(loss.since < hours(30) && loss.since > hours(32), "{loss:?}");
    assert!(loss.reason.contains("when functions took its place"), "{loss:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_in_the_middle_of_a_recovery_when_functions_took_its_place_is_an_alarm() {
    let world = World::new().await;
    let label = left_by_a_relay(&world, hours(1)).await.partition.as_str().split('/').next().unwrap().to_owned();
    let (began, started) = (hours(50).as_millisecond(), hours(1).as_millisecond());
    let partition = PartitionId::recovery(format_args!("{started}/00ff/{label}"));
    let recovery = Checkpoint { partition, position: Position::new(format!("@t{began}/7")), finished: false };
    world.bookkeeping.reset_checkpoint(&route(), &recovery).await.unwrap();
    keep(&mut world.keeper().await).await;
    let loss = watermark(&world).await.loss.expect("an alarm");
    assert!(loss.since < hours(50) && loss.since > hours(52), "{loss:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_begins_with_what_is_older_than_the_stream_s_memory_is_an_alarm() {
    let Some(_) = crate::server::emulator() else { return };
    for written in [false, true] {
        let (world, stream) = (World::new().await, carts(1, 1, 1));
        if written {
            put(&world, &stream.shards[0][0]["dynamodb"]["NewImage"]).await;
        }
        let name = format!("{}-entries", world.prefix);
        let table = world.client().describe_table().table_name(&name).send().await.unwrap().table.unwrap();
        let described = json!({ "Table": {
            "TableName": name, "CreationDateTime": 1_400_000_000, "LatestStreamArn": table.latest_stream_arn,
            "LatestStreamLabel": "2015-05-11T21:21:33.291",
            "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_IMAGE" },
        } });
        dynamo(&world).rule("DescribeTable", move |_| Fault::Answer(200, described.to_string()));
        keep(&mut world.keeper().await).await;
        let loss = watermark(&world).await.loss;
        assert_eq!(loss.is_some(), written, "{loss:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_is_found_while_another_is_made_good_takes_nothing_back_of_that() {
    let world = looked(0, 0).await;
    let loss = |since| Loss { since: hours(since), found: System.wall(), reason: "a test".to_owned(), replay: None };
    let note = async |loss: &Loss| {
        world.bookkeeping.note_loss(&lease(&world).await, &route(), loss, System.wall()).await.unwrap();
        watermark(&world).await.loss.unwrap()
    };
    let first = note(&loss(30)).await;
    world.bookkeeping.note_recovering(&route(), &first, "recovery").await.unwrap();
    let both = note(&loss(2)).await;
    assert_eq!((both.since, both.found), (first.since, first.found));
    assert_eq!(both.replay, None, "what is under way may not have it");
    assert_eq!(note(&loss(1)).await.since, first.since);
}

/// Forwarders say again once a minute that they are handed what the stream is about to forget.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_the_table_when_a_recovery_was_asked_for_is_made_good_by_it() {
    let world = looked(0, 0).await;
    let note = async |since, until| {
        let loss = Loss { since: hours(since), found: System.wall(), reason: "a test".to_owned(), replay: None };
        world.bookkeeping.note_loss(&lease(&world).await, &route(), &loss, hours(until)).await.unwrap();
        watermark(&world).await.loss.unwrap()
    };
    let first = note(23, 20).await;
    world.bookkeeping.note_recovering(&route(), &first, "recovery").await.unwrap();
    assert_eq!(note(22, 20).await.replay.as_deref(), Some("recovery"));
    assert_eq!(note(30, 20).await.replay, None, "it begins later");
}

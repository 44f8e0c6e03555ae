//! Functions of Lambda that publish in place of a relay: what the command makes of that.

use std::time::Duration;

use jiff::SignedDuration;
use outbox::{
    Bookkeeping as _, BusinessStore as _, Clock as _, Filter, Operator as _, RouteName, Start, System,
    bookkeeping::Lease, store::Registration,
};
use outbox_aws::dynamodb::{BookkeepingOptions, DynamoBookkeeping, DynamoStore, HandedIn, Loss, Seen, StoreOptions};
use serde_json::{Value, json};

use super::Service;
use crate::aws;

/// A service whose route a function publishes.
async fn forwarded() -> Service {
    let service = Service::initialised().await;
    let text = service.place.read("outbox.toml");
    let lambda = format!("[lambda]\nforwarders = {{ ledger = '{}' }}\n[[route]]", service.prefix);
    service.place.write("outbox.toml", &text.replace("[[route]]", &lambda));
    service
}

async fn post(path: &str, body: &Value) -> Value {
    let endpoint = aws::emulator().unwrap();
    let signed =
        "AWS4-HMAC-SHA256 Credential=test/20261121/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0";
    let request = reqwest::Client::new().post(format!("{endpoint}/2015-03-31/{path}")).header("authorization", signed);
    request.json(body).send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

/// What is wrapped for a terminal.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Makes the function, and a mapping of the entries' stream with these settings.
async fn map(service: &Service, settings: &Value) {
    let name = &service.prefix;
    let code = json!({ "ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==" });
    let role = "arn:aws:iam::000000000000:role/forwarder";
    let function = json!({
        "FunctionName": name, "Runtime": "provided.al2023", "Role": role, "Handler": "bootstrap", "Code": code,
    });
    post("functions", &function).await;
    let table = service.client.describe_table().table_name(service.tables().entries()).send().await.unwrap();
    let mut mapping = json!({ "FunctionName": name, "EventSourceArn": table.table.unwrap().latest_stream_arn });
    for (setting, value) in settings.as_object().unwrap() {
        mapping[setting] = value.clone();
    }
    post("event-source-mappings/", &mapping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_loses_or_reorders_is_refused_by_check_with_the_remedy() {
    let Some(_) = aws::emulator() else { return };
    let service = forwarded().await;
    let none = service.run(&["check"]);
    assert_eq!(none.code, 1);
    assert!(one_line(&none.out).contains("has 0 mappings of the stream"), "{}", none.out);
    map(&service, &json!({ "StartingPosition": "LATEST", "ParallelizationFactor": 2 })).await;
    let ran = service.run(&["check"]);
    assert_eq!(ran.code, 1);
    for said in ["StartingPosition: is LATEST", "ParallelizationFactor: is 2", "FunctionResponseTypes", "set it to 1"] {
        assert!(one_line(&ran.out).contains(said), "{said}: {}", ran.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_as_it_has_to_be_passes_and_no_relay_runs_beside_it() {
    let Some(_) = aws::emulator() else { return };
    let service = forwarded().await;
    let settings = json!({ "StartingPosition": "TRIM_HORIZON", "FunctionResponseTypes": ["ReportBatchItemFailures"] });
    map(&service, &settings).await;
    let ran = service.run(&["check"]);
    let text = one_line(&ran.out);
    assert!(text.contains("its mapping loses and reorders nothing"), "{text}");
    let relay = service.run(&["relay"]);
    assert_eq!(relay.code, 2);
    assert!(one_line(&relay.err).contains("no relay runs beside functions"), "{}", relay.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_functions_status_and_check_tell_of_a_keeper_and_init_asks_for_no_relay() {
    let service = forwarded().await;
    let status = one_line(&service.run(&["status"]).out);
    assert!(status.contains("keeper none has run yet: its timer calls it once a minute"), "{status}");
    let check = one_line(&service.run(&["check"]).out);
    assert!(check.contains("ok keeper none has run yet"), "{check}");
    let init = service.run(&["init"]);
    assert_eq!(init.code, 0, "{}", init.err);
    assert!(init.out.contains("outbox check") && !init.out.contains("outbox relay"), "{}", init.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_counts_nothing_that_a_function_is_handed_and_tells_that_it_begins_with_all_of_it() {
    let service = forwarded().await;
    published_by_a_function(&service).await;
    service.write(3).await;
    let checked = one_line(&service.run(&["check"]).out);
    assert!(checked.contains(&format!("published by function {}", service.prefix)), "{checked}");
    assert!(!checked.contains("would begin") && !checked.contains("leaves out nothing"), "{checked}");
    let text = service.place.read("outbox.toml").replace("[[route]]", "[[route]]\nstart = 'now'");
    service.place.write("outbox.toml", &text);
    let checked = one_line(&service.run(&["check"]).out);
    assert!(checked.contains("leaves out nothing of the stream"), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_has_less_time_than_its_sink_is_told_by_check() {
    let Some(_) = aws::emulator() else { return };
    let service = forwarded().await;
    let text = service.place.read("outbox.toml");
    let route = text.find("[[route]]").unwrap();
    let webhook = "[[route]]\nname = 'ledger'\nwebhook = { url = 'http://127.0.0.1:9', timeout = '30s' }\n";
    service.place.write("outbox.toml", &format!("{}{webhook}", &text[..route]));
    let settings = json!({ "StartingPosition": "TRIM_HORIZON", "FunctionResponseTypes": ["ReportBatchItemFailures"] });
    map(&service, &settings).await;
    let ran = service.run(&["check"]);
    let text = one_line(&ran.out);
    assert!(text.contains("the function's timeout is 3s, and the sink's 30s"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_is_off_is_refused_by_check() {
    let Some(_) = aws::emulator() else { return };
    let service = forwarded().await;
    let settings = json!({
        "StartingPosition": "TRIM_HORIZON", "FunctionResponseTypes": ["ReportBatchItemFailures"], "Enabled": false,
    });
    map(&service, &settings).await;
    let ran = service.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(one_line(&ran.out).contains("nothing is published"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_functions_replace_before_it_caught_up_is_told_by_check() {
    let service = forwarded().await;
    let (bookkeeping, _, route) = published_by_a_function(&service).await;
    let partition = outbox::PartitionId::new("2015-05-11T21:21:33.291/shardId-1");
    let since = System.wall() - SignedDuration::from_hours(30);
    let position = outbox::Position::new(format!("@s7/{}", since.as_second()));
    let left = outbox::bookkeeping::Checkpoint { partition, position, finished: false };
    bookkeeping.reset_checkpoint(&route, &left).await.unwrap();
    let ran = service.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    let text = one_line(&ran.out);
    assert!(text.contains("the stream does not hold all that came since"), "{text}");
    assert!(text.contains("outbox recover --route ledger --yes"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recovered_of_a_part_of_what_is_missing_leaves_the_alarm() {
    let service = forwarded().await;
    let (bookkeeping, lease, route) = published_by_a_function(&service).await;
    service.write(3).await;
    let since = System.wall() - SignedDuration::from_hours(2);
    let loss = Loss { since, found: System.wall(), reason: "a test".to_owned(), replay: None };
    bookkeeping.note_loss(&lease, &route, &loss, System.wall()).await.unwrap();
    service.json(&["recover", "--route", "ledger", "--since", "1h", "--yes", "--no-wait"]);
    assert_eq!(bookkeeping.replays().await.unwrap().len(), 1);
    assert_eq!(bookkeeping.watermark(&route).await.unwrap().loss, Some(loss), "what is older is missing still");
    let all = service.json(&["recover", "--route", "ledger", "--since", "3h", "--yes", "--no-wait"]);
    let loss = bookkeeping.watermark(&route).await.unwrap().loss.unwrap();
    assert_eq!(loss.replay.as_deref(), all["routes"][0]["replay"].as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_s_rights_are_less_than_a_relay_s() {
    let service = forwarded().await;
    let forwarder = service.json(&["iam", "forwarder", "--account", "111122223333", "--region", "eu-west-1"]);
    let text = forwarder.to_string();
    assert!(text.contains("dynamodb:GetRecords") && !text.contains("dynamodb:Scan"), "{text}");
    let keeper = service.json(&["iam", "keeper", "--account", "111122223333", "--region", "eu-west-1"]).to_string();
    assert!(keeper.contains("dynamodb:Scan") && !keeper.contains("dynamodb:ListStreams"), "{keeper}");
}

/// The service's route as a forwarder leaves it: registered, and with its lease.
async fn published_by_a_function(service: &Service) -> (DynamoBookkeeping, Lease, RouteName) {
    let route = RouteName::new("ledger").unwrap();
    let store = DynamoStore::open(&service.client, &service.tables(), StoreOptions::default()).await.unwrap();
    let registration = Registration {
        route: route.clone(),
        filter: Filter::default(),
        start: Start::Beginning,
        start_position: None,
        max_event_bytes: 1 << 20,
        gapless: true,
        registered: System.wall(),
    };
    store.register(registration).await.unwrap();
    let table = format!("{}-relay-bookkeeping", service.prefix);
    let options = BookkeepingOptions::default();
    let bookkeeping = DynamoBookkeeping::open(&service.client, &table, options).await.unwrap();
    let view = bookkeeping.lease("forwarder/ledger").await.unwrap();
    let lease = bookkeeping.take("forwarder/ledger", &view, "a test", Duration::ZERO).await.unwrap().unwrap();
    (bookkeeping, lease, route)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_may_have_forgotten_is_told_and_recovered_or_dismissed() {
    let service = forwarded().await;
    let (bookkeeping, lease, route) = published_by_a_function(&service).await;
    service.write(3).await;
    let nothing = service.run(&["recover", "--route", "ledger"]);
    assert_eq!(nothing.code, 3, "{}", nothing.err);
    assert!(one_line(&nothing.err).contains("nothing is known to be missing"), "{}", nothing.err);

    let since = System.wall() - SignedDuration::from_hours(2);
    let loss = Loss { since, found: System.wall(), reason: "a test".to_owned(), replay: None };
    bookkeeping.note_loss(&lease, &route, &loss, System.wall()).await.unwrap();
    let status = service.run(&["status"]);
    assert_eq!(status.code, 1, "somebody is needed: {}", status.out);
    assert!(one_line(&status.out).contains("outbox recover --route ledger"), "{}", status.out);

    let shown = service.json(&["recover", "--route", "ledger"]);
    assert_eq!((&shown["dry_run"], &shown["routes"][0]["events"]), (&json!(true), &json!(3)));
    assert!(bookkeeping.replays().await.unwrap().is_empty(), "nothing was asked for");
    let asked = service.json(&["recover", "--route", "ledger", "--yes", "--no-wait"]);
    let replays = bookkeeping.replays().await.unwrap();
    assert_eq!((replays.len(), replays[0].since), (1, Some(since)));
    assert_eq!(asked["routes"][0]["replay"], replays[0].id);
    let again = service.json(&["recover", "--route", "ledger", "--yes", "--no-wait"]);
    assert_eq!(again["replay"], replays[0].id);
    assert_eq!(bookkeeping.replays().await.unwrap().len(), 1, "it is under way, and not asked for twice");
    assert_eq!(service.json(&["status"])["routes"][0]["lost"]["replay"], replays[0].id);

    let dismissed = service.run(&["recover", "--route", "ledger", "--dismiss"]);
    assert_eq!(dismissed.code, 0, "{}", dismissed.err);
    assert_eq!(bookkeeping.watermark(&route).await.unwrap().loss, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_function_is_is_told_and_no_backlog_that_nobody_can_count() {
    let service = forwarded().await;
    let (bookkeeping, lease, route) = published_by_a_function(&service).await;
    service.write(3).await;
    let status = service.json(&["status"]);
    let function = &status["routes"][0]["function"];
    assert_eq!((&function["name"], &function["handed_in_until"]), (&json!(service.prefix), &Value::Null));
    let until = System.wall() - SignedDuration::from_mins(5);
    bookkeeping.note_handed_in(&lease, &route, HandedIn::Current(until), None).await.unwrap();
    let status = service.json(&["status"])["routes"][0].clone();
    assert_eq!(status["function"]["handed_in_until"], json!(until));
    assert_eq!((&status["backlog"], &status["backlog_exact"]), (&json!(0), &json!(false)), "{status:#}");
    let shown = service.run(&["status"]);
    assert!(one_line(&shown.out).contains("what came since may be on its way"), "{}", shown.out);
    let waiting = Some(until + SignedDuration::from_mins(2));
    let seen = Seen { at: System.wall(), until, stream: "any".to_owned(), waiting };
    bookkeeping.note_seen(&lease, &route, &seen).await.unwrap();
    assert_eq!(service.json(&["status"])["routes"][0]["function"]["waiting_since"], json!(waiting));
    let shown = service.run(&["status"]);
    assert!(one_line(&shown.out).contains("is not handed, since"), "{}", shown.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_recovers_by_itself_and_the_command_says_so() {
    let service = Service::initialised().await;
    let ran = service.run(&["recover", "--route", "ledger"]);
    assert_eq!(ran.code, 2);
    assert!(one_line(&ran.err).contains("a relay recovers by itself"), "{}", ran.err);
}

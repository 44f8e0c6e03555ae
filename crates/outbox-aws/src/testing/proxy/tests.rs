use std::time::Duration;

use super::*;
use crate::testing::http::{Connection, Message, Sent};

/// A `PutEvents` of these details.
fn put(details: &[&str]) -> Message {
    let entries: Vec<_> = details.iter().map(|detail| serde_json::json!({ "Detail": detail })).collect();
    signed("events", "AWSEvents.PutEvents", &serde_json::json!({ "Entries": entries }))
}

fn signed(service: &str, target: &str, body: &Value) -> Message {
    let credential = format!("AWS4-HMAC-SHA256 Credential=ID/20260101/eu-west-1/{service}/aws4_request, Signature=0");
    let headers = [("authorization", credential.as_str()), ("x-amz-target", target)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Message { start: "POST / HTTP/1.1".to_owned(), headers, body: body.to_string().into() }
}

async fn connect(proxy: &Proxy) -> Connection {
    Connection::to(&proxy.address.to_string()).await.unwrap()
}

/// Status and body of the answer; `None` if the connection ended.
async fn ask(connection: &mut Connection, request: &Message) -> Option<(u16, Value)> {
    connection.send(request, Sent::Whole).await.ok()?;
    let answer = connection.receive(Sent::Whole).await.ok()??;
    Some((answer.status(), serde_json::from_slice(&answer.body).unwrap_or_default()))
}

fn accepted(proxy: &Proxy) -> Vec<String> {
    proxy.accepted().iter().map(|entry| entry["Detail"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn entries_that_are_turned_away_do_not_get_there_and_the_answer_names_them_by_position() {
    let service = Proxy::alone().await;
    let proxy = Proxy::before(service.url()).await;
    let mut connection = connect(&proxy).await;
    proxy.script("PutEvents", [Fault::entries([(1, "ThrottlingException")])]);
    let (status, answer) = ask(&mut connection, &put(&["a", "b", "c"])).await.unwrap();
    assert_eq!((status, &answer["FailedEntryCount"]), (200, &1.into()));
    let codes: Vec<_> = (0..3).map(|n| answer["Entries"][n]["ErrorCode"].as_str()).collect();
    assert_eq!(codes, [None, Some("ThrottlingException"), None]);
    assert_eq!((accepted(&service), accepted(&proxy)), (vec!["a".into(), "c".into()], vec!["a".into(), "c".into()]));
    proxy.script("PutEvents", [Fault::entries([(0, "InternalFailure")])]);
    let (_, answer) = ask(&mut connection, &put(&["b"])).await.unwrap();
    assert_eq!((&answer["FailedEntryCount"], service.calls("PutEvents").len()), (&1.into(), 1));
}

#[tokio::test]
async fn a_lost_call_has_no_effect_and_a_lost_answer_has() {
    let proxy = Proxy::alone().await;
    proxy.script("PutEvents", [Fault::LoseCall, Fault::LoseAnswer]);
    for (detail, effect) in [("a", vec![]), ("b", vec!["b".to_owned()])] {
        let mut connection = connect(&proxy).await;
        assert_eq!(ask(&mut connection, &put(&[detail])).await, None);
        assert_eq!(accepted(&proxy), effect);
    }
}

#[tokio::test]
async fn the_script_comes_before_the_rule_and_the_rule_before_chance() {
    let proxy = Proxy::alone().await;
    proxy.seeded(1, Odds { internal: 1000, ..Odds::default() });
    let mut connection = connect(&proxy).await;
    let mut status = async || ask(&mut connection, &put(&["a"])).await.unwrap().0;
    assert_eq!(status().await, 500);
    proxy
        .rule("PutEvents", |call| if call.service == "events" { Fault::Answer(299, "{}".into()) } else { Fault::Pass });
    proxy.script("PutEvents", [Fault::error("ServiceUnavailable")]);
    assert_eq!((status().await, status().await), (503, 299));
}

#[tokio::test]
async fn a_guard_looks_at_every_call_and_a_forgetful_proxy_keeps_none() {
    let proxy = Proxy::alone().await;
    proxy.forget();
    proxy.guard(|call| (call.service != "events").then(|| Fault::error("AccessDeniedException")));
    let mut connection = connect(&proxy).await;
    assert_eq!(ask(&mut connection, &put(&["a"])).await.unwrap().0, 200);
    let other = signed("dynamodb", "DynamoDB_20120810.GetItem", &Value::Null);
    assert_eq!(ask(&mut connection, &other).await.unwrap().1["__type"], "AccessDeniedException");
    assert!(proxy.all_calls().is_empty() && proxy.accepted().is_empty());
}

#[tokio::test]
async fn the_same_seed_draws_the_same() {
    let odds = Odds { throttled: 200, conflict: 200, lost_answer: 200, entry: 300, ..Odds::default() };
    let call = Call::of(&put(&["a", "b", "c"]));
    let drawn = |seed| {
        let mut chance = Chance::new(seed, odds);
        (0..100).map(|_| format!("{:?}", chance.decide(&call))).collect::<Vec<_>>()
    };
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
    for kind in ["Pass", "Refuse", "LoseAnswer", "Entries"] {
        assert!(drawn(7).iter().any(|fault| fault.starts_with(kind)), "{kind}: {:?}", drawn(7));
    }
}

#[tokio::test]
async fn a_service_that_is_down_takes_no_connection_until_it_is_up_again() {
    let proxy = Proxy::alone().await;
    let mut connection = connect(&proxy).await;
    assert!(ask(&mut connection, &put(&["a"])).await.is_some());
    proxy.down().await;
    assert_eq!(ask(&mut connection, &put(&["a"])).await, None);
    assert!(Connection::to(&proxy.address.to_string()).await.is_err());
    proxy.up().await;
    assert!(ask(&mut connect(&proxy).await, &put(&["a"])).await.is_some());
}

#[tokio::test]
async fn a_held_call_takes_effect_once_it_is_released() {
    let proxy = Proxy::alone().await;
    let held = proxy.hold("PutEvents");
    let mut connection = connect(&proxy).await;
    let asking = tokio::spawn(async move { ask(&mut connection, &put(&["a"])).await });
    held.arrived().await;
    assert_eq!(accepted(&proxy), Vec::<String>::new());
    held.release();
    assert_eq!(asking.await.unwrap().unwrap().0, 200);
    assert_eq!(accepted(&proxy), ["a"]);
}

#[tokio::test]
async fn a_slow_answer_and_a_held_one_come_after_the_effect() {
    let proxy = Proxy::alone().await;
    let held = Held::default();
    proxy.script("PutEvents", [Fault::HoldAnswer(held.clone()), Fault::Slow(Duration::from_millis(1))]);
    let mut connection = connect(&proxy).await;
    let asking = tokio::spawn(async move {
        ask(&mut connection, &put(&["a"])).await.unwrap();
        ask(&mut connection, &put(&["b"])).await.unwrap();
    });
    held.arrived().await;
    assert_eq!(accepted(&proxy), ["a"]);
    held.release();
    asking.await.unwrap();
    assert_eq!(accepted(&proxy), ["a", "b"]);
}

#[test]
fn operations_are_told_apart_in_every_protocol() {
    let plain =
        |start: &str, body: &'static str| Message { start: start.to_owned(), headers: Vec::new(), body: body.into() };
    let of = |message: &Message| Call::of(message).operation;
    assert_eq!(of(&signed("dynamodb", "DynamoDBStreams_20120810.GetRecords", &Value::Null)), "GetRecords");
    assert_eq!(of(&plain("POST / HTTP/1.1", "Action=AssumeRole&Version=1")), "AssumeRole");
    for (start, operation) in [
        ("PUT /bucket/a/b?x-id=PutObject HTTP/1.1", "PutObject"),
        ("HEAD /bucket HTTP/1.1", "HeadBucket"),
        ("HEAD /bucket/a HTTP/1.1", "HeadObject"),
        ("GET /bucket/a HTTP/1.1", "GetObject"),
    ] {
        assert_eq!(of(&plain(start, "")), operation);
    }
    let call = Call::of(&signed("dynamodb", "DynamoDB_20120810.GetItem", &serde_json::json!({ "TableName": "t" })));
    assert_eq!((call.service.as_str(), &call.body["TableName"]), ("dynamodb", &"t".into()));
}

//! What comes out at the other end of a bus: the entry as rules and targets see it.

use std::collections::BTreeMap;

use aws_sdk_eventbridge::types::Target;
use outbox::{NewEvent, Outcome, cloudevents::json};
use outbox_aws::{eventbridge::EventBridgeSettings, testing::proxy::Proxy};
use serde_json::{Value, json};

use crate::scene::{aws, emulator, event_of, eventually, make_bus, publish, sink_through, unused_name};

/// Asks the emulator's SQS, which needs no library for three calls.
async fn sqs(operation: &str, body: Value) -> Value {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let authority = emulator().unwrap().strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(authority).await.unwrap();
    let body = body.to_string();
    let credential =
        "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0";
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\nx-amz-target: AmazonSQS.{operation}\r\n\
         content-type: application/x-amz-json-1.0\r\nauthorization: {credential}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    serde_json::from_slice(&answer[start..]).unwrap()
}

/// A queue that a bus puts everything into: its URL.
async fn queue_behind(bus: &str) -> String {
    let url = sqs("CreateQueue", json!({ "QueueName": bus })).await["QueueUrl"].as_str().unwrap().to_owned();
    let asked = json!({ "QueueUrl": url, "AttributeNames": ["QueueArn"] });
    let arn = sqs("GetQueueAttributes", asked).await["Attributes"]["QueueArn"].as_str().unwrap().to_owned();
    let client = aws_sdk_eventbridge::Client::new(&aws(emulator().unwrap()).await);
    let pattern = json!({ "detail-type": [{ "prefix": "cart." }], "detail": { "data": { "units": [3] } } });
    let rule = client.put_rule().name(bus).event_bus_name(bus).event_pattern(pattern.to_string());
    rule.send().await.unwrap();
    let target = Target::builder().id("queue").arn(arn).build().unwrap();
    client.put_targets().rule(bus).event_bus_name(bus).targets(target).send().await.unwrap();
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_out_of_the_bus_as_the_cloud_event_it_is_and_rules_see_its_payload() {
    let Some(_) = emulator() else { return };
    let (bus, proxy) = (unused_name(), Proxy::before(emulator().unwrap()).await);
    make_bus(&bus).await;
    let queue = queue_behind(&bus).await;
    let sink = sink_through(&proxy, EventBridgeSettings::new(&bus)).await;
    let arn = "arn:aws:dynamodb:eu-west-1:111122223333:table/carts";
    let new = |units: u32, key: &str| {
        let builder = NewEvent::builder("cart.created").key(key).subject(arn).json(&json!({ "units": units }));
        event_of(builder.time("2026-05-01T12:34:56.789Z".parse().unwrap()).build().unwrap())
    };
    let (wanted, other) = (new(3, "cart/1"), new(4, "cart/2"));
    assert_eq!(publish(&*sink, [wanted.clone(), other]).await.unwrap(), [Outcome::Accepted, Outcome::Accepted]);
    let received = std::sync::Mutex::new(BTreeMap::new());
    eventually("the event comes out", async || {
        let answer = sqs("ReceiveMessage", json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10 })).await;
        for message in answer["Messages"].as_array().into_iter().flatten() {
            let id = message["MessageId"].to_string();
            received.lock().unwrap().insert(id, message["Body"].as_str().unwrap().to_owned());
        }
        !received.lock().unwrap().is_empty()
    })
    .await;
    let received = received.into_inner().unwrap();
    assert_eq!(received.len(), 1, "the rule takes one of the two, by its payload: {received:?}");
    let envelope: Value = serde_json::from_str(received.values().next().unwrap()).unwrap();
    assert_eq!((&envelope["source"], &envelope["detail-type"]), (&json!("/carts"), &json!("cart.created")));
    assert_eq!(envelope["resources"], json!([arn]));
    let came = json::decode(envelope["detail"].to_string().as_bytes()).unwrap();
    assert_eq!((came.id(), came.key(), came.placing()), (wanted.id(), wanted.key(), wanted.placing()));
    assert_eq!((came.time(), came.json::<Value>().unwrap()), (wanted.time(), json!({ "units": 3 })));
}

//! Payloads that an entry does not take.

use outbox::{Event, Fault as Whose, NewEvent, Outcome, Sink as _, event::extension};
use outbox_aws::{
    eventbridge::{ClaimCheckSettings, EventBridgeSettings},
    testing::proxy::{Fault, Proxy},
};

use crate::scene::{event, event_in, event_of, publish, service, sink_through};

fn large(key: &str) -> Event {
    event_of(NewEvent::builder("cart.changed").key(key).bytes("text/plain", vec![b'x'; 20_000]).build().unwrap())
}

fn settings() -> EventBridgeSettings {
    let bucket = ClaimCheckSettings { prefix: "events/".to_owned(), ..ClaimCheckSettings::new("carts-events") };
    EventBridgeSettings { max_entry_bytes: 4096, claim_check: Some(bucket), ..EventBridgeSettings::new("carts") }
}

/// A service whose bucket takes everything.
async fn with_bucket() -> Proxy {
    let service = service().await;
    service.rule("PutObject", |_| Fault::Answer(200, String::new()));
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_payload_is_put_before_its_event_which_says_where() {
    let service = with_bucket().await;
    let sink = sink_through(&service, settings()).await;
    let outcomes = publish(&*sink, [event("a"), large("b")]).await.unwrap();
    assert_eq!(outcomes, [Outcome::Accepted, Outcome::Accepted]);
    let operations: Vec<_> = service.all_calls().into_iter().map(|call| call.operation).collect();
    assert_eq!(operations, ["DescribeEventBus", "PutObject", "PutEvents"]);
    let put = service.calls("PutObject").remove(0);
    assert_eq!(put.bytes.len(), 20_000);
    let left = event_in(&service.accepted()[1]);
    let reference = left.extension_text(extension::DATA_REF).unwrap();
    let path = put.target.split('?').next().unwrap();
    assert_eq!(format!("s3:/{path}"), reference);
    assert!(path.starts_with("/carts-events/events/"), "{path}");
    assert_eq!((left.data(), left.content_type(), left.id()), (None, Some("text/plain"), "b@1.1.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_again_puts_the_same_object_again() {
    let service = with_bucket().await;
    let sink = sink_through(&service, settings()).await;
    service.script("PutEvents", [Fault::error("ThrottlingException")]);
    publish(&*sink, [large("b")]).await.unwrap_err();
    publish(&*sink, [large("b")]).await.unwrap();
    let targets: Vec<_> = service.calls("PutObject").into_iter().map(|call| call.target).collect();
    assert!(targets.len() == 2 && targets[0] == targets[1], "{targets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_put_whose_payload_could_not_be_left() {
    let service = with_bucket().await;
    let sink = sink_through(&service, settings()).await;
    for (fault, whose, word) in [
        (Fault::error("SlowDown"), Whose::Throttle, "carts-events"),
        (Fault::error("AccessDenied"), Whose::Sink, "grant this role"),
        (Fault::error("NoSuchBucket"), Whose::Sink, "mend its name"),
        (Fault::error("InternalError"), Whose::Unknown, "carts-events"),
        (Fault::LoseAnswer, Whose::Unknown, "carts-events"),
    ] {
        service.script("PutObject", [fault.clone()]);
        let error = publish(&*sink, [event("a"), large("b")]).await.unwrap_err();
        assert_eq!(error.fault, whose, "{fault:?}: {error}");
        assert!(error.message.contains(word), "{fault:?}: {error}");
    }
    assert_eq!(service.accepted().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_claim_check_a_large_event_is_refused_and_says_what_would_help() {
    let service = service().await;
    let sink = sink_through(&service, EventBridgeSettings { claim_check: None, ..settings() }).await;
    let limits = sink.limits();
    assert!(sink.size(&large("b")) > limits.max_event_bytes, "the relay makes it a dead letter without a call");
    let outcomes = publish(&*sink, [large("b"), event("a")]).await.unwrap();
    let refused =
        matches!(&outcomes[0], Outcome::Refused { permanent: true, reason } if reason.contains("claim check"));
    assert!(refused && outcomes[1] == Outcome::Accepted, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_fails_the_check_by_name() {
    let service = with_bucket().await;
    let sink = sink_through(&service, settings()).await;
    service.script("HeadBucket", [Fault::Answer(404, String::new()), Fault::error("AccessDenied")]);
    let error = sink.check().await.unwrap_err();
    assert!(error.fault == Whose::Sink && error.message.contains("no bucket `carts-events`"), "{error}");
    let error = sink.check().await.unwrap_err();
    assert!(error.fault == Whose::Sink, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_encrypted_with_the_key_that_is_configured() {
    let service = with_bucket().await;
    let key = "arn:aws:kms:eu-west-1:111122223333:key/one";
    let mut settings = settings();
    settings.claim_check.as_mut().unwrap().kms_key = Some(key.to_owned());
    publish(&*sink_through(&service, settings).await, [large("b")]).await.unwrap();
    let put = service.calls("PutObject").remove(0);
    assert_eq!(put.header("x-amz-server-side-encryption"), Some("aws:kms"));
    assert_eq!(put.header("x-amz-server-side-encryption-aws-kms-key-id"), Some(key));
}

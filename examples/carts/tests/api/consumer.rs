//! The consumer: each event counts once, in the order of its cart, however it comes.

use std::time::Duration;

use axum::{Router, body::Body};
use carts::totals::{Consumer, Totals};
use http::{Request, StatusCode};
use outbox::{
    Clock as _, Event, System,
    cloudevents::{Envelope, json},
    signature::{Secret, Verifier, sign},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fixture::{Api, item};

fn secret() -> Secret {
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
}

async fn opened(api: &Api, folder: &tempfile::TempDir) -> (Consumer, Router) {
    let consumer = Consumer::open(&api.client, &api.prefix, &folder.path().join("events.jsonl")).await.unwrap();
    let router = consumer.router(Verifier::new(vec![secret()], Duration::from_mins(5)));
    (consumer, router)
}

/// Sends an event as a relay does.
async fn deliver(router: &Router, event: &Event) -> StatusCode {
    let body = json::encode(event, Envelope { gapless: true, replay: None });
    let now = System.wall().as_second();
    let request = Request::post("/events")
        .header("content-type", "application/cloudevents+json")
        .header("webhook-id", "message")
        .header("webhook-timestamp", now.to_string())
        .header("webhook-signature", sign(&secret(), "message", now, &body));
    router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_are_exact_though_events_come_doubled_and_out_of_order() {
    let api = Api::new().await;
    for price in [1177, 5] {
        let id = api.cart().await;
        api.add(&id, &[], json!([item("a", 3, price)])).await;
        api.check_out(&id, &[]).await;
    }
    api.cart().await;
    let folder = tempfile::tempdir().unwrap();
    let (consumer, router) = opened(&api, &folder).await;
    let events = api.events().await;
    // Each cart's last first, and everything twice.
    for event in events.iter().rev().chain(&events) {
        assert!(deliver(&router, event).await.is_success());
    }
    let expected = Totals { created: 3, checked_out: 2, units: 6, total: 3 * 1177 + 3 * 5 };
    assert_eq!(consumer.totals("00001", "USD").await.unwrap(), Some(expected));
    assert_eq!(consumer.totals("00001", "EUR").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_that_came_is_in_the_log() {
    let api = Api::new().await;
    let id = api.cart().await;
    api.add(&id, &[], json!([item("a", 1, 1)])).await;
    let folder = tempfile::tempdir().unwrap();
    let (_consumer, router) = opened(&api, &folder).await;
    let events = api.events().await;
    for event in [&events[0], &events[1], &events[1]] {
        deliver(&router, event).await;
    }
    let log = std::fs::read_to_string(folder.path().join("events.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["cart.created", "cart.items-added", "cart.items-added"]);
    assert_eq!(lines[1]["data"]["cart"]["id"], *id);
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_are_answered_and_what_is_not_signed_is_not_believed() {
    let api = Api::new().await;
    api.cart().await;
    let folder = tempfile::tempdir().unwrap();
    let (_consumer, router) = opened(&api, &folder).await;
    let event = api.events().await.remove(0);
    let unsigned = Request::post("/events").header("content-type", "application/cloudevents+json");
    let unsigned = unsigned.body(Body::from(json::encode(&event, Envelope::default()))).unwrap();
    assert_eq!(router.clone().oneshot(unsigned).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let asked = async || {
        let request = Request::get("/totals/00001/USD").body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    assert_eq!(asked().await.0, StatusCode::NOT_FOUND);
    assert_eq!(deliver(&router, &event).await, StatusCode::NO_CONTENT);
    let totals = json!({ "created": 1, "checked_out": 0, "units": 0, "total": 0 });
    assert_eq!(asked().await, (StatusCode::OK, totals));
}

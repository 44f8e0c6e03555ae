//! Requests that are sent again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use carts::Carts;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use outbox::{Clock, Moment, System};
use outbox_aws::testing::proxy::{Fault, Proxy};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    fixture::{Api, ask, customer, item},
    server,
};

const KEY: (&str, &str) = ("idempotency-key", "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"");

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_answered_as_the_first_time() {
    let api = Api::new().await;
    let first = api.post(&[KEY], &customer()).await;
    api.add(&first.id(), &[], json!([item("a", 1, 1)])).await;
    let again = api.post(&[KEY], &json!({ "currency": "USD", "customer": "00001" })).await;
    assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body));
    for header in ["location", "etag"] {
        assert_eq!(again.header(header), first.header(header));
    }
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!(api.counts().await, [1, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_request_is_refused() {
    let api = Api::new().await;
    let id = api.post(&[KEY], &customer()).await.id();
    let other = api.post(&[KEY], &json!({ "customer": "00002", "currency": "USD" })).await;
    let elsewhere = api.add(&id, &[KEY], json!([item("a", 1, 1)])).await;
    for refused in [other, elsewhere] {
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.json()["errors"][0]["field"], "Idempotency-Key");
        assert!(refused.json()["detail"].as_str().unwrap().contains("use a new key"));
    }
    assert_eq!(api.counts().await, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_many_times_at_once_makes_one_cart() {
    let api = Api::new().await;
    let mut requests = JoinSet::new();
    for _ in 0..8 {
        let carts = api.carts.clone();
        requests.spawn(async move {
            let headers = [KEY, ("content-type", "application/json")];
            ask(&carts, "POST", "/cart", &headers, customer().to_string().as_bytes()).await
        });
    }
    let answers = requests.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED && answer.body == answers[0].body));
    assert_eq!(api.counts().await, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_addition_adds_once_though_its_version_is_gone() {
    let api = Api::new().await;
    let id = api.cart().await;
    let headers = [KEY, ("if-match", "\"1.1.0\"")];
    let first = api.add(&id, &headers, json!([item("a", 1, 1)])).await;
    let again = api.add(&id, &headers, json!([item("a", 1, 1)])).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &first.body));
    assert_eq!(api.get(&id).await.json()["units"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_refused_is_not_remembered() {
    let api = Api::new().await;
    let id = api.cart().await;
    assert_eq!(api.check_out(&id, &[KEY]).await.status, StatusCode::CONFLICT);
    api.add(&id, &[], json!([item("a", 1, 1)])).await;
    assert_eq!(api.check_out(&id, &[KEY]).await.status, StatusCode::OK);
}

/// A clock that stands until it is set forward.
struct Standing(AtomicI64);

impl Clock for Standing {
    fn moment(&self) -> Moment {
        System.moment()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_remembered_for_a_day_deleted_or_not() {
    let api = Api::new().await;
    let clock = Arc::new(Standing(AtomicI64::new(1_800_000_000)));
    let carts = api.carts.clone().injected(clock.clone(), Arc::new(System));
    let post = async || {
        let headers = [KEY, ("content-type", "application/json")];
        ask(&carts, "POST", "/cart", &headers, customer().to_string().as_bytes()).await.id()
    };
    let first = post().await;
    let remembered = &api.items(&api.names.requests).await[0];
    assert_eq!(remembered["expires_at"].as_n().unwrap(), "1800086400", "in seconds");
    clock.0.store(1_800_086_399, Ordering::Relaxed);
    assert_eq!(post().await, first);
    clock.0.store(1_800_086_400, Ordering::Relaxed);
    assert_ne!(post().await, first, "the item is there still, and counts no more");
    assert_eq!(api.counts().await, [2, 2, 1]);
    let described = api.client.describe_time_to_live().table_name(&api.names.requests).send().await.unwrap();
    assert_eq!(described.time_to_live_description.unwrap().attribute_name.unwrap(), "expires_at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_from_the_database_was_lost_is_made_once() {
    let Some(_) = server::emulator() else { return };
    let api = Api::new().await;
    let id = api.cart().await;
    let proxy = Proxy::before(server::emulator().unwrap()).await;
    let carts = Carts::new(&server::client_at(Some(proxy.url())).await, api.names.clone());
    proxy.script("TransactWriteItems", [Fault::LoseAnswer, Fault::error("ThrottlingException"), Fault::LoseCall]);
    let body = json!({ "items": [item("a", 1, 1)] }).to_string();
    let headers = [("content-type", "application/json")];
    let path = format!("/cart/{id}/add-items");
    let asking = ask(&carts, "PUT", &path, &headers, body.as_bytes());
    let added = tokio::time::timeout(Duration::from_mins(1), asking).await.unwrap();
    assert_eq!((added.status, added.json()["units"].clone()), (StatusCode::OK, json!(1)));
    assert_eq!((api.get(&id).await.json()["version"].clone(), api.counts().await), (json!(2), [1, 2, 0]));
}

//! Events are committed exactly with the state.

use http::StatusCode;
use outbox::Place;
use serde_json::{Value, json};

use crate::fixture::{Api, customer, item};

#[tokio::test(flavor = "multi_thread")]
async fn each_change_has_its_event_which_tells_the_resulting_cart() {
    let api = Api::new().await;
    let created = api.post(&[], &customer()).await;
    let id = created.id();
    let added = api.add(&id, &[], json!([item("cd-1", 2, 1177)])).await;
    let bought = api.check_out(&id, &[]).await;
    let events = api.events().await;
    let kinds: Vec<_> = events.iter().map(outbox::Event::kind).collect();
    assert_eq!(kinds, ["cart.created", "cart.items-added", "cart.checked-out"]);
    for ((event, answer), sequence) in events.iter().zip([created, added, bought]).zip(1..) {
        assert_eq!((event.source(), event.subject()), ("/carts", Some(&*id)));
        assert_eq!(event.key().unwrap().as_str(), format!("cart/{id}"));
        let after = if sequence == 1 { Place::ORIGIN } else { Place::new(1, sequence - 1, 0) };
        let placing = event.placing().unwrap();
        assert_eq!((placing.place, placing.after), (Place::new(1, sequence, 0), after));
        let told: Value = event.json().unwrap();
        assert_eq!(told["cart"], answer.json(), "the cart as it was answered");
    }
    let told: Value = events[1].json().unwrap();
    assert_eq!((&told["added_units"], &told["added_total"]), (&json!(2), &json!(2354)));
    assert_eq!(told["added"], json!([item("cd-1", 2, 1177)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_carts_own_item_is_the_head_and_no_other_is_kept() {
    let api = Api::new().await;
    let id = api.cart().await;
    api.add(&id, &[], json!([item("a", 1, 1)])).await;
    let cart = &api.items(&api.names.carts).await[0];
    assert_eq!((cart["place"].as_s().unwrap().as_str(), cart["version"].as_n().unwrap().as_str()), ("1.2.0", "2"));
    assert_eq!(api.items(api.names.outbox.heads()).await.len(), 1, "only the store's identity");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_event_cannot_be_written_is_not_made() {
    let api = Api::new().await;
    let id = api.cart().await;
    api.client.delete_table().table_name(api.names.outbox.entries()).send().await.unwrap();
    let refused = api.add(&id, &[("idempotency-key", "k")], json!([item("a", 1, 1)])).await;
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert!(!refused.json()["detail"].as_str().unwrap().contains("entries"), "what the database says is for the log");
    assert_eq!(api.get(&id).await.json()["version"], 1);
    assert!(api.items(&api.names.requests).await.is_empty());
    assert_eq!(api.post(&[], &customer()).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(api.items(&api.names.carts).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_the_routes_take_is_refused_with_its_change() {
    let api = Api::new().await;
    let id = api.cart().await;
    let heads = api.client.update_item().table_name(api.names.outbox.heads());
    let heads = heads.key("id", aws_sdk_dynamodb::types::AttributeValue::S("store".to_owned()));
    let heads = heads.update_expression("SET max_event_bytes = :limit");
    let limit = aws_sdk_dynamodb::types::AttributeValue::N("2000".to_owned());
    heads.expression_attribute_values(":limit", limit).send().await.unwrap();
    // A process that starts now reads the limit.
    let carts = carts::Carts::new(&api.client, api.names.clone());
    let items: Vec<_> = (0..50).map(|number| item(&format!("cd-{number}"), 1, 1)).collect();
    let body = json!({ "items": items }).to_string();
    let headers = [("content-type", "application/json")];
    let path = format!("/cart/{id}/add-items");
    let refused = crate::fixture::ask(&carts, "PUT", &path, &headers, body.as_bytes()).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    assert_eq!((api.get(&id).await.json()["version"].clone(), api.counts().await), (json!(1), [1, 1, 0]));
}

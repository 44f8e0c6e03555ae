//! Requests at once: none is lost, none overwrites another.

use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::fixture::{Answer, Api, ask, item};

/// Sends an addition of one unit so many times at once.
async fn add_at_once(
    api: &Api,
    id: &str,
    times: usize,
    headers: &'static [(&'static str, &'static str)],
) -> Vec<Answer> {
    let mut requests = JoinSet::new();
    for number in 0..times {
        let (carts, path) = (api.carts.clone(), format!("/cart/{id}/add-items"));
        requests.spawn(async move {
            let body = json!({ "items": [item(&format!("cd-{number}"), 1, 1)] }).to_string();
            let mut all = vec![("content-type", "application/json")];
            all.extend(headers);
            ask(&carts, "PUT", &path, &all, body.as_bytes()).await
        });
    }
    requests.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_another_version_is_refused_with_the_current_one() {
    let api = Api::new().await;
    let id = api.cart().await;
    let first = api.add(&id, &[("if-match", "\"1.1.0\"")], json!([item("a", 1, 1)])).await;
    assert_eq!(first.status, StatusCode::OK);
    for etag in ["\"1.1.0\"", "\"1.3.0\"", "W/\"1.2.0\"", "\"else\""] {
        let refused = api.add(&id, &[("if-match", etag)], json!([item("b", 1, 1)])).await;
        assert_eq!((refused.status, refused.header("etag")), (StatusCode::PRECONDITION_FAILED, "\"1.2.0\""), "{etag}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("read it by `GET /cart/{id}`"));
    }
    assert_eq!(api.get(&id).await.body, first.body);
    let any = api.add(&id, &[("if-match", "\"1.9.0\", \"1.2.0\"")], json!([item("b", 1, 1)])).await;
    assert_eq!(any.header("etag"), "\"1.3.0\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_for_the_same_version_at_once_one_wins() {
    let api = Api::new().await;
    let id = api.cart().await;
    let answers = add_at_once(&api, &id, 8, &[("if-match", "\"1.1.0\"")]).await;
    let won = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let lost = answers.iter().filter(|answer| answer.status == StatusCode::PRECONDITION_FAILED).count();
    assert_eq!((won, lost), (1, 7), "{answers:?}");
    assert_eq!(api.get(&id).await.json()["units"], 1);
    assert_eq!(api.counts().await, [1, 2, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_without_a_version_are_all_applied_one_after_the_other() {
    let api = Api::new().await;
    let id = api.cart().await;
    let answers = add_at_once(&api, &id, 12, &[]).await;
    let mut versions: Vec<_> = answers.iter().map(|answer| answer.json()["version"].as_u64().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=13).collect::<Vec<_>>(), "each has a version of its own");
    let cart = api.get(&id).await.json();
    assert_eq!((&cart["units"], cart["items"].as_array().unwrap().len()), (&json!(12), 12), "no update is lost");
    let places: Vec<_> = api.events().await.iter().map(|event| event.placing().unwrap().place.sequence).collect();
    assert_eq!(places, (1..=13).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_while_a_cart_is_checked_out_is_bought_or_refused() {
    let api = Api::new().await;
    let id = api.cart().await;
    api.add(&id, &[], json!([item("first", 1, 1)])).await;
    let (added, bought) = tokio::join!(add_at_once(&api, &id, 6, &[]), api.check_out(&id, &[]));
    assert_eq!(bought.status, StatusCode::OK);
    let taken = added.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let refused = added.iter().filter(|answer| answer.status == StatusCode::CONFLICT).count();
    assert_eq!(taken + refused, 6, "{added:?}");
    assert_eq!(bought.json()["units"], 1 + taken);
    assert_eq!(api.get(&id).await.body, bought.body, "nothing comes after");
    assert_eq!(api.events().await.last().unwrap().kind(), "cart.checked-out");
}

//! What each route does.

use axum::body::Body;
use carts::local;
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;

use crate::fixture::{Api, customer, item};

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_lives_from_its_creation_to_its_checkout() {
    let api = Api::new().await;
    let created = api.post(&[], &customer()).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let id = created.id();
    assert_eq!((created.header("location"), created.header("etag")), (&*format!("/cart/{id}"), "\"1.1.0\""));
    let added = api.add(&id, &[], json!([item("cd-1", 2, 1177), item("cd-2", 1, 5)])).await;
    assert_eq!((added.status, added.header("etag")), (StatusCode::OK, "\"1.2.0\""));
    let bought = api.check_out(&id, &[]).await;
    assert_eq!((bought.status, bought.header("etag")), (StatusCode::OK, "\"1.3.0\""));
    let read = api.get(&id).await;
    assert_eq!((read.status, read.header("etag"), &read.body), (StatusCode::OK, "\"1.3.0\"", &bought.body));
    let mut cart = read.json();
    for time in ["created_at", "changed_at"] {
        assert!(cart.as_object_mut().unwrap().remove(time).is_some_and(|time| time.is_string()));
    }
    assert_eq!(
        cart,
        json!({
            "id": id, "customer": "00001", "currency": "USD", "status": "checked-out", "version": 3,
            "items": [item("cd-1", 2, 1177), item("cd-2", 1, 5)], "units": 3, "total": 2359,
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_of_another_origin_is_told_what_it_may_send() {
    let api = Api::new().await;
    for (path, methods) in
        [("/cart", "POST, OPTIONS"), ("/cart/x", "GET, HEAD, OPTIONS"), ("/cart/x/add-items", "PUT, OPTIONS")]
    {
        let told = api.send("OPTIONS", path, &[("origin", "https://shop.example")], b"").await;
        assert_eq!((told.status, told.header("access-control-allow-methods")), (StatusCode::NO_CONTENT, methods));
        assert!(told.header("access-control-allow-headers").contains("idempotency-key"));
    }
    for answer in [api.post(&[], &customer()).await, api.get("x").await] {
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{}", answer.status);
        assert!(answer.header("access-control-expose-headers").contains("etag"));
    }
    assert_eq!(api.send("OPTIONS", "/carts", &[], b"").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_that_the_client_has_is_not_sent_again() {
    let api = Api::new().await;
    let id = api.cart().await;
    let path = format!("/cart/{id}");
    let same = api.send("GET", &path, &[("if-none-match", "\"1.1.0\"")], b"").await;
    assert_eq!((same.status, same.body.len(), same.header("etag")), (StatusCode::NOT_MODIFIED, 0, "\"1.1.0\""));
    let other = api.send("GET", &path, &[("if-none-match", "\"1.2.0\"")], b"").await;
    assert_eq!(other.status, StatusCode::OK);
    let head = api.send("HEAD", &path, &[], b"").await;
    assert_eq!((head.status, head.body.len(), head.header("etag")), (StatusCode::OK, 0, "\"1.1.0\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_as_the_router_and_reads_no_more_than_it_takes() {
    let api = Api::new().await;
    let router = local::router(api.carts.clone());
    let post = |body: Body| {
        let request = Request::post("/cart").header("content-type", "application/json").body(body).unwrap();
        router.clone().oneshot(request)
    };
    let created = post(Body::from(customer().to_string())).await.unwrap();
    assert_eq!((created.status(), created.headers()["etag"].to_str().unwrap()), (StatusCode::CREATED, "\"1.1.0\""));
    let large = post(Body::from(vec![b' '; 2 * 1024 * 1024])).await.unwrap();
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(large.headers()["content-type"], "application/problem+json");
    assert_eq!(large.headers()["access-control-allow-origin"], "*");
    assert_eq!(api.counts().await, [1, 1, 0]);
    let health = router.oneshot(Request::get("/health").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
}

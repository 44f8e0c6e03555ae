//! What is wrong with a request is said with the field and the remedy, and nothing is half done.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{Answer, Api, customer, item};

const JSON: (&str, &str) = ("content-type", "application/json");

/// The problem of an answer with this status.
fn problem(answer: &Answer, status: u16) -> Value {
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, "application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{problem}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    problem
}

fn says(answer: &Answer, status: u16, said: &str) {
    let problem = problem(answer, status);
    assert!(problem["detail"].as_str().unwrap().contains(said), "{said}: {problem}");
}

fn fields(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_is_refused() {
    let api = Api::new().await;
    let id = api.cart().await;
    let deep = "[".repeat(10_000);
    let bodies: [(&[u8], &str); 6] = [
        (b"", "the body is empty"),
        (b"{", "line 1"),
        (b"{\"customer\": }", "line 1"),
        (b"{\"customer\": \"\xff\"}", "not JSON"),
        (b"{} {}", "trailing"),
        (deep.as_bytes(), "not JSON"),
    ];
    for (body, said) in bodies {
        says(&api.send("POST", "/cart", &[JSON], body).await, 400, said);
        says(&api.send("PUT", &format!("/cart/{id}/add-items"), &[JSON], body).await, 400, said);
    }
    says(&api.send("PUT", &format!("/cart/{id}/checkout"), &[JSON], b"{").await, 400, "not JSON");
    assert_eq!(api.counts().await, [1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_types_and_unknown_fields_are_each_named() {
    let api = Api::new().await;
    let id = api.cart().await;
    let given = json!({ "customer": 1, "currency": "dollars", "items": [] });
    let refused = problem(&api.post(&[], &given).await, 422);
    assert_eq!(fields(&refused), ["customer", "currency", "items"]);
    let items = json!([item("a", 1, 1), { "sku": null, "quantity": "2", "unit_price": 11.77, "color": "red" }]);
    let refused = problem(&api.add(&id, &[], items).await, 422);
    let named = ["items[1].sku", "items[1].quantity", "items[1].unit_price", "items[1].color"];
    assert_eq!(fields(&refused), named);
    assert!(refused["errors"][2]["detail"].as_str().unwrap().contains("as 1177 for 11.77"), "{refused}");
    let refused = problem(&api.put(&format!("/cart/{id}/checkout"), &[], &json!({ "coupon": "x" })).await, 422);
    assert_eq!(fields(&refused), ["coupon"]);
    assert_eq!(api.counts().await, [1, 1, 0]);
    assert_eq!(api.get(&id).await.json()["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_items_and_ten_thousand_items_are_refused() {
    let api = Api::new().await;
    let id = api.cart().await;
    for (items, said) in [(json!([]), "`items` is empty"), (json!(vec![item("a", 1, 1); 10_000]), "at most 100")] {
        says(&api.add(&id, &[], items).await, 422, said);
    }
    assert_eq!(api.counts().await, [1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_is_refused() {
    let api = Api::new().await;
    let body = vec![b' '; 8 * 1024 * 1024];
    says(&api.send("POST", "/cart", &[JSON], &body).await, 413, "1048576 bytes");
    assert_eq!(api.counts().await, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_type_is_refused_with_the_right_one() {
    let api = Api::new().await;
    let body = customer().to_string();
    for headers in
        [&[][..], &[("content-type", "application/x-www-form-urlencoded")], &[("content-type", "text/plain")]]
    {
        let answer = api.send("POST", "/cart", headers, body.as_bytes()).await;
        says(&answer, 415, "content-type: application/json");
        assert_eq!(answer.header("accept"), "application/json");
    }
    assert_eq!(api.counts().await, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_that_is_not_there_is_said_to_be_missing() {
    let api = Api::new().await;
    let long = "f".repeat(4_000);
    for id in ["x", "0123456789abcdef0123456789abcdef", "%00", long.as_str()] {
        says(&api.get(id).await, 404, "POST /cart");
        says(&api.add(id, &[], json!([item("a", 1, 1)])).await, 404, "POST /cart");
        says(&api.check_out(id, &[("if-match", "*")]).await, 404, "POST /cart");
    }
    assert_eq!(api.counts().await, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_or_path_is_told_what_there_is() {
    let api = Api::new().await;
    for (method, path, allowed) in [
        ("GET", "/cart", "POST, OPTIONS"),
        ("DELETE", "/cart/x", "GET, HEAD, OPTIONS"),
        ("POST", "/cart/x/checkout", "PUT, OPTIONS"),
        ("PATCH", "/cart/x/add-items", "PUT, OPTIONS"),
    ] {
        let answer = api.send(method, path, &[], b"").await;
        says(&answer, 405, allowed);
        assert_eq!(answer.header("allow"), allowed);
    }
    for path in ["/", "/carts", "/cart/", "/cart/x/items", "/cart/x/checkout/y"] {
        let answer = api.send("GET", path, &[], b"").await;
        assert!(matches!(answer.status, StatusCode::NOT_FOUND), "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_is_not_checked_out_twice_nor_empty_nor_changed_after() {
    let api = Api::new().await;
    let id = api.cart().await;
    says(&api.check_out(&id, &[]).await, 409, "is empty");
    api.add(&id, &[], json!([item("a", 1, 1)])).await;
    assert_eq!(api.check_out(&id, &[]).await.status, StatusCode::OK);
    says(&api.check_out(&id, &[]).await, 409, "is checked out");
    says(&api.add(&id, &[], json!([item("a", 1, 1)])).await, 409, "is checked out");
    assert_eq!(api.counts().await, [1, 3, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_cart_takes_is_refused_as_a_whole() {
    let api = Api::new().await;
    let id = api.cart().await;
    let items = |batch: u32| json!((0..100).map(|number| item(&format!("{batch}-{number}"), 1, 1)).collect::<Vec<_>>());
    for batch in 0..2 {
        assert_eq!(api.add(&id, &[], items(batch)).await.status, StatusCode::OK);
    }
    says(&api.add(&id, &[], items(2)).await, 409, "takes 200");
    says(&api.add(&id, &[], json!([item("0-0", 10_000, 1)])).await, 409, "takes 10000");
    assert_eq!((api.get(&id).await.json()["units"].clone(), api.counts().await), (json!(200), [1, 3, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_cannot_be_read_are_named() {
    let api = Api::new().await;
    let id = api.cart().await;
    for (name, value) in [("If-Match", "1.1.0"), ("Idempotency-Key", "a b"), ("Idempotency-Key", "")] {
        let header = name.to_lowercase();
        let refused = problem(&api.add(&id, &[(&header, value)], json!([item("a", 1, 1)])).await, 400);
        assert_eq!(fields(&refused), [name]);
    }
    assert_eq!(api.counts().await, [1, 1, 0]);
}

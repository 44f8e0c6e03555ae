//! The HTTP API, and what it leaves in the database.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use orders::{Service, router};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

struct Api {
    folder: TempDir,
    router: Router,
}

impl Api {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let router = router(Service::open(&folder.path().join("orders.db"), "/orders").unwrap());
        Self { folder, router }
    }

    async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> (StatusCode, Value, String) {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap(), kind)
    }

    async fn post(&self, order: &Value) -> (StatusCode, Value, String) {
        self.send("POST", "/orders", order.to_string()).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value, String) {
        self.send("GET", path, Body::empty()).await
    }

    fn count(&self, table: &str) -> i64 {
        let connection = Connection::open(self.folder.path().join("orders.db")).unwrap();
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn order(id: &str, customer: &str) -> Value {
    json!({ "order_id": id, "customer": customer, "date": "1997-01-12", "quantity": 2, "amount": "11.77" })
}

#[tokio::test]
async fn an_order_and_its_event_are_there_once_it_is_answered() {
    let api = Api::start();
    let (status, answer, _) = api.post(&order("o-1", "00001")).await;
    assert_eq!((status, answer), (StatusCode::CREATED, json!({ "order_id": "o-1", "sequence": 1 })));
    assert_eq!((api.count("orders"), api.count("outbox_entries")), (1, 1));
    let (status, answer, _) = api.get("/orders/o-1").await;
    assert_eq!((status, answer), (StatusCode::OK, order("o-1", "00001")));
}

#[tokio::test]
async fn an_order_whose_transaction_fails_at_its_commit_is_not_answered_as_placed() {
    let api = Api::start();
    let other = Connection::open(api.folder.path().join("orders.db")).unwrap();
    // A reference that leads nowhere, and is looked at when the transaction commits.
    other
        .execute_batch(
            "CREATE TABLE lots (id INTEGER PRIMARY KEY);
             CREATE TABLE picks (lot INTEGER REFERENCES lots DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER pick AFTER INSERT ON orders BEGIN INSERT INTO picks VALUES (1); END",
        )
        .unwrap();
    let (status, _, kind) = api.post(&order("o-1", "00001")).await;
    assert!(status.is_server_error(), "{status}");
    assert_eq!(kind, "application/problem+json");
    assert_eq!((api.count("orders"), api.count("outbox_entries")), (0, 0));
    other.execute_batch("DROP TRIGGER pick").unwrap();
    assert_eq!(api.post(&order("o-1", "00001")).await.0, StatusCode::CREATED);
    assert_eq!((api.count("orders"), api.count("outbox_entries")), (1, 1));
}

#[tokio::test]
async fn a_repeated_order_is_answered_as_the_first_time_and_has_no_second_event() {
    let api = Api::start();
    api.post(&order("o-1", "00001")).await;
    api.post(&order("o-2", "00001")).await;
    let (status, answer, _) = api.post(&order("o-1", "00001")).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({ "order_id": "o-1", "sequence": 1 })));
    assert_eq!((api.count("orders"), api.count("outbox_entries")), (2, 2));
}

#[tokio::test]
async fn an_id_that_belongs_to_another_order_is_a_conflict() {
    let api = Api::start();
    api.post(&order("o-1", "00001")).await;
    let (status, problem, kind) = api.post(&order("o-1", "00002")).await;
    assert_eq!((status, kind.as_str()), (StatusCode::CONFLICT, "application/problem+json"));
    assert!(problem["detail"].as_str().unwrap().contains("new `order_id`"), "{problem}");
    assert_eq!(api.count("outbox_entries"), 1);
}

#[tokio::test]
async fn a_request_with_wrong_fields_names_each_of_them_and_writes_nothing() {
    let api = Api::start();
    let wrong = json!({ "order_id": "", "customer": "1", "date": "yesterday", "quantity": -1, "amount": "1.999" });
    let (status, problem, kind) = api.post(&wrong).await;
    assert_eq!((status, kind.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "application/problem+json"));
    assert_eq!(problem["status"], 422);
    let fields: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["order_id", "date", "quantity", "amount"]);
    assert_eq!((api.count("orders"), api.count("outbox_entries")), (0, 0));
}

#[tokio::test]
async fn a_body_that_is_no_order_is_refused_with_what_is_wrong() {
    let api = Api::start();
    for (body, named) in [("", "EOF"), ("[]", "order"), (r#"{"order_id":"o-1"}"#, "customer"), (r#"{"x":1}"#, "`x`")] {
        let (status, problem, kind) = api.send("POST", "/orders", body).await;
        assert_eq!((status, kind.as_str()), (StatusCode::BAD_REQUEST, "application/problem+json"), "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{problem}");
    }
    let (status, _, kind) = api.send("POST", "/orders", vec![b' '; 100_000]).await;
    assert_eq!((status, kind.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "application/problem+json"));
}

#[tokio::test]
async fn a_customers_totals_are_exact_to_the_cent() {
    let api = Api::start();
    for id in ["o-1", "o-2", "o-3"] {
        api.post(&order(id, "00007")).await;
    }
    api.post(&order("o-4", "00008")).await;
    let (status, totals, _) = api.get("/customers/00007").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(totals, json!({ "customer": "00007", "orders": 3, "units": 6, "total": "35.31" }));
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let api = Api::start();
    for path in ["/orders/o-1", "/customers/00001"] {
        let (status, problem, _) = api.get(path).await;
        assert_eq!((status, &problem["status"]), (StatusCode::NOT_FOUND, &json!(404)));
    }
    assert_eq!(api.get("/health").await.0, StatusCode::OK);
}

#[tokio::test]
async fn orders_that_come_at_once_are_each_placed_once_and_in_a_row_per_customer() {
    let api = Api::start();
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (router, order) = (api.router.clone(), order(&format!("o-{}", number / 2), "00001"));
        let request = Request::builder().method("POST").uri("/orders").body(Body::from(order.to_string())).unwrap();
        requests.spawn(router.oneshot(request));
    }
    let mut created = 0;
    while let Some(answer) = requests.join_next().await {
        created += i32::from(answer.unwrap().unwrap().status() == StatusCode::CREATED);
    }
    assert_eq!(created, 100, "each id came twice and was placed once");
    let connection = Connection::open(api.folder.path().join("orders.db")).unwrap();
    let entries = "SELECT count(*), min(sequence), max(sequence), count(DISTINCT sequence) FROM outbox_entries";
    let row: (i64, i64, i64, i64) =
        connection.query_row(entries, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    assert_eq!(row, (100, 1, 100, 100));
}

//! Transactions with an item of the service's own and one keyed event, against bare `TransactWriteItems` of the same items
//! with the same client. A server on loopback takes them at once: what a request costs the client is all there is.
//!
//! `cargo run --release -p benches --bin dynamodb_writer`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::{
    Client,
    primitives::Blob,
    types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};
use axum::{Router, http::HeaderMap, routing::post};
use benches::dynamodb::{Server, is_asked_to_serve};
use outbox::NewEvent;
use outbox_aws::dynamodb::{Tables, Writer};

const PREFIX: &str = "bench";
const KEYS: u64 = 1_000;
const CLIENTS: u64 = 16;
const ROUND: Duration = Duration::from_secs(3);
/// The item that says whose tables they are.
const STORE: &str = r#"{"Item":{"id":{"S":"store"},"layout":{"N":"1"},"store_id":{"S":"00112233445566778899aabbccddeeff"},
    "producer":{"S":"/carts"},"incarnation":{"N":"1"},"max_event_bytes":{"N":"409600"},"retention_seconds":{"N":"2592000"}}}"#;

/// Takes every transaction, and has no item but that one.
async fn answer(headers: HeaderMap, body: String) -> &'static str {
    let target = headers.get("x-amz-target").unwrap().to_str().unwrap();
    if target.ends_with(".GetItem") && body.contains(r#""S":"store""#) { STORE } else { "{}" }
}

async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    axum::serve(listener, Router::new().route("/", post(answer))).await.unwrap();
}

fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// What the service writes of its own.
fn cart(of: u64) -> TransactWriteItem {
    let put = Put::builder().table_name("bench-carts").item("id", text(format!("cart/{of}")));
    let put = put.item("items", text("x".repeat(200))).item("version", number(of));
    TransactWriteItem::builder().put(put.build().unwrap()).build()
}

/// The same items as a writer's.
async fn bare(client: &Client, of: u64, payload: &str) {
    let key = format!("cart/{of}");
    let event = AttributeValue::M(
        [("type", text("cart.changed")), ("content_type", text("application/json")), ("data", text(payload))]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    );
    let entry = Put::builder()
        .table_name("bench-entries")
        .item("key", text(&key))
        .item("sequence", number(of))
        .item("incarnation", number(1))
        .item("after", text("1.1.0"))
        .item("count", number(1))
        .item("commit_id", AttributeValue::B(Blob::new([7; 16])))
        .item("recorded_at", number(1_795_000_000_000))
        .item("expires_at", number(1_797_592_000))
        .item("events", AttributeValue::L(vec![event]))
        .condition_expression("attribute_not_exists(#key)")
        .expression_attribute_names("#key", "key")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let head = Update::builder()
        .table_name("bench-heads")
        .key("id", text(format!("k:{key}")))
        .update_expression("SET #sequence = :sequence, #incarnation = :incarnation, #count = :count")
        .condition_expression("#sequence = :seen AND #incarnation = :in AND #count = :of")
        .expression_attribute_names("#sequence", "sequence")
        .expression_attribute_names("#incarnation", "incarnation")
        .expression_attribute_names("#count", "count")
        .expression_attribute_values(":sequence", number(of + 1))
        .expression_attribute_values(":incarnation", number(1))
        .expression_attribute_values(":count", number(1))
        .expression_attribute_values(":seen", number(of))
        .expression_attribute_values(":in", number(1))
        .expression_attribute_values(":of", number(1))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    client
        .transact_write_items()
        .client_request_token(format!("{of:032}"))
        .transact_items(cart(of))
        .transact_items(TransactWriteItem::builder().put(entry.build().unwrap()).build())
        .transact_items(TransactWriteItem::builder().update(head.build().unwrap()).build())
        .send()
        .await
        .unwrap();
}

async fn ours(writer: &Writer, of: u64, payload: &str) {
    let event = NewEvent::builder("cart.changed")
        .key(format!("cart/{of}"))
        .bytes("application/json", payload.to_owned())
        .build()
        .unwrap();
    let mut transaction = writer.transaction();
    transaction.action(cart(of));
    transaction.write([event]);
    transaction.commit().await.unwrap();
}

/// How many of `work` are done in a second, by several clients at once, each with keys of its own.
async fn rate<F: Future<Output = ()> + Send>(work: impl Fn(u64) -> F + Clone + Send + Sync + 'static) -> f64 {
    let done = std::sync::Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let (work, done) = (work.clone(), done.clone());
        async move {
            let mut number = 0;
            while started.elapsed() < ROUND {
                work((number * CLIENTS + client) % KEYS).await;
                number += 1;
            }
            done.fetch_add(number, Ordering::Relaxed);
        }
    });
    futures_util::future::join_all(clients).await;
    done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    if is_asked_to_serve() {
        return serve().await;
    }
    let server = Server::start().await;
    let client = server.client().await;
    let writer = Writer::new(&client, Tables::with_prefix(PREFIX));
    let payload: &'static str = benches::payload().leak();
    for round in 0..4 {
        let bare_client = client.clone();
        let floor = rate(move |of| {
            let client = bare_client.clone();
            async move { bare(&client, of, payload).await }
        })
        .await;
        let writer = writer.clone();
        let ours = rate(move |of| {
            let writer = writer.clone();
            async move { ours(&writer, of, payload).await }
        })
        .await;
        // The first round reads heads and opens connections.
        if round > 0 {
            benches::report("a transaction with one event (DynamoDB)", ours, floor, "commits/s", 0.95);
        }
    }
}

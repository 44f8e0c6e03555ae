//! What the examples write is what a relay reads.

use outbox::Event;
use serde_json::{Value, json};

use crate::{
    fixture::Service,
    language::{Language, file},
    pooler::Pooler,
    server::session,
};

/// What is looked at of an event: id, type, payload, subject.
fn seen(event: &Event) -> Value {
    let data: Value = event.data().map_or(Value::Null, |data| serde_json::from_slice(data).unwrap());
    // Without a key, an event's id is random.
    let id = event.key().map(|_| event.id());
    json!([id, event.kind(), data, event.subject()])
}

/// The whole scenario, and nothing of what it had refused.
async fn assert_written(service: &Service) {
    let events: Vec<_> = service.events().await.iter().map(seen).collect();
    let order = |number: u64| json!({ "id": format!("o-{number}"), "customer": "42", "units": number });
    let expected = [
        json!(["customer/42@1.1.0", "order.placed", order(1), null]),
        json!(["customer/42@1.2.0", "order.placed", order(2), null]),
        json!(["customer/42@1.3.0", "order.shipped", { "id": "o-1" }, null]),
        json!(["customer/42@1.3.1", "order.shipped", { "id": "o-2" }, null]),
        json!(["customer/7@1.1.0", "order.shipped", { "id": "o-9" }, null]),
        json!([null, "parcels.counted", 3, "depot-1"]),
        json!(["customer/42@1.4.0", "account.closed", null, null]),
    ];
    assert_eq!(events, expected);
    let orders = service.rows("SELECT id, status FROM orders ORDER BY id").await;
    assert_eq!(orders, [r#"{"id":"o-1","status":"shipped"}"#, r#"{"id":"o-2","status":"shipped"}"#]);
    assert_eq!(service.rows("SELECT id FROM customers WHERE NOT is_open").await, [r#"{"id":"42"}"#]);
}

#[tokio::test]
async fn every_language_writes_business_data_and_events_in_one_transaction() {
    for language in Language::ALL {
        let service = Service::new().await;
        language.run(&service.url(), &[]).await;
        assert_written(&service).await;
    }
}

#[tokio::test]
async fn every_language_writes_through_a_pooler_that_gives_each_transaction_another_session() {
    for language in Language::ALL {
        let service = Service::new().await;
        let pooler = Pooler::start(service.database.url()).await;
        language.run(&pooler.before(service.database.url()), &[]).await;
        assert_written(&service).await;
    }
}

#[tokio::test]
async fn plain_sql_writes_business_data_and_events_in_one_transaction_or_statement() {
    let service = Service::new().await;
    let session = session(&service.url()).await;
    session.batch_execute(&std::fs::read_to_string(file("psql/orders.sql")).unwrap()).await.unwrap();
    let events = service.events().await;
    let expected = [
        ("customer/42@1.1.0", "order.placed"),
        ("customer/42@1.2.0", "order.placed"),
        ("customer/42@1.3.0", "account.closed"),
        ("customer/42@1.4.0", "order.shipped"),
        ("customer/42@1.4.1", "order.shipped"),
        ("customer/42@1.5.0", "scan.stored"),
        ("customer/42@1.6.0", "order.returned"),
    ];
    let written: Vec<_> = events.iter().map(|event| (event.id(), event.kind())).collect();
    assert_eq!(written, expected);
    assert_eq!(events[1].json::<Value>().unwrap(), json!({ "id": "o-2", "units": 5 }));
    assert_eq!(events[5].data().unwrap(), b"\x89PNG\r\n".as_slice());
    let orders = service.rows("SELECT id, status FROM orders ORDER BY id").await;
    assert_eq!(orders, [r#"{"id":"o-1","status":"shipped"}"#, r#"{"id":"o-2","status":"shipped"}"#]);
}

//! A service over tables that nobody else uses, and what tests ask of it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use bytes::Bytes;
use carts::{Carts, Names, PRODUCER, answer, make_tables};
use http::{HeaderMap, Request, StatusCode};
use outbox::{Event, Position};
use outbox_aws::dynamodb::EntryReader;
use serde_json::{Value, json};

use crate::server;

/// A prefix for names of tables that nobody else has.
pub(crate) fn unused_prefix() -> String {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    format!("carts-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }
}

/// The service, with tables of its own, which are removed in the end.
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) prefix: String,
    pub(crate) names: Names,
    pub(crate) carts: Carts,
}

impl Api {
    pub(crate) async fn new() -> Self {
        let (client, prefix) = (server::client().await, unused_prefix());
        let names = Names::with_prefix(&prefix);
        make_tables(&client, &names).await.unwrap();
        let carts = Carts::new(&client, names.clone());
        Self { client, prefix, names, carts }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(&self.carts, method, path, headers, body).await
    }

    /// Sends JSON.
    pub(crate) async fn put(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("PUT", path, &with_type(headers), body.to_string().as_bytes()).await
    }

    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("POST", "/cart", &with_type(headers), body.to_string().as_bytes()).await
    }

    pub(crate) async fn get(&self, id: &str) -> Answer {
        self.send("GET", &format!("/cart/{id}"), &[], b"").await
    }

    /// A new cart's id.
    pub(crate) async fn cart(&self) -> String {
        let answer = self.post(&[], &customer()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.id()
    }

    pub(crate) async fn add(&self, id: &str, headers: &[(&str, &str)], items: Value) -> Answer {
        self.put(&format!("/cart/{id}/add-items"), headers, &json!({ "items": items })).await
    }

    pub(crate) async fn check_out(&self, id: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("PUT", &format!("/cart/{id}/checkout"), headers, b"").await
    }

    /// All items of a table.
    pub(crate) async fn items(&self, table: &str) -> Vec<HashMap<String, AttributeValue>> {
        let mut pages = self.client.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.push(item.unwrap());
        }
        items
    }

    /// All events, each cart's in their order.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let mut items = self.items(self.names.outbox.entries()).await;
        items.sort_by_key(|item| {
            (item["key"].as_s().unwrap().clone(), item["sequence"].as_n().unwrap().parse::<u64>().unwrap())
        });
        let reader = EntryReader::new(PRODUCER);
        items.iter().flat_map(|item| reader.record(item, Position::new("any")).events().to_vec()).collect()
    }

    /// Carts, entries and remembered answers.
    pub(crate) async fn counts(&self) -> [usize; 3] {
        let Names { carts, requests, outbox } = &self.names;
        [self.items(carts).await.len(), self.items(outbox.entries()).await.len(), self.items(requests).await.len()]
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let prefix = self.prefix.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = server::client().await;
                for table in ["carts", "requests", "entries", "heads", "totals", "inboxes"] {
                    // Not every test has all of them.
                    let _gone = client.delete_table().table_name(format!("{prefix}-{table}")).send().await;
                }
            });
        });
        if !std::thread::panicking() {
            dropped.join().unwrap();
        }
    }
}

pub(crate) async fn ask(carts: &Carts, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = answer(carts, request.body(Bytes::copy_from_slice(body)).unwrap()).await;
    let (parts, body) = answer.into_parts();
    Answer { status: parts.status, headers: parts.headers, body }
}

fn with_type<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().copied().chain([("content-type", "application/json")]).collect()
}

pub(crate) fn customer() -> Value {
    json!({ "customer": "00001", "currency": "USD" })
}

pub(crate) fn item(sku: &str, quantity: u64, unit_price: u64) -> Value {
    json!({ "sku": sku, "quantity": quantity, "unit_price": unit_price })
}

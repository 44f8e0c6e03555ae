//! The suite that every business store passes, but for its retention: DynamoDB deletes entries itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use outbox::{
    KeyOrder, Page, Partition, PartitionId, Position, Receipt, Source, StoreError, WriteError,
    source::{Backlog, Limit},
    store::Registration,
    testing::{Opened, StoreUnderTest, Transaction, WriterUnderTest, conformance::business_store},
    writer::Settled,
};
use outbox_aws::{
    dynamodb::{DynamoStore, StoreOptions},
    iam::Role,
};

use crate::{
    rights::client_as,
    scan::ScanSource,
    writer_conformance::{self, Service},
};

type Item = HashMap<String, AttributeValue>;

/// A service's tables, and a copy of them.
struct Backed {
    service: Mutex<Service>,
    copy: Mutex<Vec<(String, Vec<Item>)>>,
}

async fn fresh() -> Backed {
    Backed { service: Mutex::new(writer_conformance::fresh().await), copy: Mutex::default() }
}

impl Backed {
    fn client(&self) -> Client {
        self.service.lock().unwrap().store.client.clone()
    }

    fn tables(&self) -> [String; 2] {
        let service = self.service.lock().unwrap();
        [service.store.tables.entries().to_owned(), service.store.tables.heads().to_owned()]
    }

    async fn items(&self, table: &str) -> Vec<Item> {
        let scan = self.client().scan().table_name(table).consistent_read(true);
        let mut pages = scan.into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.push(item.unwrap());
        }
        items
    }

    /// A writer as of another process: it remembers nothing of the tables before.
    fn writer(&self) -> Service {
        let service = self.service.lock().unwrap();
        Service { writer: service.store.writer(), store: service.store.again() }
    }
}

#[async_trait]
impl WriterUnderTest for Backed {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        self.writer().transact(asked).await
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        self.writer().settled(receipt).await
    }

    async fn source(&self) -> Arc<dyn Source> {
        self.writer().source().await
    }
}

#[async_trait]
impl StoreUnderTest for Backed {
    async fn open(&self) -> Opened {
        let again = self.writer().store;
        let store =
            DynamoStore::open(&client_as(Role::Relay).await, &again.tables, StoreOptions::default()).await.unwrap();
        let source = Guarded { scan: again.source(), store: store.clone() };
        Opened { source: Arc::new(source), store: Arc::new(store) }
    }

    async fn back_up(&self) {
        let mut copy = Vec::new();
        for table in self.tables() {
            let items = self.items(&table).await;
            copy.push((table, items));
        }
        *self.copy.lock().unwrap() = copy;
    }

    async fn restore(&self) {
        let copy = self.copy.lock().unwrap().clone();
        let client = self.client();
        for (table, items) in copy {
            for mut item in self.items(&table).await {
                item.retain(|name, _| ["id", "key", "sequence"].contains(&name.as_str()));
                // Of a head the number is no part of its key.
                if item.contains_key("id") {
                    item.retain(|name, _| name == "id");
                }
                client.delete_item().table_name(&table).set_key(Some(item)).send().await.unwrap();
            }
            for item in items {
                client.put_item().table_name(&table).set_item(Some(item)).send().await.unwrap();
            }
        }
    }
}

/// A source whose reads depend on the store's claim, as a relay's do.
struct Guarded {
    scan: ScanSource,
    store: DynamoStore,
}

#[async_trait]
impl Source for Guarded {
    fn key_order(&self) -> KeyOrder {
        self.scan.key_order()
    }

    fn order(&self, left: &Position, right: &Position) -> std::cmp::Ordering {
        self.scan.order(left, right)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        self.scan.partitions().await
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.scan.start(partition, registration).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        self.store.check_claim().await?;
        self.scan.read(partition, after, limit).await
    }

    async fn changed(&self) {
        self.scan.changed().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        self.scan.backlog(partition, after).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_conform() {
    business_store::claims::all(&fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_conform() {
    business_store::routes::all(&fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_conform() {
    business_store::history::all(&fresh).await;
}

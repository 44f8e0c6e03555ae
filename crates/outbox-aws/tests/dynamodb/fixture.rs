//! Tables that nobody else uses, and what tests do with them.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
};
use outbox::NewEvent;
use outbox_aws::{
    dynamodb::{InitOptions, Tables, Writer, schema},
    iam::Role,
};

use crate::{rights::client_as, scan::ScanSource, server};

pub(crate) const PRODUCER: &str = "/carts";

/// A prefix for names of tables that nobody else has.
pub(crate) fn unused_prefix() -> String {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    format!("outbox-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

/// A service's tables, removed in the end.
pub(crate) struct Store {
    pub(crate) client: Client,
    /// May do what a writer may.
    writing: Client,
    pub(crate) tables: Tables,
    /// A table of the service's own, with the key `id`.
    pub(crate) carts: String,
    /// Whether the tables are removed with it.
    owned: bool,
}

impl Store {
    pub(crate) async fn new() -> Self {
        let client = server::client().await;
        let prefix = unused_prefix();
        let tables = Tables::with_prefix(&prefix);
        schema::init(&client_as(Role::Init).await, &tables, &InitOptions::new(PRODUCER)).await.unwrap();
        let carts = format!("{prefix}-carts");
        make_table(&client, &carts, "id").await;
        Self { client, writing: client_as(Role::Writer).await, tables, carts, owned: true }
    }

    /// The same tables for somebody else.
    pub(crate) fn again(&self) -> Self {
        let (client, writing) = (self.client.clone(), self.writing.clone());
        Self { client, writing, tables: self.tables.clone(), carts: self.carts.clone(), owned: false }
    }

    pub(crate) fn writer(&self) -> Writer {
        Writer::new(&self.writing, self.tables.clone())
    }

    /// Everything written, each key in its order.
    pub(crate) fn source(&self) -> ScanSource {
        ScanSource::new(self.client.clone(), self.tables.clone(), PRODUCER)
    }

    pub(crate) async fn cart(&self, id: &str) -> Option<std::collections::HashMap<String, AttributeValue>> {
        let get = self.client.get_item().table_name(&self.carts).key("id", AttributeValue::S(id.to_owned()));
        get.consistent_read(true).send().await.unwrap().item
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let names = [self.tables.entries().to_owned(), self.tables.heads().to_owned(), self.carts.clone()];
        server::drop_tables(names.to_vec());
    }
}

/// A table with a text as its only key.
pub(crate) async fn make_table(client: &Client, name: &str, key: &str) {
    let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
    let element = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash);
    let make = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    let make = make.attribute_definitions(attribute.build().unwrap()).key_schema(element.build().unwrap());
    make.send().await.unwrap();
    let wait = async {
        loop {
            let described = client.describe_table().table_name(name).send().await.unwrap();
            let status = described.table.and_then(|table| table.table_status);
            if status == Some(aws_sdk_dynamodb::types::TableStatus::Active) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), wait).await.unwrap();
}

/// An event of a cart.
pub(crate) fn event(key: &str) -> NewEvent {
    NewEvent::builder("cart.changed").key(key).json(&key).build().unwrap()
}

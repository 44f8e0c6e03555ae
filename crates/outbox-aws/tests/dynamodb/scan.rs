//! A source that scans the table: what the writers' suite reads by. No relay uses it: its positions are places in a sorted
//! scan, good only while nobody writes before them.

use std::{cmp::Ordering, sync::Arc};

use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use outbox::{
    KeyOrder, Page, Partition, PartitionId, Position, Record, Source, StoreError,
    source::{Backlog, Limit},
    store::Registration,
};
use outbox_aws::dynamodb::{EntryReader, Tables};

pub(crate) struct ScanSource {
    client: Client,
    tables: Tables,
    reader: EntryReader,
}

impl ScanSource {
    pub(crate) fn new(client: Client, tables: Tables, producer: &str) -> Self {
        Self { client, tables, reader: EntryReader::new(producer) }
    }

    /// Everything there is, by key and number.
    pub(crate) async fn all(&self) -> Vec<Arc<Record>> {
        let mut items = Vec::new();
        let mut from = None;
        loop {
            let scan = self.client.scan().table_name(self.tables.entries()).consistent_read(true);
            let page = scan.set_exclusive_start_key(from).send().await.unwrap();
            items.extend(page.items.unwrap_or_default());
            from = page.last_evaluated_key;
            if from.is_none() {
                break;
            }
        }
        let key = |item: &std::collections::HashMap<String, AttributeValue>| {
            (item["key"].as_s().unwrap().clone(), item["sequence"].as_n().unwrap().parse::<u64>().unwrap())
        };
        items.sort_by_key(key);
        let record = |(number, item)| {
            let position = Position::new(format!("{}@{number}", name(&item)));
            Arc::new(self.reader.record(&item, position))
        };
        (1..).zip(items).map(record).collect()
    }
}

#[async_trait]
impl Source for ScanSource {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Promised
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        number(left).cmp(&number(right))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(vec![Partition { id: PartitionId::new("table"), parents: Vec::new() }])
    }

    async fn start(&self, _: &PartitionId, _: &Registration) -> Result<Position, StoreError> {
        Ok(Position::new("@0"))
    }

    async fn read(&self, _: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        let all = self.all().await;
        let records: Vec<_> = all.iter().skip(number(after)).take(limit.events).cloned().collect();
        let next = records.last().map_or_else(|| after.clone(), |record| record.position.clone());
        Ok(Page { more: number(&next) < all.len(), records, next, end: false })
    }

    async fn changed(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    async fn backlog(&self, _: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        let entries = (self.all().await.len() - number(after)) as u64;
        Ok(Backlog { entries, exact: true, oldest: None })
    }
}

fn number(position: &Position) -> usize {
    position.as_str().rsplit('@').next().unwrap().parse().unwrap()
}

/// What the position behind an item calls it. No key in these tests has an `@`.
fn name(item: &std::collections::HashMap<String, AttributeValue>) -> String {
    let (sequence, expires) = (item["sequence"].as_n().unwrap(), item["expires_at"].as_n().unwrap());
    format!("{sequence}/{expires}/{}", item["key"].as_s().unwrap())
}

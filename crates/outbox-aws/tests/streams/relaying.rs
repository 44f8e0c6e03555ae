//! A relay on an emulator, or AWS itself: writer, business store and stream together.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
use outbox::{
    Relay, Sink,
    memory::{MemoryBookkeeping, MemorySink, SeededEntropy},
    relay::RelayBuilder,
    testing::conformance::business_store::claims,
};
use outbox_aws::dynamodb::{DynamoStore, SourceOptions, StoreOptions, StreamsSource};

use crate::{
    clients, conformance,
    fixture::{Store, event},
    rig::{all, eventually, id, run},
};

async fn relay(store: &Store, bookkeeping: &Arc<MemoryBookkeeping>, sink: &Arc<MemorySink>) -> RelayBuilder {
    let tables = DynamoStore::open(&store.client, &store.tables, StoreOptions::default()).await.unwrap();
    let source = StreamsSource::open(&tables, &clients::streams().await, SourceOptions::default()).await.unwrap();
    Relay::builder()
        .source(Arc::new(source))
        .store(Arc::new(tables))
        .bookkeeping(bookkeeping.clone())
        .partitions_every(Duration::from_millis(200))
        .failover(Duration::from_millis(500))
        .route(all(), sink.clone() as Arc<dyn Sink>)
}

async fn write(store: &Store, keys: &[&str], times: usize) {
    let writer = store.writer();
    for _ in 0..times {
        for key in keys {
            let mut transaction = writer.transaction();
            transaction.write([event(key)]);
            transaction.commit().await.unwrap();
        }
    }
}

/// The ids of each key, the first publication of each.
fn first_of(sink: &MemorySink, key: &str) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let of_key = sink.ids().into_iter().filter(|id| id.starts_with(&format!("{key}@")));
    of_key.filter(|id| seen.insert(id.clone())).collect()
}

async fn arrive(sink: &MemorySink, keys: &[&str], count: u64) {
    eventually("everything arrives", async || {
        keys.iter().all(|key| first_of(sink, key).len() >= usize::try_from(count).unwrap())
    })
    .await;
    for key in keys {
        assert_eq!(first_of(sink, key), (1..=count).map(|number| id(key, number)).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_publishes_what_was_committed_each_key_in_order_and_goes_on_after_a_crash() {
    let (store, sink) = (Store::new().await, Arc::new(MemorySink::default()));
    let bookkeeping = Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1)));
    let first = run(relay(&store, &bookkeeping, &sink).await);
    write(&store, &["a", "b", "c"], 10).await;
    arrive(&sink, &["a", "b", "c"], 10).await;
    first.kill().await;
    write(&store, &["a", "b", "c"], 10).await;
    let second = run(relay(&store, &bookkeeping, &sink).await);
    arrive(&sink, &["a", "b", "c"], 20).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_disabled_and_enabled_again_loses_nothing() {
    let (store, sink) = (Store::new().await, Arc::new(MemorySink::default()));
    let bookkeeping = Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1)));
    let relay = run(relay(&store, &bookkeeping, &sink).await);
    write(&store, &["a", "b"], 5).await;
    arrive(&sink, &["a", "b"], 5).await;
    set_stream(&store, false).await;
    write(&store, &["a", "b"], 5).await;
    // No table that is real has its stream changed within a second; this one has.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    set_stream(&store, true).await;
    write(&store, &["a", "b"], 5).await;
    arrive(&sink, &["a", "b"], 15).await;
    relay.stop().await;
}

async fn set_stream(store: &Store, enabled: bool) {
    let stream = StreamSpecification::builder().stream_enabled(enabled);
    let stream = if enabled { stream.stream_view_type(StreamViewType::NewImage) } else { stream };
    let update = store.client.update_table().table_name(store.tables.entries());
    update.stream_specification(stream.build().unwrap()).send().await.unwrap();
    eventually("the table is active", async || {
        let described = store.client.describe_table().table_name(store.tables.entries()).send().await.unwrap();
        described.table.unwrap().table_status == Some(aws_sdk_dynamodb::types::TableStatus::Active)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_store_to_another_relay_reads_no_more() {
    claims::a_newer_claim_ends_the_older_ones_reads(&conformance::fresh().await).await;
    claims::a_disowned_store_can_be_claimed(&conformance::fresh().await).await;
}

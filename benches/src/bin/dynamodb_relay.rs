//! A table's stream through a relay to a null sink, against a bare loop that fetches the same pages with the same client
//! and has the SDK decode them. A server on loopback hands out pages of 1,000 records that are ready-made.
//!
//! `cargo run --release -p benches --bin dynamodb_relay [ROUNDS]`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{sync::Arc, time::Instant};

use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use benches::{
    dynamodb::{Server, is_asked_to_serve},
    postgres::Processor,
    running::Running,
};
use outbox::{
    Relay, RouteName, RouteSettings, System,
    memory::{MemoryBookkeeping, MemoryStore},
    sinks::NullSink,
};
use outbox_aws::{
    dynamodb::{DynamoStore, SourceOptions, StoreOptions, StreamsSource, Tables},
    testing::streams::StreamServer,
};

/// So many pages are kept ready-made.
const RECORDS: u64 = 64_000;
const KEYS: u64 = 1_000;
const PREFIX: &str = "bench";

/// Serves a stream of one shard, with entries of some 700 bytes.
async fn serve() {
    let server = StreamServer::start(PREFIX, Arc::new(System)).await.unwrap();
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(300));
    for number in 0..RECORDS {
        let mut entry = server.entry(&format!("cart/{}", number % KEYS), number / KEYS + 1);
        entry["events"]["L"][0]["M"]["data"]["S"] = data.clone().into();
        server.put(&entry);
    }
    println!("{}", server.url());
    std::future::pending::<()>().await;
}

/// Fetches every record, and nothing else.
async fn bare(client: &aws_sdk_dynamodbstreams::Client, arn: &str) -> (f64, f64) {
    let described = client.describe_stream().stream_arn(arn).send().await.unwrap();
    let shard = described.stream_description.unwrap().shards.unwrap().remove(0).shard_id.unwrap();
    let first = client.get_shard_iterator().stream_arn(arn).shard_id(shard);
    let first = first.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let mut iterator = first.shard_iterator;
    let (mut count, mut bytes) = (0, 0);
    let (before, started) = (Processor::spent(), Instant::now());
    while count < RECORDS {
        let page = client.get_records().set_shard_iterator(iterator).send().await.unwrap();
        for record in page.records.unwrap() {
            bytes += record.dynamodb.unwrap().new_image.unwrap()["events"].as_l().unwrap().len();
            count += 1;
        }
        iterator = page.next_shard_iterator;
    }
    assert!(bytes as u64 >= RECORDS);
    measured(before, started)
}

async fn relay(server: &Server) -> (f64, f64) {
    let (client, tables) = (server.client().await, Tables::with_prefix(PREFIX));
    let store = DynamoStore::open(&client, &tables, StoreOptions::default()).await.unwrap();
    let source = StreamsSource::open(&store, &server.streams().await, SourceOptions::default()).await.unwrap();
    // Claims and checkpoints are kept in memory: what is measured is the reading.
    let books = Arc::new(MemoryStore::new("/carts", Arc::new(System), Arc::new(System)).unwrap());
    let route = RouteSettings::new(RouteName::new("bench").unwrap());
    let relay = Relay::builder()
        .source(Arc::new(source))
        .store(books)
        .bookkeeping(Arc::new(MemoryBookkeeping::new(&System)))
        .route(route, Arc::new(NullSink));
    let relay = relay.build().unwrap();
    let (before, started) = (Processor::spent(), Instant::now());
    let relay = Running::start(relay);
    relay.until(RECORDS).await;
    let measured = measured(before, started);
    relay.stop().await;
    measured
}

/// Records a second, and processor seconds of this process a million.
fn measured(before: Processor, started: Instant) -> (f64, f64) {
    let (took, spent) = (started.elapsed().as_secs_f64(), Processor::spent().since(before).own);
    (RECORDS as f64 / took, spent * 1e6 / RECORDS as f64)
}

#[tokio::main]
async fn main() {
    if is_asked_to_serve() {
        return serve().await;
    }
    let server = Server::start().await;
    let table = server.client().await.describe_table().table_name(format!("{PREFIX}-entries")).send().await.unwrap();
    let (arn, streams) = (table.table.unwrap().latest_stream_arn.unwrap(), server.streams().await);
    bare(&streams, &arn).await;
    let rounds = std::env::args().nth(1).map_or(5, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        let (floor, spent_by_floor) = bare(&streams, &arn).await;
        let (ours, spent) = relay(&server).await;
        benches::report("stream of a table to a null sink", ours, floor, "events/s", 0.8);
        println!("processor time a million: ours {spent:.2} s; floor {spent_by_floor:.2} s");
    }
}

//! The suites that every source and business store pass, directly and through `PgBouncer`; and those of writers, read by this
//! source.

use std::sync::Arc;

use outbox::testing::conformance;

use crate::{fixture::Service, pooler::Pooler};

#[tokio::test(flavor = "multi_thread")]
async fn the_source_conforms() {
    conformance::source::all(async || Service::of_small_leaves().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_conforms() {
    conformance::business_store::all(async || Service::of_small_leaves().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_wrote_is_read_as_it_was_written() {
    conformance::writer::all(async || Service::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_conforms_through_a_pooler_of_transactions() {
    let pooler = Arc::new(Pooler::start(crate::server::url()).await);
    conformance::source::all(async || Service::of_small_leaves().await.behind(pooler.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_conforms_through_a_pooler_of_transactions() {
    let pooler = Arc::new(Pooler::start(crate::server::url()).await);
    conformance::business_store::all(async || Service::of_small_leaves().await.behind(pooler.clone())).await;
}

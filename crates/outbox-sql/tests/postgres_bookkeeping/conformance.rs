//! The suites that every backend passes.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Operator,
    testing::{BookkeepingUnderTest, conformance},
};

use crate::fixture::Fresh;

#[async_trait]
impl BookkeepingUnderTest for Fresh {
    async fn open(&self) -> Arc<dyn Operator> {
        Arc::new(Fresh::open(self).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bookkeeping_conforms() {
    conformance::bookkeeping::all(Fresh::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bookkeeping_conforms_for_operators() {
    conformance::operator::all(Fresh::new).await;
}

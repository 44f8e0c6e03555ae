//! The suites, through `PgBouncer`.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Operator,
    testing::{BookkeepingUnderTest, conformance},
};
use outbox_sql::postgres::ConnectOptions;

use crate::{fixture::Fresh, pooler::Pooler};

/// A bookkeeping that is opened through the pooler.
struct Pooled(Fresh, Arc<Pooler>);

#[async_trait]
impl BookkeepingUnderTest for Pooled {
    async fn open(&self) -> Arc<dyn Operator> {
        let options = ConnectOptions::parse(&self.1.before(self.0.database.url())).unwrap();
        Arc::new(self.0.open_with(options).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bookkeeping_conforms_through_a_pooler_of_transactions() {
    let pooler = Arc::new(Pooler::start(crate::server::url()).await);
    let fresh = async || Pooled(Fresh::new().await, pooler.clone());
    conformance::bookkeeping::all(fresh).await;
    conformance::operator::all(fresh).await;
}

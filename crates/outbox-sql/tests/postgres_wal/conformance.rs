//! The suite that every source passes.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Expected, Receipt, Source, WriteError,
    testing::{End, Opened, StoreUnderTest, Transaction, Write, WriterUnderTest, conformance},
    writer::Settled,
};
use outbox_sql::postgres::{
    Writer, settle,
    wal::{WalSettings, WalSource},
};

use crate::fixture::{Fixture, slot, streams};

/// Leaves as small as the suites need to see what is purged: of one entry each first, then of some hundred.
const SMALL_LEAVES: &str = "DO $$
DECLARE
    leaf record;
BEGIN
    DROP TABLE outbox.entries_1;
    DELETE FROM outbox.leaves;
    FOR leaf IN
        SELECT n AS low, n + 1 AS high FROM generate_series(1, 40) AS n
        UNION ALL SELECT n, least(n + 300, 2500) FROM generate_series(41, 2499, 300) AS n
        UNION ALL VALUES (2500, 2501), (2501, 100000)
        ORDER BY low
    LOOP
        EXECUTE format('CREATE TABLE outbox.%I (LIKE outbox.entries INCLUDING DEFAULTS)', 'entries_' || leaf.low);
        EXECUTE format(
            'ALTER TABLE outbox.entries ATTACH PARTITION outbox.%I FOR VALUES FROM (%s) TO (%s)',
            'entries_' || leaf.low, leaf.low, leaf.high
        );
        INSERT INTO outbox.leaves (name, low, high, drawn) VALUES ('entries_' || leaf.low, leaf.low, leaf.high, 0);
    END LOOP;
END
$$";

struct Service(Fixture);

impl Service {
    async fn of_small_leaves() -> Self {
        let service = Fixture::new().await;
        service.sql(SMALL_LEAVES).await;
        Self(service)
    }
}

fn expecting(call: &Write) -> Writer {
    match (call.expected, call.events.first().and_then(|event| event.key())) {
        (Expected::Sequence(sequence), Some(key)) => Writer::new().expecting(key.clone(), sequence),
        (Expected::Any, _) | (_, None) => Writer::new(),
    }
}

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut client = self.0.database.session().await;
        let transaction = client.transaction().await.unwrap();
        let mut receipts = Vec::new();
        for call in asked.writes {
            receipts.extend(expecting(&call).write_all(&transaction, call.events).await?);
        }
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        match asked.end {
            End::Commit => transaction.commit().await.unwrap(),
            End::RollBack => transaction.rollback().await.unwrap(),
        }
        Ok(receipts)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        settle(&self.0.database.session().await, receipt).await.unwrap()
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.0.store().await)
    }
}

#[async_trait]
impl StoreUnderTest for Service {
    async fn open(&self) -> Opened {
        let store = Arc::new(self.0.store().await);
        let settings = WalSettings::new().slot(slot());
        let source = WalSource::open(store.clone(), self.0.options(), settings).await.unwrap();
        // What the suite writes from here on comes from the log.
        streams(&source).await;
        Opened { source: Arc::new(source), store }
    }

    async fn back_up(&self) {
        self.0.database.back_up().await;
    }

    async fn restore(&self) {
        self.0.database.restore().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_conforms() {
    conformance::source::all(async || Service::of_small_leaves().await).await;
}

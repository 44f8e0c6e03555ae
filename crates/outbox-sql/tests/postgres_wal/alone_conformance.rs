//! What of the suite that every source passes is for rows without places, of which each is an event.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use outbox::{
    NewEvent, Receipt, Source, Start, WriteError,
    testing::{
        End, Opened, StoreUnderTest, Transaction, WriterUnderTest,
        conformance::source::{positions, reading, waking},
    },
    writer::Settled,
};
use outbox_sql::postgres::{Layout, Mapping};

use crate::foreign::{Foreign, begin};

const TABLE: &str =
    "CREATE TABLE outboxevent (id text NOT NULL, aggregatetype text, aggregateid text, type text, payload json)";

/// Writes a row an event, and deletes it at once.
struct Service {
    foreign: Foreign,
    /// How many events of a key there are.
    written: Mutex<BTreeMap<String, u32>>,
}

impl Service {
    async fn new() -> Self {
        let mapping = Mapping::of(Layout::Debezium).key(["aggregateid"]);
        let foreign = Foreign::with(TABLE, mapping).await;
        // Made with the first route: what is written from here on is what there is.
        begin(&foreign.open().await.unwrap(), "earlier", Start::Beginning).await.unwrap();
        Self { foreign, written: Mutex::default() }
    }

    /// As Outbox's own tables would name it.
    fn id(&self, event: &NewEvent) -> String {
        let key = event.key().map_or_else(String::new, ToString::to_string);
        let mut written = self.written.lock().unwrap();
        let number = written.entry(key.clone()).or_default();
        *number += 1;
        format!("{key}@1.{number}.0")
    }
}

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut client = self.foreign.database.session().await;
        let transaction = client.transaction().await.unwrap();
        for event in asked.writes.iter().flat_map(|write| &write.events) {
            let sql = "INSERT INTO outboxevent VALUES ($1, 'user', $2, $3, '{}')";
            let key = event.key().map(ToString::to_string);
            transaction.execute(sql, &[&self.id(event), &key, &event.kind()]).await.unwrap();
        }
        transaction.batch_execute("DELETE FROM outboxevent").await.unwrap();
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        match asked.end {
            End::Commit => transaction.commit().await.unwrap(),
            End::RollBack => transaction.rollback().await.unwrap(),
        }
        Ok(Vec::new())
    }

    async fn settled(&self, _: &Receipt) -> Settled {
        unreachable!("rows of others settle nothing")
    }

    async fn source(&self) -> Arc<dyn Source> {
        self.open().await.source
    }
}

#[async_trait]
impl StoreUnderTest for Service {
    async fn open(&self) -> Opened {
        let store = Arc::new(self.foreign.open().await.unwrap());
        Opened { source: store.clone(), store }
    }

    async fn back_up(&self) {
        unreachable!("a database has no log of its own")
    }

    async fn restore(&self) {
        unreachable!("a database has no log of its own")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_conforms() {
    reading::an_empty_store_reads_as_nothing(&Service::new().await).await;
    reading::what_commits_late_is_not_passed_by(Arc::new(Service::new().await)).await;
    reading::pages_of_any_size_give_the_same_records(&Service::new().await).await;
    reading::a_page_holds_to_its_limits(&Service::new().await).await;
    reading::at_least_one_record_is_given(&Service::new().await).await;
    reading::the_same_position_reads_the_same_records(&Service::new().await).await;
    reading::a_second_reader_sees_the_same(&Service::new().await).await;
    reading::who_is_behind_reads_on_whoever_read_further_before(&Service::new().await).await;
    reading::positions_rise(&Service::new().await).await;
    reading::a_dropped_read_consumes_nothing(&Service::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_conform() {
    positions::a_start_at_the_beginning_reads_everything(&Service::new().await).await;
    positions::a_start_now_reads_what_is_committed_later(&Service::new().await).await;
    positions::the_backlog_is_what_lies_behind(&Service::new().await).await;
    positions::a_foreign_position_is_refused(&Service::new().await).await;
    positions::an_unknown_partition_is_refused(&Service::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waking_conforms() {
    waking::a_commit_before_the_wait_wakes(&Service::new().await).await;
    waking::a_commit_during_the_wait_wakes(&Service::new().await).await;
    waking::every_reader_is_woken(&Service::new().await).await;
    waking::a_wait_rests_while_nothing_is_committed(&Service::new().await).await;
    waking::a_dropped_wait_loses_no_wake_up(&Service::new().await).await;
}

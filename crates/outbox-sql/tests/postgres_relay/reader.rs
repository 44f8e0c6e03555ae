//! A relay that reads and remembers what it was given.

use std::{collections::BTreeMap, time::Duration};

use outbox::{
    Content, Filter, PartitionId, Position, Record, RouteName, Source, Start, StoreError,
    source::Limit,
    store::{Registration, Witness},
};
use outbox_sql::postgres::PostgresStore;

pub(crate) const PLENTY: Limit = Limit { events: 1_000, bytes: 16 << 20 };
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Reader<S = PostgresStore> {
    pub(crate) store: S,
    pub(crate) position: Position,
    pub(crate) records: Vec<std::sync::Arc<Record>>,
}

pub(crate) fn partition() -> PartitionId {
    PartitionId::new("entries")
}

pub(crate) fn registration(start: Start) -> Registration {
    Registration {
        route: RouteName::new("route").unwrap(),
        filter: Filter::default(),
        start,
        start_position: None,
        max_event_bytes: 1 << 20,
        gapless: true,
        registered: "2026-11-21T09:30:00Z".parse().unwrap(),
    }
}

impl<S: Source> Reader<S> {
    /// From the beginning.
    pub(crate) async fn new(store: S) -> Self {
        Self::starting(store, Start::Beginning).await
    }

    pub(crate) async fn starting(store: S, start: Start) -> Self {
        let position = store.start(&partition(), &registration(start)).await.unwrap();
        Self { store, position, records: Vec::new() }
    }

    /// One read. Gives how many records came.
    pub(crate) async fn read(&mut self, limit: Limit) -> Result<usize, StoreError> {
        let page = self.store.read(&partition(), &self.position, limit).await?;
        let found = page.records.len();
        self.records.extend(page.records);
        self.position = page.next;
        Ok(found)
    }

    /// Reads until nothing comes.
    pub(crate) async fn read_all(&mut self) {
        while self.read(PLENTY).await.unwrap() > 0 {}
    }

    /// Reads until there are so many records, whatever fails meanwhile that may pass.
    pub(crate) async fn read_until(&mut self, records: usize) {
        let reading = async {
            while self.records.len() < records {
                match self.read(PLENTY).await {
                    Ok(0) => self.store.changed().await,
                    Ok(_) => {}
                    Err(error) => {
                        assert!(error.kind().retry(), "{error}");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("what was committed is read");
    }

    /// The keys and sequences that came, as they came.
    pub(crate) fn came(&self) -> Vec<String> {
        self.records.iter().map(|record| name(record)).collect()
    }

    pub(crate) fn witnesses(&self) -> Vec<Witness> {
        let newest_first = self.records.iter().rev();
        newest_first.map(|record| Witness { position: record.position.clone(), commit: record.commit }).collect()
    }

    /// Each key's entries came once, in their order, without a gap.
    pub(crate) fn assert_exact(&self) {
        let mut last = BTreeMap::<String, u64>::new();
        for record in &self.records {
            for event in record.events() {
                let (Some(key), Some(placing)) = (event.key(), event.placing()) else { continue };
                let sequence = last.entry(key.to_string()).or_default();
                assert_eq!(placing.place.sequence, *sequence + 1, "{key} came out of turn");
                *sequence += 1;
            }
        }
    }
}

pub(crate) fn name(record: &Record) -> String {
    match &record.content {
        Content::Events(events) => events[0].id().to_owned(),
        Content::Undecodable(row) => row.id.to_string(),
    }
}

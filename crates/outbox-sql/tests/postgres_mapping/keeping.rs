//! What is written into a mapped table: its status, and what retention removes. And what its owner does to it.

use std::{sync::Arc, time::Duration};

use outbox::{
    BusinessStore, ErrorKind, RouteName, RouteSettings, Source, Start,
    memory::{MemoryBookkeeping, MemorySink, SeededEntropy},
    relay::Relay,
    source::Limit,
    store::{Agreement, Registration, Retention},
};
use outbox_sql::postgres::{Layout, Mapping};

use crate::{
    fixture::{Service, types},
    reader::{Reader, partition, registration},
};

const FOUR: &str =
    "INSERT INTO Outbox (EventType, Payload, Status) SELECT 't' || n, '{}', 'PENDING' FROM generate_series(1, 4) AS n";

async fn statuses(service: &Service) -> String {
    service.text("SELECT string_agg(left(coalesce(Status, '-'), 4), ' ' ORDER BY Id) FROM Outbox").await
}

async fn keep(reader: &Reader) {
    while reader.store.keep_status(&reader.position).await.unwrap() {}
}

#[tokio::test]
async fn the_status_follows_what_every_route_is_past_and_nothing_is_read_by_it() {
    let service = Service::of_seed().await.prepared().await;
    assert!(service.store().await.status_interval().is_some());
    let late = service.database.session().await;
    late.batch_execute("BEGIN; INSERT INTO Outbox (EventType, Status) VALUES ('late', 'PENDING')").await.unwrap();
    service.sql(FOUR).await;
    service.sql("UPDATE Outbox SET Status = NULL WHERE EventType = 't1'; UPDATE Outbox SET Status = 'FAILED' WHERE EventType = 't2'").await;
    let mut reader = service.reader().await;
    keep(&reader).await;
    assert_eq!(statuses(&service).await, "- FAIL PEND PEND", "nothing was read");
    reader.read(Limit { events: 3, bytes: 1 << 20 }).await.unwrap();
    keep(&reader).await;
    assert_eq!(statuses(&service).await, "PROC FAIL PROC PEND", "in the middle of a range");
    reader.read_all().await;
    late.batch_execute("COMMIT").await.unwrap();
    keep(&reader).await;
    assert_eq!(statuses(&service).await, "PEND PROC FAIL PROC PROC", "what committed late was not read");
    reader.read_all().await;
    keep(&reader).await;
    assert_eq!(statuses(&service).await, "PROC PROC FAIL PROC PROC");
    assert_eq!(types(&reader), ["t1", "t2", "t3", "t4", "late"], "a status that says otherwise hides nothing");
    service.sql("INSERT INTO Outbox (EventType, Status) VALUES ('said to be done', 'PROCESSED')").await;
    reader.read_all().await;
    assert_eq!(types(&reader)[5..], ["said to be done"]);
}

#[tokio::test]
async fn many_rows_are_updated_in_batches_and_by_a_relay_that_begins_anew() {
    let service = Service::of_seed().await;
    service.sql("INSERT INTO Outbox (EventType, Status) SELECT 't', 'PENDING' FROM generate_series(1, 3500)").await;
    service.prepare().await;
    let mut reader = service.reader().await;
    let pending = "SELECT count(*) FROM Outbox WHERE Status = 'PENDING'";
    reader.read(Limit { events: 2_500, bytes: 16 << 20 }).await.unwrap();
    assert!(reader.store.keep_status(&reader.position).await.unwrap(), "there are more");
    assert_eq!(service.text(pending).await, "2500");
    keep(&reader).await;
    assert_eq!(service.text(pending).await, "1000");
    reader.read_all().await;
    keep(&reader).await;
    assert_eq!(service.text(pending).await, "0");
    service.sql("INSERT INTO Outbox (EventType, Status) SELECT 't', 'PENDING' FROM generate_series(1, 10)").await;
    reader.read_all().await;
    let anew = Reader { store: service.store().await, ..reader };
    keep(&anew).await;
    assert_eq!(service.text(pending).await, "0");
    assert_eq!(anew.records.len(), 3_510);
}

#[tokio::test]
async fn rows_that_no_route_was_to_publish_keep_their_status_and_stay() {
    let service = Service::of_seed().await.prepared().await;
    service.sql(FOUR).await;
    let store = service.store().await;
    let now = store.register(registration(Start::Now)).await.unwrap();
    service.sql(FOUR).await;
    let position = store.start(&partition(), &now).await.unwrap();
    let mut reader = Reader { store, position, records: Vec::new() };
    reader.read_all().await;
    assert_eq!(reader.records.len(), 4);
    keep(&reader).await;
    assert_eq!(statuses(&service).await, "PEND PEND PEND PEND PROC PROC PROC PROC");
    assert_eq!(reader.store.purge(&reader.position, Retention::Newest(0)).await.unwrap().entries, 3);
    assert_eq!(statuses(&service).await, "PEND PEND PEND PEND PROC", "but for the last that was read");
    // One that begins with the first row publishes all of them.
    let all = Registration { route: RouteName::new("all").unwrap(), ..registration(Start::Beginning) };
    reader.store.register(all).await.unwrap();
    let anew = Reader { store: service.store().await, ..reader };
    keep(&anew).await;
    assert_eq!(statuses(&service).await, "PROC PROC PROC PROC PROC");
}

#[tokio::test]
async fn rows_from_before_the_time_at_which_every_route_starts_keep_their_status() {
    let service = Service::of_seed().await.prepared().await;
    service.sql(FOUR).await;
    service.sql("UPDATE Outbox SET CreatedAt = '2019-01-01' WHERE Id <= 2").await;
    let store = service.store().await;
    let since = store.register(registration(Start::Time("2020-01-01T00:00:00Z".parse().unwrap()))).await.unwrap();
    let position = store.start(&partition(), &since).await.unwrap();
    let mut reader = Reader { store, position, records: Vec::new() };
    reader.read_all().await;
    keep(&reader).await;
    assert_eq!(types(&reader), ["t3", "t4"]);
    assert_eq!(statuses(&service).await, "PEND PEND PROC PROC");
}

#[tokio::test]
async fn a_relay_that_begins_looks_through_the_table_once() {
    let service = Service::of_seed().await;
    service.sql("INSERT INTO Outbox (EventType, Status) SELECT 't', 'PENDING' FROM generate_series(1, 2500)").await;
    service.prepare().await;
    let mut reader = service.reader().await;
    reader.read_all().await;
    assert!(reader.store.keep_status(&reader.position).await.unwrap(), "there are more");
    service.sql("UPDATE Outbox SET Status = 'PENDING' WHERE Id = 1").await;
    keep(&reader).await;
    let pending = "SELECT string_agg(Id::text, ' ') FROM Outbox WHERE Status = 'PENDING'";
    assert_eq!(service.text(pending).await, "1", "what was looked through is not looked through with every batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_publishes_every_row_once_and_keeps_the_status() {
    let service = Service::of_seed().await;
    service.sql(FOUR).await;
    service.prepare().await;
    let (books, sink) = (Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1))), Arc::new(MemorySink::default()));
    let store = Arc::new(service.store().await);
    let relay = Relay::builder()
        .source(store.clone())
        .store(store)
        .bookkeeping(books)
        .route(RouteSettings::new(RouteName::new("all").unwrap()), sink.clone())
        .build()
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        relay
            .run(async {
                let _ = stopped.await;
            })
            .await
    });
    service.sql(FOUR).await;
    let kept = async {
        while service.text("SELECT count(*) FROM Outbox WHERE Status = 'PROCESSED'").await != "8" {
            assert!(!running.is_finished(), "the relay ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), kept).await.expect("the status is kept");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(sink.accepted().len(), 8, "each once");
}

#[tokio::test]
async fn retention_deletes_what_every_route_is_past_but_for_the_last() {
    let service = Service::of_seed().await.prepared().await;
    service.sql(FOUR).await;
    let mut reader = service.reader().await;
    let purge =
        async |reader: &Reader, retention| reader.store.purge(&reader.position, retention).await.unwrap().entries;
    assert_eq!(purge(&reader, Retention::Newest(0)).await, 0, "nothing was read");
    reader.read(Limit { events: 2, bytes: 1 << 20 }).await.unwrap();
    assert_eq!(purge(&reader, Retention::Newest(0)).await, 1);
    reader.read_all().await;
    assert_eq!(purge(&reader, Retention::Off).await, 0);
    let long_ago = "2020-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(purge(&reader, Retention::Before(long_ago)).await, 0);
    assert_eq!(purge(&reader, Retention::Newest(2)).await, 1);
    service.sql("UPDATE Outbox SET CreatedAt = '2019-01-01' WHERE EventType = 't3'").await;
    assert_eq!(purge(&reader, Retention::Before(long_ago)).await, 1);
    assert_eq!(service.text("SELECT string_agg(EventType, ' ') FROM Outbox").await, "t4");
    reader.read_all().await;
    assert_eq!(types(&reader), ["t1", "t2", "t3", "t4"]);
}

#[tokio::test]
async fn retention_by_age_without_a_time_is_refused() {
    let service = Service { mapping: Mapping::of(Layout::PollingOutbox).without_time(), ..Service::of_seed().await };
    let service = service.prepared().await;
    let reader = service.reader().await;
    let retention = Retention::Before("2020-01-01T00:00:00Z".parse().unwrap());
    let error = reader.store.purge(&reader.position, retention).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("store.retention") && error.to_string().contains("mapping.time"), "{error}");
}

#[tokio::test]
async fn rows_that_their_owner_removes_say_nothing_but_others_in_their_place_do() {
    let service = Service::of_seed().await.prepared().await;
    service.sql(FOUR).await;
    let mut reader = service.reader().await;
    reader.read(Limit { events: 3, bytes: 1 << 20 }).await.unwrap();
    service.sql("DELETE FROM Outbox WHERE Id <= 3").await;
    let agreement = service.store().await.agreement(&reader.witnesses()).await.unwrap();
    assert!(matches!(agreement, Agreement::Whole), "{agreement:?}");
    reader.read_all().await;
    assert_eq!(types(&reader), ["t1", "t2", "t3", "t4"]);
    let witnesses = reader.witnesses();
    // The same id and transaction, as after a restored backup, and another event.
    service.sql("UPDATE Outbox SET EventType = 'other' WHERE Id = 4").await;
    let error = reader.store.read(&partition(), &reader.position, crate::reader::PLENTY).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HistoryChanged, "{error}");
    let agreement = service.store().await.agreement(&witnesses).await.unwrap();
    assert!(matches!(agreement, Agreement::Lost { .. }), "{agreement:?}");
}

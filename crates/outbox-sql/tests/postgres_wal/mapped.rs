//! A mapped table that can be polled, read in the log: the same records, by the same positions.

use std::sync::Arc;

use outbox::{BusinessStore, Content, PartitionId, Position, Record, Source, source::Limit};
use outbox_sql::postgres::{
    Layout, Mapping,
    wal::{WalSettings, WalSource},
};

use crate::{
    fixture::{slot, streams, until},
    foreign::{Foreign, SEED, kinds},
};

const BEGINNING: &str = "@0/0/0";

async fn read_from(source: &dyn Source, at: &mut Position) -> Vec<Arc<Record>> {
    let mut records = Vec::new();
    loop {
        let limit = Limit { events: 3, bytes: 1 << 20 };
        let page = source.read(&PartitionId::new("entries"), at, limit).await.unwrap();
        records.extend(page.records);
        *at = page.next;
        if !page.more {
            return records;
        }
    }
}

const EVERY_TYPE: &str = "CREATE TYPE mood AS ENUM ('happy', 'it''s'); CREATE DOMAIN name AS varchar(40); \
    CREATE TABLE \"All Types\" (id smallserial PRIMARY KEY, whose name, kind mood, part char(5), number integer, \
    eid uuid, body jsonb, at timestamptz DEFAULT now(), attributes json)";

fn every_type() -> Mapping {
    Mapping::new("All Types", "id", "kind", "body")
        .key(["whose", "part", "number"])
        .event_id("eid")
        .time("at")
        .attributes("attributes")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_gives_the_same_records_as_the_table() {
    let rows = "INSERT INTO \"All Types\" (whose, kind, part, number, eid, body, attributes) VALUES \
        ('a', 'happy', 'x', 1, gen_random_uuid(), '{\"b\": [1, 2.50],\"a\": null}', '{\"subject\": \"s\"}'), \
        ('b', 'it''s', '', -7, NULL, NULL, NULL), (NULL, 'happy', 'x', 2147483647, NULL, '\"text\"', NULL), \
        ('c', NULL, 'x', 1, NULL, '1', NULL), ('d', 'happy', 'x', 1, NULL, '1', '[]'), ('', 'happy', 'x', NULL, NULL, '1', '{}'); \
        INSERT INTO \"All Types\" (whose, kind, body, at) VALUES ('e', 'happy', '1', 'infinity'), \
        ('f', 'happy', '1', '-infinity'), ('g', 'happy', '1', '1969-12-31 23:59:59.25Z'), ('h', 'happy', '1', '12026-01-01Z'), \
        ('i', 'happy', '1', '2026-06-01 12:00:00.000001+02')";
    let service = Foreign::with(EVERY_TYPE, every_type()).await;
    let source = service.streaming().await;
    let (mut polled, mut streamed) = (Position::new(BEGINNING), Position::new(BEGINNING));
    read_from(&source, &mut streamed).await;
    service.sql(rows).await;
    let log = read_from(&source, &mut streamed).await;
    assert_eq!(source.status().polling, None);
    assert!(streamed.as_str().contains('~'), "{streamed} is in the log");
    let table = read_from(&service.store().await, &mut polled).await;
    assert_eq!(log.len(), 11);
    for (log, table) in log.iter().zip(&table) {
        assert_eq!(format!("{:?}", log.content), format!("{:?}", table.content));
        assert_eq!((log.commit, log.recorded), (table.commit, table.recorded), "{:?}", table.content);
        assert_eq!(log.position.record(), table.position.record());
    }
    assert!(matches!(&log[3].content, Content::Undecodable(row) if row.reason.contains("All Types")), "{:?}", log[3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_texts_of_any_media_come_as_they_are() {
    let mapping = Mapping::new("events", "id", "kind", "body").content_type("text/plain");
    let table = "CREATE TABLE events (id bigserial PRIMARY KEY, kind text, body text)";
    let service = Foreign::with(table, mapping).await;
    let source = service.streaming().await;
    let mut at = Position::new(BEGINNING);
    service.sql("INSERT INTO events (kind, body) VALUES ('t', 'no {JSON')").await;
    let records = read_from(&source, &mut at).await;
    assert_eq!(records[0].events()[0].data().map(|data| &**data), Some(&b"no {JSON"[..]));
    let table = "CREATE TABLE events (id bigserial PRIMARY KEY, kind text, body bytea)";
    let service = Foreign::with(table, Mapping::new("events", "id", "kind", "body")).await;
    let source = service.streaming().await;
    let mut at = Position::new(BEGINNING);
    service.sql("INSERT INTO events (kind, body) VALUES ('t', '\\x00ff'), ('t', NULL)").await;
    let records = read_from(&source, &mut at).await;
    assert_eq!(records[0].events()[0].data().map(|data| &**data), Some(&[0_u8, 255][..]));
    assert_eq!(records[0].events()[0].content_type(), Some("application/octet-stream"));
    assert_eq!(records[1].events()[0].data(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_table_changes_from_poll_to_log_and_back_and_its_status_is_kept() {
    let service = Foreign::with(SEED, Mapping::of(Layout::PollingOutbox)).await;
    let write = async |kind: &str| {
        service
            .sql(&format!("INSERT INTO Outbox (EventType, Payload, Status) VALUES ('{kind}', '{{}}', 'PENDING')"))
            .await;
    };
    let (store, mut at, mut records) = (service.store().await, Position::new(BEGINNING), Vec::new());
    write("polled").await;
    records.extend(read_from(&store, &mut at).await);
    let source = service.streaming().await;
    write("streamed").await;
    records.extend(read_from(&source, &mut at).await);
    drop(source);
    write("polled again").await;
    records.extend(read_from(&store, &mut at).await);
    let source = service.streaming().await;
    write("streamed again").await;
    records.extend(read_from(&source, &mut at).await);
    assert_eq!(kinds(&records), ["polled", "streamed", "polled again", "streamed again"]);
    assert_eq!(source.status().polling, None);
    while store.keep_status(&at).await.unwrap() {}
    assert_eq!(service.text("SELECT string_agg(DISTINCT Status, ',') FROM Outbox").await, "PROCESSED");
    let page = source.read(&PartitionId::new("entries"), &at, Limit { events: 9, bytes: 1 << 20 }).await.unwrap();
    assert!(page.records.is_empty(), "an update of the status is no event");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_rubbish_are_set_aside_and_the_rest_goes_on() {
    let mapping = Mapping::new("events", "id", "kind", "body");
    let service = Foreign::with("CREATE TABLE events (id bigserial PRIMARY KEY, kind text, body text)", mapping).await;
    let source = service.streaming().await;
    let mut at = Position::new(BEGINNING);
    service.sql("INSERT INTO events (kind, body) VALUES ('a', '1'), ('b', '{'), (NULL, '1'), ('c', '2')").await;
    let records = read_from(&source, &mut at).await;
    assert_eq!(kinds(&records), ["a", "?", "?", "c"]);
}

async fn refused(service: &Foreign, mapping: Mapping) -> String {
    let settings = WalSettings::new().slot(slot()).mapping(Some(mapping));
    let store = Arc::new(service.store().await);
    WalSource::open(store, service.options(), settings).await.err().expect("it is refused").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_does_not_tell_of_the_table_is_refused_with_the_remedy() {
    let service = Foreign::with(SEED, Mapping::of(Layout::PollingOutbox)).await;
    service.sql("ALTER PUBLICATION outbox SET TABLE outbox (id, eventtype)").await;
    let said = refused(&service, service.mapping.clone()).await;
    assert!(said.contains("ALTER PUBLICATION \"outbox\" SET TABLE \"public\".\"outbox\";"), "{said}");
    service.sql("DROP PUBLICATION outbox; CREATE PUBLICATION outbox FOR TABLE outbox.entries WITH (publish_via_partition_root)").await;
    let said = refused(&service, service.mapping.clone()).await;
    assert!(said.contains("ADD TABLE \"public\".\"outbox\";"), "{said}");
    service.sql("ALTER PUBLICATION outbox SET TABLE outbox").await;
    service.sql(&format!("ALTER DATABASE {} SET timezone = 'Europe/Berlin'", service.database.name)).await;
    let said = refused(&service, service.mapping.clone()).await;
    assert!(said.contains("mapping.time") && said.contains("Europe/Berlin") && said.contains("timestamptz"), "{said}");
    let settings = WalSettings::new().slot(slot()).mapping(Some(service.mapping.clone().without_time()));
    WalSource::open(Arc::new(service.store().await), service.options(), settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_server_works_out_is_not_in_the_log_and_only_refused_where_it_is_named() {
    let table = "CREATE TABLE events (id bigserial PRIMARY KEY, kind text, body json, \
        whose text GENERATED ALWAYS AS (body ->> 'user') STORED)";
    let mapping = Mapping::new("events", "id", "kind", "body");
    let service = Foreign::with(table, mapping.clone()).await;
    let said = refused(&service, mapping.key(["whose"])).await;
    assert!(said.contains("`whose`") && said.contains("poll the table"), "{said}");
    let source = service.streaming().await;
    let mut at = Position::new(BEGINNING);
    service.sql("INSERT INTO events (kind, body) VALUES ('a', '{\"user\": 1}')").await;
    assert_eq!(kinds(&read_from(&source, &mut at).await), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_changed_while_the_log_is_read_is_said_and_nothing_is_lost() {
    let mapping = Mapping::new("events", "id", "kind", "body");
    let service = Foreign::with("CREATE TABLE events (id bigserial PRIMARY KEY, kind text, body json)", mapping).await;
    let source = service.streaming().await;
    let mut at = Position::new(BEGINNING);
    service.sql("INSERT INTO events (kind, body) VALUES ('a', '1')").await;
    let mut records = read_from(&source, &mut at).await;
    service.sql("ALTER TABLE events ALTER body TYPE jsonb; INSERT INTO events (kind, body) VALUES ('b', '2')").await;
    until("it says why the table is polled", async || {
        source
            .status()
            .polling
            .is_some_and(|reason| reason.contains("`body`") && reason.contains("start the relay again"))
    })
    .await;
    records.extend(read_from(&source, &mut at).await);
    assert_eq!(kinds(&records), ["a", "b"]);
    let again = service.streaming().await;
    service.sql("INSERT INTO events (kind, body) VALUES ('c', '3')").await;
    records.extend(read_from(&again, &mut at).await);
    assert_eq!(kinds(&records), ["a", "b", "c"]);
    streams(&again).await;
}

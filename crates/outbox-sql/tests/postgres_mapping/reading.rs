//! What is read of a mapped table.

use outbox::{BusinessStore, Content, Source, Start, source::Limit};
use outbox_sql::postgres::{Layout, Mapping};

use crate::{
    fixture::{Service, types},
    reader::{PLENTY, Reader, partition, registration},
};

#[tokio::test]
async fn old_rows_come_once_and_first_though_the_table_is_not_rewritten() {
    let service = Service::of_seed().await;
    service.sql("INSERT INTO Outbox (EventType, Payload, Status) SELECT 'old' || n, '{}', 'PENDING' FROM generate_series(1, 5) AS n").await;
    let file = service.text("SELECT pg_relation_filenode('outbox')").await;
    // It has a number before the column is there, and writes after.
    let early = service.database.session().await;
    early.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    service.prepare().await;
    assert_eq!(service.text("SELECT pg_relation_filenode('outbox')").await, file);
    early.batch_execute("INSERT INTO Outbox (EventType, Payload) VALUES ('early', '{}')").await.unwrap();
    service.sql("INSERT INTO Outbox (EventType, Payload) VALUES ('new', '{}')").await;
    let mut reader = service.reader().await;
    reader.read(Limit { events: 3, bytes: 1 << 20 }).await.unwrap();
    reader.read_all().await;
    assert_eq!(types(&reader), ["old1", "old2", "old3", "old4", "old5", "new"]);
    early.batch_execute("COMMIT").await.unwrap();
    reader.read_all().await;
    assert_eq!(types(&reader)[6..], ["early"]);
}

#[tokio::test]
async fn a_start_now_leaves_old_rows_behind_and_a_start_at_a_time_those_before() {
    let service = Service::of_seed().await;
    service.sql("INSERT INTO Outbox (EventType, CreatedAt) SELECT 'h' || n, '2026-11-21'::date + n * interval '1 hour' FROM generate_series(1, 9) AS n").await;
    service.prepare().await;
    let mut now = Reader::starting(service.store().await, Start::Now).await;
    let zone = service.text("SELECT '2026-11-21 06:30'::timestamp::timestamptz AT TIME ZONE 'UTC'").await;
    let time = Start::Time(format!("{}Z", zone.replace(' ', "T")).parse().unwrap());
    let mut later = Reader::starting(service.store().await, time).await;
    service.sql("INSERT INTO Outbox (EventType) VALUES ('new')").await;
    now.read_all().await;
    later.read_all().await;
    assert_eq!(types(&now), ["new"]);
    assert_eq!(types(&later), ["h7", "h8", "h9", "new"]);
}

#[tokio::test]
async fn an_event_is_what_its_columns_say_and_has_no_place() {
    let table = "CREATE SCHEMA \"App\"; CREATE TYPE kind AS ENUM ('user.created'); CREATE TABLE \"App\".\"OutBox Events\" (seq bigint GENERATED ALWAYS AS IDENTITY \
        PRIMARY KEY, eid uuid NOT NULL, tenant text, number integer, \"Type\" kind, body bytea, at timestamptz, extra jsonb)";
    let mapping = Mapping::new("App.outbox events", "seq", "type", "body")
        .content_type("image/png")
        .event_id("eid")
        .key(["tenant", "number"])
        .time("at")
        .attributes("extra");
    let service = Service::with(table, mapping).await.prepared().await;
    service.sql("INSERT INTO \"App\".\"OutBox Events\" (eid, tenant, number, \"Type\", body, at, extra) VALUES \
        ('00000000-0000-0000-0000-00000000000a', 'north', 42, 'user.created', '\\x00ff', '2026-11-21 09:30Z', '{\"subject\": \"s\", \"n\": 7}'), \
        ('00000000-0000-0000-0000-00000000000b', NULL, 42, 'user.created', NULL, NULL, NULL)").await;
    let mut reader = service.reader().await;
    reader.read_all().await;
    let (first, second) = (&reader.records[0].events()[0], &reader.records[1].events()[0]);
    assert_eq!(
        (first.id(), first.source(), first.kind()),
        ("00000000-0000-0000-0000-00000000000a", "/users", "user.created")
    );
    assert_eq!(first.key().map(outbox::Key::as_str), Some("north/42"));
    assert_eq!((first.subject(), first.content_type()), (Some("s"), Some("image/png")));
    assert_eq!(first.data().map(|data| &data[..]), Some(&b"\x00\xff"[..]));
    assert_eq!(reader.records[0].recorded, "2026-11-21T09:30:00Z".parse().unwrap());
    assert!(first.placing().is_none() && second.key().is_none() && second.data().is_none());
}

#[tokio::test]
async fn an_event_without_an_id_gets_the_same_one_whenever_it_is_read() {
    let service = Service::of_seed().await.prepared().await;
    service
        .sql("INSERT INTO Outbox (EventType, Payload, Status) SELECT 't', '{}', 'PENDING' FROM generate_series(1, 3)")
        .await;
    let mut first = service.reader().await;
    first.read_all().await;
    service
        .sql("UPDATE Outbox SET Status = 'PROCESSED', Payload = '{\"erased\": true}'; SET timezone = 'Asia/Tokyo'")
        .await;
    let mut second = service.reader().await;
    second.read_all().await;
    assert_eq!(first.came(), second.came());
    let mut ids = first.came();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has its own: {ids:?}");
}

#[tokio::test]
async fn debeziums_layout_is_read_by_an_id_that_was_added() {
    let table = "CREATE TABLE outboxevent (id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype varchar(255) NOT NULL, \
        aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)";
    let write = "INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) VALUES ('order', '42', 'placed', '{\"n\": 1}')";
    let service = Service::with(table, Mapping::of(Layout::Debezium)).await;
    service.sql(write).await;
    let refused = service.refusal().await;
    assert!(refused.contains("no growing id") && refused.contains("GENERATED ALWAYS AS IDENTITY UNIQUE"), "{refused}");
    service.sql("ALTER TABLE outboxevent ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE").await;
    let mapping = Mapping::of(Layout::Debezium).id("seq");
    let service = Service { mapping, ..service }.prepared().await;
    service.sql(write).await;
    // As Debezium's own extension does, where the log is read.
    let at_once = format!("BEGIN; {write}; DELETE FROM outboxevent");
    let error = service.client.batch_execute(&at_once).await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("never be published"), "{error:?}");
    service.sql("ROLLBACK; BEGIN; DELETE FROM outboxevent; ROLLBACK").await;
    let mut reader = service.reader().await;
    reader.read_all().await;
    assert_eq!(types(&reader), ["placed", "placed"]);
    let event = &reader.records[0].events()[0];
    assert_eq!(event.key().map(outbox::Key::as_str), Some("order/42"));
    assert_eq!(event.data().map(|data| &data[..]), Some(&b"{\"n\": 1}"[..]));
    service.sql("ALTER TABLE outboxevent DISABLE TRIGGER ALL").await;
    let refused = service.refusal().await;
    assert!(refused.contains("CREATE OR REPLACE TRIGGER"), "{refused}");
    assert_eq!(service.text(&format!("SELECT count(*) FROM outboxevent WHERE id = '{}'", event.id())).await, "1");
}

#[tokio::test]
async fn a_row_of_rubbish_is_set_aside_and_the_rest_goes_on() {
    let table = "CREATE TABLE events (id bigserial PRIMARY KEY, kind text, body text, whose text, extra jsonb)";
    let mapping = Mapping::new("events", "id", "kind", "body").key(["whose"]).attributes("extra");
    let service = Service::with(table, mapping).await.prepared().await;
    let rubbish = [
        ("kind", "(kind, body) VALUES (NULL, '1')"),
        ("body", "(kind, body) VALUES ('t', 'no json')"),
        ("whose", "(kind, body, whose) VALUES ('t', '1', '')"),
        ("whose", "(kind, body, whose) VALUES ('t', '1', repeat('x', 600))"),
        ("extra", "(kind, body, extra) VALUES ('t', '1', '[1]')"),
    ];
    service.sql("INSERT INTO events (kind, body) VALUES ('first', '1')").await;
    for (_, row) in rubbish {
        service.sql(&format!("INSERT INTO events {row}")).await;
    }
    service.sql("INSERT INTO events (kind, body, whose) VALUES ('last', '{\"a\": 1}', 'me')").await;
    let mut reader = service.reader().await;
    reader.read_all().await;
    assert_eq!(types(&reader), ["first", "?", "?", "?", "?", "?", "last"]);
    for (record, (column, row)) in reader.records[1..].iter().zip(rubbish) {
        let Content::Undecodable(found) = &record.content else { panic!("{row} was read as an entry") };
        assert!(
            found.reason.contains("`public.events`") && found.reason.contains(&format!("`{column}`")),
            "{}",
            found.reason
        );
    }
}

#[tokio::test]
async fn a_route_is_not_gapless_where_nothing_can_be_counted() {
    let service = Service::of_seed().await.prepared().await;
    let registered = service.store().await.register(registration(Start::Beginning)).await.unwrap();
    assert!(!registered.gapless);
}

#[tokio::test]
async fn a_few_new_rows_are_found_by_an_index_though_ids_are_no_bigints() {
    let service = Service::of_seed().await.prepared().await;
    service.sql("ALTER TABLE outbox SET (autovacuum_enabled = off)").await;
    let fill = "INSERT INTO Outbox (EventType, Payload) SELECT 't', '{}' FROM generate_series(1, 50000)";
    service.sql(fill).await;
    let mut reader = Reader::starting(service.store().await, Start::Now).await;
    service.sql(fill).await;
    assert_eq!(reader.read(PLENTY).await.unwrap(), 1_000);
    let touched = "SELECT (pg_stat_get_tuples_returned('outbox'::regclass) + coalesce((SELECT sum(pg_stat_get_tuples_returned(indexrelid)) \
        FROM pg_index WHERE indrelid = 'outbox'::regclass), 0))::bigint FROM pg_stat_force_next_flush()";
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'";
    let ended = async |reader: &mut Reader| {
        drop(std::mem::replace(&mut reader.store, service.store().await));
        let wait = async {
            while service.text(sessions).await != "1" {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("the sessions end");
        service.text(touched).await.parse::<i64>().unwrap()
    };
    let before = ended(&mut reader).await;
    for _ in 0..10 {
        assert_eq!(reader.read(PLENTY).await.unwrap(), 1_000);
    }
    let after = ended(&mut reader).await;
    assert!(after - before < 25_000, "10 pages of 1,000: {} rows were touched", after - before);
    let backlog = reader.store.backlog(&partition(), &reader.position).await.unwrap();
    assert!(!backlog.exact && (39_000..=50_000).contains(&backlog.entries), "{backlog:?}");
    assert!(backlog.oldest.is_some());
}

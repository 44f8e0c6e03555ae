//! The writers for `tokio-postgres` and `sqlx`.

use outbox::{NewEvent, WriteError, writer::Settled};
use outbox_sql::postgres::{Writer, settle, write};

use crate::counted;
use crate::fixture::{Fixture, event, key, keyless, place, writer};

/// Everything of a row but what names the row.
const ROWS: &str = "SELECT sequence, incarnation, count, commit_id, recorded_at, after, type, event_id, content_type, \
    data, data_bytes, attributes::json, more::json, previous_id IS NULL AS first FROM outbox.entries ORDER BY id";

#[tokio::test]
async fn the_rust_writer_and_the_function_write_the_same_rows() {
    let fixture = Fixture::new().await;
    let mut client = fixture.database.session().await;
    let written = || {
        let builder = NewEvent::builder("order.placed").key("a").id("mine").subject("s").extension("n", 7);
        [builder.json(&serde_json::json!({ "units": 3 })).build().unwrap(), event("b"), event("b")]
    };
    for _ in 0..2 {
        let transaction = client.transaction().await.unwrap();
        writer().write_all(&transaction, written()).await.unwrap();
        transaction.commit().await.unwrap();
    }
    let by_rust = fixture.rows(ROWS).await;
    fixture.sql("TRUNCATE outbox.entries, outbox.heads").await;
    let commit = &by_rust[0][by_rust[0].find("commit_id\":\"").unwrap() + 12..][..36];
    for _ in 0..2 {
        fixture
            .sql(&format!(
                r#"SELECT outbox.write('a', 'order.placed', '{{"units":3}}', event_id => 'mine', commit_id => '{commit}',
                attributes => '{{"subject": "s", "n": 7}}', recorded_at => '2026-11-21T09:30:00.250Z');
                SELECT outbox.write_all('[{{"key": "b", "type": "order.placed", "data": {{"units":3}}}},
                {{"key": "b", "type": "order.placed", "data": {{"units":3}}}}]', '{commit}', '2026-11-21T09:30:00.250Z')"#
            ))
            .await;
    }
    let plain = |rows: Vec<String>| rows.iter().map(|row| row.replace(' ', "")).collect::<Vec<_>>();
    let (by_rust, by_sql) = (plain(by_rust), plain(fixture.rows(ROWS).await));
    // jsonb puts the shorter name first, as Rust does here by the alphabet.
    assert_eq!(by_rust, by_sql);
}

#[tokio::test]
async fn a_refusal_leaves_the_transaction_and_none_of_its_call() {
    let fixture = Fixture::new().await;
    fixture.sql("UPDATE outbox.meta SET max_event_bytes = 100").await;
    let mut client = fixture.database.session().await;
    let transaction = client.transaction().await.unwrap();
    let writer = Writer::new();
    assert_eq!(writer.write(&transaction, event("a")).await.unwrap().first, Some(place(1)));
    let large = NewEvent::builder("t").key("z").bytes("text/plain", "x".repeat(101)).build().unwrap();
    let refused = writer.write_all(&transaction, [event("a"), keyless(), large]).await.unwrap_err();
    assert!(matches!(refused, WriteError::TooLarge { index: 2, bytes: 101, limit: 100 }), "{refused}");
    let stale = writer.expecting(key("b"), 4).write_all(&transaction, [event("a"), event("b"), event("c")]).await;
    assert!(matches!(stale, Err(WriteError::Conflict { expected: 4, actual: 0, .. })), "{stale:?}");
    let two = writer.expecting(key("b"), 0).expecting(key("a"), 7).write_all(&transaction, [event("b")]).await;
    assert!(
        matches!(&two, Err(WriteError::Conflict { key: named, expected: 7, actual: 1 }) if *named == key("a")),
        "{two:?}"
    );
    transaction.commit().await.unwrap();
    assert_eq!(fixture.rows("SELECT key, sequence FROM outbox.heads").await, [r#"{"key":"a","sequence":1}"#]);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, 1);
}

#[tokio::test]
async fn a_version_that_is_expected_of_several_keys_is_looked_at_for_all() {
    let fixture = Fixture::new().await;
    let mut client = fixture.database.session().await;
    let transaction = client.transaction().await.unwrap();
    write(&transaction, [event("b")]).await.unwrap();
    let expecting = Writer::new().expecting(key("a"), 0).expecting(key("b"), 1).expecting(key("z"), 0);
    let receipts = expecting.write_all(&transaction, [event("c"), event("b"), event("a"), keyless()]).await.unwrap();
    let places: Vec<_> = receipts.iter().map(|receipt| receipt.first).collect();
    assert_eq!(places, [Some(place(1)), Some(place(2)), Some(place(1)), None]);
    transaction.commit().await.unwrap();
    let heads = "SELECT string_agg(key || sequence, ' ' ORDER BY key) AS heads FROM outbox.heads";
    assert_eq!(fixture.rows(heads).await, [r#"{"heads":"a1 b2 c1"}"#], "a key that is only looked at gets no head");
}

#[tokio::test]
async fn a_key_that_is_expected_to_stay_is_held_until_the_end() {
    let fixture = Fixture::new().await;
    fixture.sql("SELECT outbox.write('known', 't')").await;
    let mut client = fixture.database.session().await;
    let transaction = client.transaction().await.unwrap();
    let expecting = Writer::new().expecting(key("known"), 1).expecting(key("new"), 0);
    expecting.write(&transaction, event("other")).await.unwrap();
    let mut beside = fixture.database.session().await;
    beside.batch_execute("SET lock_timeout = '50ms'").await.unwrap();
    for name in ["known", "new"] {
        let other = beside.transaction().await.unwrap();
        let refused = write(&other, [event(name)]).await.unwrap_err();
        assert!(matches!(refused, WriteError::RetryTransaction { .. }), "{name}: {refused}");
        other.rollback().await.unwrap();
    }
    transaction.commit().await.unwrap();
    let other = beside.transaction().await.unwrap();
    assert_eq!(write(&other, [event("new")]).await.unwrap()[0].first, Some(place(1)));
}

#[tokio::test]
async fn many_events_are_one_round_trip() {
    let fixture = Fixture::new().await;
    let (mut client, turns) = counted::session(fixture.database.url()).await;
    let transaction = client.transaction().await.unwrap();
    let before = turns();
    let events: Vec<_> = (0..500).map(|number| event(&format!("k{}", number % 50))).collect();
    assert_eq!(write(&transaction, events).await.unwrap().len(), 50);
    assert_eq!(turns() - before, 1);
    transaction.commit().await.unwrap();
    assert_eq!(fixture.number("SELECT sum(count) FROM outbox.entries").await, 500);
}

#[tokio::test]
async fn nothing_to_write_asks_the_server_nothing() {
    let fixture = Fixture::new().await;
    let mut client = fixture.database.session().await;
    let transaction = client.transaction().await.unwrap();
    assert!(transaction.batch_execute("SELECT 1 / 0").await.is_err());
    assert_eq!(write(&transaction, []).await.unwrap(), [], "the transaction is aborted, so that asking would fail");
}

#[tokio::test]
async fn missing_tables_a_missing_identity_and_missing_rights_are_named_with_the_remedy() {
    let fixture = Fixture::new().await;
    let mut client = fixture.database.session().await;
    let refused = async |client: &mut tokio_postgres::Client| {
        let transaction = client.transaction().await.unwrap();
        write(&transaction, [event("a")]).await.unwrap_err()
    };
    fixture.sql("DELETE FROM outbox.meta").await;
    let error = refused(&mut client).await;
    assert!(matches!(&error, WriteError::Incompatible(text) if text.contains("outbox init")), "{error}");
    fixture.sql("DROP SCHEMA outbox CASCADE").await;
    let error = refused(&mut client).await;
    assert!(matches!(&error, WriteError::Incompatible(text) if text.contains("outbox init")), "{error}");
}

#[tokio::test]
async fn a_commit_is_settled_on_another_connection() {
    let fixture = Fixture::new().await;
    let mut client = fixture.database.session().await;
    let transaction = client.transaction().await.unwrap();
    let committed = write(&transaction, [event("a"), keyless()]).await.unwrap();
    transaction.commit().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let lost = write(&transaction, [event("a"), keyless()]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(settle(&fixture.client, &committed[0]).await.unwrap(), Settled::Committed);
    assert_eq!(settle(&fixture.client, &committed[1]).await.unwrap(), Settled::Committed);
    assert_eq!(settle(&fixture.client, &lost[0]).await.unwrap(), Settled::NotCommitted);
    assert_eq!(settle(&fixture.client, &lost[1]).await.unwrap(), Settled::Unknown);
}

#[cfg(feature = "sqlx-postgres")]
mod by_sqlx {
    use sqlx::{Connection, PgConnection};

    use super::*;

    #[tokio::test]
    async fn sqlx_gets_the_same_typed_errors() {
        let fixture = Fixture::new().await;
        fixture.sql("UPDATE outbox.meta SET max_event_bytes = 100").await;
        let mut connection = PgConnection::connect(fixture.database.url()).await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        let writer = Writer::new();
        assert_eq!(writer.write_sqlx(&mut transaction, event("a")).await.unwrap().first, Some(place(1)));
        let large = NewEvent::builder("t").key("z").bytes("text/plain", "x".repeat(101)).build().unwrap();
        let refused = writer.write_all_sqlx(&mut transaction, [event("a"), keyless(), large]).await.unwrap_err();
        assert!(matches!(refused, WriteError::TooLarge { index: 2, bytes: 101, limit: 100 }), "{refused}");
        let stale = writer.expecting(key("b"), 4).write_all_sqlx(&mut transaction, [event("a"), event("b")]).await;
        assert!(matches!(stale, Err(WriteError::Conflict { expected: 4, actual: 0, .. })), "{stale:?}");
        transaction.commit().await.unwrap();
        assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, 1);
        fixture.sql("DROP SCHEMA outbox CASCADE").await;
        let mut transaction = connection.begin().await.unwrap();
        let error = writer.write_sqlx(&mut transaction, event("a")).await.unwrap_err();
        assert!(matches!(&error, WriteError::Incompatible(text) if text.contains("outbox init")), "{error}");
    }
}

//! Making the schema, and making sure of it.

use outbox::ErrorKind;
use outbox_sql::postgres::{InitOptions, check, init, schema};

use crate::{
    fixture::Fixture,
    server::{Database, session, url},
};

#[tokio::test]
async fn making_the_schema_again_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.sql("SELECT outbox.write('k', 't')").await;
    let before = check(&fixture.client).await.unwrap();
    let mut client = fixture.database.session().await;
    assert_eq!(init(&mut client, &InitOptions::new("/orders")).await.unwrap(), before);
    assert_eq!((before.layout, before.incarnation, before.producer.as_str()), (1, 1, "/orders"));
    assert_eq!(before.store_id.len(), 32);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, 1);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.leaves").await, 1);
}

#[tokio::test]
async fn making_it_again_waits_for_no_writer_and_holds_none_up() {
    let fixture = Fixture::new().await;
    fixture.sql("BEGIN; SELECT outbox.write('k', 't'), outbox.write(NULL, 't')").await;
    let mut client = fixture.database.session().await;
    client.batch_execute("SET lock_timeout = '1ms'").await.unwrap();
    init(&mut client, &InitOptions::new("/orders")).await.unwrap();
    fixture.sql("SELECT outbox.write('k', 't'); COMMIT").await;
    let beside = fixture.database.session().await;
    beside.batch_execute("BEGIN").await.unwrap();
    beside.batch_execute(&schema::sql()).await.unwrap();
    fixture.sql("SET lock_timeout = '1ms'; SELECT outbox.write('k', 't'), outbox.write('other', 't')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn making_it_again_waits_for_what_a_relay_does_to_the_leaves() {
    let fixture = Fixture::new().await;
    let relay = fixture.database.session().await;
    relay.batch_execute("BEGIN; SELECT outbox.drop_leaf()").await.unwrap();
    let mut initialising = fixture.database.session().await;
    let initialising =
        tokio::spawn(async move { init(&mut initialising, &InitOptions::new("/orders")).await.map(drop) });
    fixture.until_waiting(1).await;
    let printed = fixture.database.session().await;
    let printed = tokio::spawn(async move { printed.batch_execute(&schema::sql()).await });
    fixture.until_waiting(2).await;
    relay.batch_execute("COMMIT").await.unwrap();
    initialising.await.unwrap().unwrap();
    printed.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_that_make_it_at_once_make_one() {
    let database = Database::new().await;
    let mut making = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = database.session().await;
        making.spawn(async move { init(&mut client, &InitOptions::new("/orders")).await.unwrap().store_id });
    }
    let ids = making.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn the_printed_sql_makes_all_but_the_identity() {
    let database = Database::new().await;
    let mut client = database.session().await;
    let error = check(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("outbox init"), "{error}");
    client.batch_execute(&schema::sql()).await.unwrap();
    client.batch_execute(&schema::sql()).await.unwrap();
    let error = check(&client).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Incompatible && error.to_string().contains("outbox init"), "{error}");
    init(&mut client, &InitOptions::new("/orders")).await.unwrap();
    client.batch_execute("SELECT outbox.write('k', 't')").await.unwrap();
}

#[tokio::test]
async fn another_producer_and_a_newer_layout_are_refused() {
    let fixture = Fixture::new().await;
    let mut client = fixture.database.session().await;
    let error = init(&mut client, &InitOptions::new("/billing")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("`/orders`"), "{error}");
    let error = init(&mut client, &InitOptions::new("not a uri")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("producer"), "{error}");
    fixture.sql("UPDATE outbox.meta SET layout = 2").await;
    for error in [init(&mut client, &InitOptions::new("/orders")).await.unwrap_err(), check(&client).await.unwrap_err()]
    {
        assert!(
            error.kind() == ErrorKind::Incompatible && error.to_string().contains("upgrade this program"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused() {
    let server = session(url()).await;
    let name = format!("outbox_ascii_{}", std::process::id());
    server
        .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"))
        .await
        .unwrap();
    let (front, _) = url().rsplit_once('/').unwrap();
    let mut client = session(&format!("{front}/{name}")).await;
    let error = init(&mut client, &InitOptions::new("/orders")).await.unwrap_err();
    server.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    assert!(error.kind() == ErrorKind::Incompatible && error.to_string().contains("UTF8"), "{error}");
}

#[tokio::test]
async fn what_writers_know_of_the_database_changes_with_its_row() {
    let fixture = Fixture::new().await;
    let writer = fixture.database.session().await;
    let write = "SELECT outbox.write('k', 't', 'xx')";
    writer.batch_execute(write).await.unwrap();
    fixture.sql("BEGIN; UPDATE outbox.meta SET incarnation = 2, max_event_bytes = 1").await;
    writer.batch_execute(write).await.unwrap();
    fixture.sql("ROLLBACK").await;
    writer.batch_execute(write).await.unwrap();
    fixture.sql("UPDATE outbox.meta SET incarnation = 2").await;
    writer.batch_execute(write).await.unwrap();
    fixture.sql("UPDATE outbox.meta SET max_event_bytes = 1").await;
    assert!(crate::fixture::refusal(&writer, write).await.starts_with("OX002"));
    let incarnations = "SELECT string_agg(incarnation || after, ' ' ORDER BY sequence) AS are FROM outbox.entries";
    assert_eq!(fixture.rows(incarnations).await, [r#"{"are":"10.0.0 11.1.0 11.2.0 21.3.0"}"#]);
    let mut client = fixture.database.session().await;
    init(&mut client, &InitOptions::new("/orders")).await.unwrap();
    assert!(crate::fixture::refusal(&writer, write).await.starts_with("OX002"), "init forgets nothing");
    fixture.sql("TRUNCATE outbox.meta").await;
    assert!(crate::fixture::refusal(&writer, write).await.starts_with("OX003"));
}

//! What handlers do with the transaction.

use outbox::{
    ErrorKind, Event, StoreError,
    inbox::{Applied, InboxLayer, Seed},
    testing::conformance::inbox::InboxUnderTest,
};
use outbox_sql::postgres::{PostgresTx, handler_fn};
use tokio_postgres::Transaction;
use tower::Layer;

use crate::fixture::{Bench, event, take, writing};

const INSERT: &str = "INSERT INTO effects (id) VALUES ($1)";

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_async_function_writes_through_the_transaction() {
    let bench = Bench::new();
    let handler = handler_fn(async |tx: &Transaction<'_>, event: &Event| -> Result<(), tokio_postgres::Error> {
        tx.execute(INSERT, &[&event.id()]).await?;
        Ok(())
    });
    let service = InboxLayer::once(bench.open()).layer(handler);
    let applied = take(&service, vec![event("a", 1), event("b", 1), event("a", 1)]).await.unwrap();
    assert_eq!(applied, [Applied::Applied, Applied::Applied, Applied::Duplicate]);
    assert_eq!(bench.effects(), ["a@1.1.0", "b@1.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_is_an_attempt_that_failed_and_the_rest_of_the_batch_is_applied() {
    let bench = Bench::new();
    let handler = handler_fn(async |tx: &Transaction<'_>, event: &Event| -> Result<(), tokio_postgres::Error> {
        let id = event.key().is_none_or(|key| key.as_str() != "b").then(|| event.id());
        tx.execute(INSERT, &[&id]).await?;
        Ok(())
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let applied = take(&service, vec![event("a", 1), event("b", 1), event("c", 1)]).await.unwrap();
    assert!(matches!(applied[1], Applied::Retrying { attempts: 1, .. }), "{applied:?}");
    assert_eq!((&applied[0], &applied[2]), (&Applied::Applied, &Applied::Applied));
    assert_eq!(bench.effects(), ["a@1.1.0", "c@1.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_only_the_commit_refuses_is_an_attempt_that_failed_and_the_rest_of_the_batch_is_applied() {
    let bench = Bench::new();
    let tables = "CREATE TABLE customers (id text PRIMARY KEY); INSERT INTO customers VALUES ('a'), ('c'); \
                  CREATE TABLE orders (customer text REFERENCES customers DEFERRABLE INITIALLY DEFERRED)";
    bench.0.session().await.batch_execute(tables).await.unwrap();
    let handler = handler_fn(async |tx: &Transaction<'_>, event: &Event| -> Result<(), tokio_postgres::Error> {
        let customer = event.key().map(outbox::Key::as_str);
        tx.execute("INSERT INTO orders (customer) VALUES ($1)", &[&customer]).await?;
        tx.execute(INSERT, &[&event.id()]).await?;
        Ok(())
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let applied = take(&service, vec![event("a", 1), event("b", 1), event("c", 1)]).await.unwrap();
    let Applied::Retrying { attempts: 1, reason, .. } = &applied[1] else { panic!("{applied:?}") };
    assert!(reason.contains("foreign key"), "{reason}");
    assert_eq!((&applied[0], &applied[2]), (&Applied::Applied, &Applied::Applied));
    assert_eq!(bench.effects(), ["a@1.1.0", "c@1.1.0"]);
    assert_eq!(service.operator().totals().await.unwrap().counts.applied, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_joins_late_writes_its_state_with_the_marks_that_it_belongs_to() {
    let bench = Bench::new();
    let service = InboxLayer::in_order(bench.open()).layer(writing());
    let seed = |sequence| Seed {
        producer: "/orders".to_owned(),
        key: outbox::Key::new("a").unwrap(),
        place: outbox::Place::new(1, sequence, 0),
    };
    let refused = service.seed(vec![seed(7)], async |tx: &mut PostgresTx<'_>, _| {
        tx.transaction().execute(INSERT, &[&"copied"]).await.unwrap();
        Err(StoreError::new(ErrorKind::Unavailable, "the rest of the copy"))
    });
    refused.await.unwrap_err();
    assert!(bench.effects().is_empty());
    let seeding = service.seed(vec![seed(7)], async |tx: &mut PostgresTx<'_>, seeds| {
        let state = format!("copied up to {}", seeds[0].place);
        tx.transaction().execute(INSERT, &[&state]).await.unwrap();
        Ok(())
    });
    assert_eq!(seeding.await.unwrap().written, [seed(7)]);
    let applied = take(&service, vec![event("a", 7), event("a", 8)]).await.unwrap();
    assert_eq!(applied, [Applied::Duplicate, Applied::Applied]);
    assert_eq!(bench.effects(), ["copied up to 1.7.0", "a@1.8.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hides_a_failed_statement_is_told_and_nothing_is_recorded() {
    let bench = Bench::new();
    let handler = handler_fn(async |tx: &Transaction<'_>, event: &Event| {
        let _ = tx.execute(INSERT, &[&None::<String>]).await;
        let _ = tx.execute(INSERT, &[&event.id()]).await;
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let error = take(&service, vec![event("a", 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Invalid, false), "{error}");
    assert!(error.to_string().contains("savepoint"), "{error}");
    assert!(bench.effects().is_empty());
    assert_eq!(service.operator().totals().await.unwrap().counts.applied, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_the_transaction_is_told() {
    let bench = Bench::new();
    let handler = handler_fn(async |tx: &Transaction<'_>, event: &Event| -> Result<(), tokio_postgres::Error> {
        tx.execute(INSERT, &[&event.id()]).await?;
        tx.batch_execute("COMMIT").await
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let error = take(&service, vec![event("a", 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Invalid, true), "{error}");
    assert!(error.to_string().contains("must not"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_the_transaction_and_begins_another_is_told() {
    let bench = Bench::new();
    let handler = handler_fn(async |tx: &Transaction<'_>, event: &Event| -> Result<(), tokio_postgres::Error> {
        tx.execute(INSERT, &[&event.id()]).await?;
        tx.batch_execute("COMMIT; BEGIN").await
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let error = take(&service, vec![event("a", 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Invalid, true), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_durable_when_it_is_answered_though_others_of_this_role_are_not() {
    let bench = Bench::new();
    let session = bench.0.session().await;
    session.batch_execute("SET synchronous_commit = off").await.unwrap();
    let now = async || -> String { session.query_one("SHOW synchronous_commit", &[]).await.unwrap().get(0) };
    let none = ", '{}'".repeat(15);
    let record = format!("BEGIN; SELECT outbox_inbox.record('tests', 0, 0, 0, 0, 0, 0{none})");
    session.batch_execute(&record).await.unwrap();
    assert_eq!(now().await, "on");
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(now().await, "off", "a pooler gives the session to somebody else");
}

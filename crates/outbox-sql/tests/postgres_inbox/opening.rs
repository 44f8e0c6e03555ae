//! Making and opening an inbox.

use outbox::{
    ErrorKind, StoreError,
    inbox::{Answer, Applied, Chosen, InboxLayer},
};
use outbox_sql::postgres::{ConnectOptions, PostgresInbox, handler_fn};
use tower::Layer;

use crate::{
    fixture::{Bench, event, options, take, writing},
    server::Database,
};

async fn refused(database: &Database, consumer: &str) -> StoreError {
    let inbox = PostgresInbox::open(options(database), consumer).unwrap();
    take(&InboxLayer::once(inbox).layer(writing()), vec![event("a", 1)]).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_made_once_though_several_make_it_at_the_same_time() {
    let database = Database::new().await;
    let makers: Vec<_> = (0..4)
        .map(|number| {
            let reached = options(&database);
            tokio::spawn(async move { PostgresInbox::init(&reached, ["ledger", "mail"][number % 2]).await })
        })
        .collect();
    for maker in makers {
        maker.await.unwrap().unwrap();
    }
    assert_eq!(PostgresInbox::consumers(&options(&database)).await.unwrap(), ["ledger", "mail"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_not_there_is_not_made_in_silence() {
    let database = Database::new().await;
    let error = refused(&database, "ledger").await;
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    PostgresInbox::init(&options(&database), "ledger").await.unwrap();
    let error = refused(&database, "legder").await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("`legder`") && error.to_string().contains("`ledger`"), "{error}");
    let error = PostgresInbox::init(&options(&database), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_newer_version_are_refused_with_the_remedy() {
    let database = Database::new().await;
    PostgresInbox::init(&options(&database), "ledger").await.unwrap();
    database.session().await.batch_execute("UPDATE outbox_inbox.meta SET layout = 2").await.unwrap();
    let again = PostgresInbox::init(&options(&database), "ledger").await.unwrap_err();
    for error in [refused(&database, "ledger").await, again] {
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
        assert!(error.to_string().contains("layout 2") && error.to_string().contains("upgrade"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_another_version_are_named_with_the_remedy_and_put_in_place_by_init() {
    let bench = Bench::new();
    let session = bench.0.session().await;
    session.batch_execute("ALTER FUNCTION outbox_inbox.record RENAME TO record_of_old").await.unwrap();
    let error = refused(&bench.0, "tests").await;
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Incompatible, false), "{error}");
    assert!(error.to_string().contains("PostgresInbox::init"), "{error}");
    PostgresInbox::init(&options(&bench.0), "tests").await.unwrap();
    let service = InboxLayer::once(PostgresInbox::open(options(&bench.0), "tests").unwrap()).layer(writing());
    assert_eq!(take(&service, vec![event("a", 1)]).await.unwrap(), [Applied::Applied]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_statements_make_the_same_as_init() {
    let database = Database::new().await;
    let session = database.session().await;
    session.batch_execute(&format!("BEGIN; {} COMMIT", PostgresInbox::sql())).await.unwrap();
    session.batch_execute("INSERT INTO outbox_inbox.consumers (name) VALUES ('ledger')").await.unwrap();
    assert_eq!(PostgresInbox::consumers(&options(&database)).await.unwrap(), ["ledger"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_granted_rights_are_all_that_a_consumer_needs() {
    let bench = Bench::new();
    let role = format!("consumer_{}", std::process::id());
    let admin = bench.0.session().await;
    let made = format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; {}", PostgresInbox::grants(&role));
    admin.batch_execute(&made).await.unwrap();
    let (scheme, rest) = bench.0.url().split_once("://").unwrap();
    let url = format!("{scheme}://{role}@{}", rest.split_once('@').unwrap().1);
    let inbox = PostgresInbox::open(ConnectOptions::parse(&url).unwrap(), "tests").unwrap();
    let handler = handler_fn(
        async |_: &tokio_postgres::Transaction<'_>, event: &outbox::Event| {
            if event.id() == "a@1.1.0" { Answer::give_up("never") } else { Answer::Done }
        },
    );
    let service = InboxLayer::in_order(inbox).layer(handler);
    let applied = take(&service, vec![event("a", 1), event("a", 2), event("b", 1)]).await.unwrap();
    assert!(matches!(applied[..], [Applied::DeadLetter { .. }, Applied::Parked(_), Applied::Applied]), "{applied:?}");
    let chosen = service.operator().dead_letters(&Chosen::default(), 10).await;
    assert_eq!(chosen.unwrap().len(), 1);
    admin.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

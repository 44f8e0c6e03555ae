//! Making and opening a bookkeeping.

use outbox::{Bookkeeping, ErrorKind, StoreError};
use outbox_sql::postgres::{BookkeepingSchema, ConnectOptions, PostgresBookkeeping};

use crate::{
    fixture::{Fresh, options, take, unused_schema},
    server::Database,
};

async fn refused(database: &Database, schema: &BookkeepingSchema) -> StoreError {
    PostgresBookkeeping::open(options(database), schema.clone()).await.err().unwrap()
}

#[tokio::test]
async fn a_mistyped_name_makes_no_second_bookkeeping() {
    let (database, schema) = (Database::new().await, unused_schema());
    let error = refused(&database, &schema).await;
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    let said = error.to_string();
    assert!(said.contains(&schema.to_string()) && said.contains("outbox init"), "{said}");
    let made =
        database.session().await.query("SELECT FROM pg_namespace WHERE nspname = $1", &[&schema.to_string()]).await;
    assert!(made.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_given_once_though_several_make_it_at_the_same_time() {
    let (database, schema) = (Database::new().await, unused_schema());
    let options = options(&database);
    let makers: Vec<_> = (0..4)
        .map(|_| {
            let (options, schema) = (options.clone(), schema.clone());
            tokio::spawn(async move { PostgresBookkeeping::init(&options, &schema).await })
        })
        .collect();
    for maker in makers {
        maker.await.unwrap().unwrap();
    }
    let books = PostgresBookkeeping::open(options.clone(), schema.clone()).await.unwrap();
    let id = books.id().await.unwrap();
    assert_eq!(id.len(), 32);
    PostgresBookkeeping::init(&options, &schema).await.unwrap();
    assert_eq!(books.id().await.unwrap(), id, "making it is done once");
    assert_ne!(Fresh::new().await.open().await.id().await.unwrap(), id);
}

#[tokio::test]
async fn the_printed_statements_make_the_same_as_init() {
    let (database, schema) = (Database::new().await, BookkeepingSchema::default());
    let admin = database.session().await;
    admin.batch_execute(&format!("BEGIN; {} COMMIT", schema.sql())).await.unwrap();
    let books = PostgresBookkeeping::open(options(&database), schema).await.unwrap();
    take(&books).await;
}

#[tokio::test]
async fn a_role_that_may_make_no_schema_makes_the_bookkeeping_in_one_of_its_own() {
    let (database, schema) = (Database::new().await, unused_schema());
    let admin = database.session().await;
    let role = format!("owner_of_{schema}");
    admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA {schema} AUTHORIZATION {role}"))
        .await
        .unwrap();
    let (protocol, rest) = database.url().split_once("://").unwrap();
    let url = format!("{protocol}://{role}@{}", rest.split_once('@').unwrap().1);
    let options = ConnectOptions::parse(&url).unwrap();
    let other = PostgresBookkeeping::init(&options, &unused_schema()).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::NotPermitted, "{other}");
    PostgresBookkeeping::init(&options, &schema).await.unwrap();
    take(&PostgresBookkeeping::open(options, schema).await.unwrap()).await;
}

#[tokio::test]
async fn a_bookkeeping_of_a_newer_version_is_refused_with_the_remedy() {
    let fresh = Fresh::new().await;
    fresh.session().await.batch_execute(&fresh.named("UPDATE outbox_relay.bookkeeping SET layout = 2")).await.unwrap();
    let error = refused(&fresh.database, &fresh.schema).await;
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("layout 2") && error.to_string().contains("upgrade"), "{error}");
    let again = PostgresBookkeeping::init(&options(&fresh.database), &fresh.schema).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Incompatible);
}

#[tokio::test]
async fn an_encoding_in_which_not_every_event_can_be_kept_is_refused() {
    let database = Database::new().await;
    let (url, name) = (database.url(), format!("latin_{}", unused_schema()));
    let admin = database.session().await;
    let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'");
    admin.batch_execute(&sql).await.unwrap();
    let (server, rest) = url.rsplit_once('/').unwrap();
    let parameters = rest.split_once('?').map_or(String::new(), |(_, parameters)| format!("?{parameters}"));
    let options = ConnectOptions::parse(&format!("{server}/{name}{parameters}")).unwrap();
    let error = PostgresBookkeeping::init(&options, &unused_schema()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert!(error.to_string().contains("LATIN1") && error.to_string().contains("UTF8"), "{error}");
    admin.batch_execute(&format!("DROP DATABASE {name}")).await.unwrap();
}

//! A connection that breaks, against a real server.

use std::time::Duration;

use outbox::ErrorKind;
use tokio_postgres::types::Type;

use super::{ConnectOptions, Connection};

#[path = "../../../tests/postgres/server.rs"]
mod server;

const PID: &str = "SELECT pg_backend_pid()";

fn options(database: &server::Database) -> ConnectOptions {
    ConnectOptions::parse(database.url()).unwrap()
}

async fn pid(connection: &Connection) -> i32 {
    let client = connection.client().await.unwrap();
    client.limit().within("asking who we are", client.query_typed_one(PID, &[])).await.unwrap().get(0)
}

#[tokio::test]
async fn a_connection_that_broke_is_made_anew() {
    let database = server::Database::new().await;
    let connection = Connection::new(options(&database));
    let first = pid(&connection).await;
    assert_eq!(pid(&connection).await, first, "as long as it holds, it is the same");
    let killer = database.session().await;
    killer.query_typed("SELECT pg_terminate_backend($1)", &[(&first, Type::INT4)]).await.unwrap();
    let told = async {
        // The end of the session may be noticed by the call, or before it.
        loop {
            let client = connection.client().await.unwrap();
            match client.limit().within("asking who we are", client.query_typed_one(PID, &[])).await {
                Ok(row) if row.get::<_, i32>(0) == first => {}
                Ok(row) => return row.get::<_, i32>(0),
                Err(error) => assert!(error.kind() == ErrorKind::Unavailable && error.is_uncertain(), "{error}"),
            }
        }
    };
    let second = tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    assert_ne!(second, first);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up_with_its_connection() {
    let database = server::Database::new().await;
    let connection = Connection::new(options(&database).statement_timeout(Duration::from_millis(100)));
    let first = pid(&connection).await;
    {
        let client = connection.client().await.unwrap();
        let error = client.limit().within("waiting", client.query_typed("SELECT pg_sleep(60)", &[])).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.is_uncertain(), "{error}");
        assert!(error.to_string().starts_with("waiting: the database did not answer"), "{error}");
    }
    assert_ne!(pid(&connection).await, first);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_rolled_back() {
    let database = server::Database::new().await;
    database.session().await.batch_execute("CREATE TABLE t (n integer)").await.unwrap();
    let connection = Connection::new(options(&database));
    {
        let mut client = connection.client().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        transaction.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    }
    let client = connection.client().await.unwrap();
    let rows = client.limit().within("counting", client.query_typed("SELECT FROM t", &[])).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test]
async fn what_the_server_refuses_had_no_effect_and_shows_no_row() {
    let database = server::Database::new().await;
    let connection = Connection::new(options(&database));
    let client = connection.client().await.unwrap();
    client.batch_execute("CREATE TABLE t (n integer PRIMARY KEY, secret text NOT NULL)").await.unwrap();
    let insert = client.query_typed("INSERT INTO t VALUES (1, NULL), (2, 's3cret')", &[]);
    let error = client.limit().within("inserting", insert).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && !error.is_uncertain(), "{error:?}");
    let insert = client.query_typed("INSERT INTO t VALUES (1, 's3cret'), (1, NULL)", &[]);
    let error = client.limit().within("inserting", insert).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
}

//! Reaching the server: who may, and whether it is the right one.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use outbox::{ErrorKind, StoreError};
use outbox_sql::postgres::{ConnectOptions, PasswordSource, connect};

use crate::server::{session, url};

/// The server's URL with another user, host and parameters.
fn url_of(user: &str, host: &str, parameters: &str) -> String {
    let config: tokio_postgres::Config = url().parse().unwrap();
    format!("postgres://{user}@{host}:{}/postgres{parameters}", config.get_ports()[0])
}

async fn refused(url: &str) -> StoreError {
    let options = ConnectOptions::parse(url).unwrap().connect_timeout(Duration::from_secs(5));
    connect(&options).await.err().unwrap_or_else(|| panic!("{url} is let in"))
}

/// Makes a role that the server's access rules know, once.
async fn role(definition: &str) {
    let sql = format!("DO $$ BEGIN CREATE ROLE {definition}; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    session(url()).await.batch_execute(&sql).await.unwrap();
}

/// Where the server's certificates are.
async fn certificates() -> PathBuf {
    let row = session(url()).await.query_one("SHOW ssl_ca_file", &[]).await.unwrap();
    let file = PathBuf::from(row.get::<_, String>(0));
    assert!(file.is_file(), "tests of TLS need a server that scripts/test-postgres made, on this machine");
    file.parent().unwrap().to_owned()
}

#[tokio::test]
async fn a_wrong_password_is_not_permitted_and_not_shown() {
    role("with_password LOGIN PASSWORD 'right-one'").await;
    let error = refused(&url_of("with_password:s3cret", "127.0.0.1", "")).await;
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert!(error.to_string().contains("pg_hba.conf") && !format!("{error:?}").contains("s3cret"), "{error:?}");
    let error = refused(&url_of("with_password", "127.0.0.1", "")).await;
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    let right = ConnectOptions::parse(&url_of("with_password:right-one", "127.0.0.1", "")).unwrap();
    connect(&right).await.unwrap();
}

#[tokio::test]
async fn a_password_that_does_not_last_is_asked_for_before_each_connection() {
    struct Tokens(Mutex<Vec<String>>);
    #[async_trait]
    impl PasswordSource for Tokens {
        async fn password(&self, host: &str, port: u16, user: &str) -> Result<String, StoreError> {
            self.0.lock().unwrap().push(format!("{user}@{host}:{}", port > 0));
            Ok("right-one".to_owned())
        }
    }
    role("with_password LOGIN PASSWORD 'right-one'").await;
    let tokens = Arc::new(Tokens(Mutex::default()));
    let options =
        ConnectOptions::parse(&url_of("with_password:stale", "127.0.0.1", "")).unwrap().passwords(tokens.clone());
    connect(&options).await.unwrap();
    connect(&options).await.unwrap();
    assert_eq!(*tokens.0.lock().unwrap(), ["with_password@127.0.0.1:true"; 2]);
}

#[tokio::test]
async fn a_server_has_to_prove_that_it_is_the_host_that_was_asked_for() {
    role("tls_only LOGIN").await;
    let authority = format!("?sslmode=verify-full&sslrootcert={}", certificates().await.join("ca.pem").display());
    let options = ConnectOptions::parse(&url_of("tls_only", "localhost", &authority)).unwrap();
    let client = connect(&options).await.unwrap();
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    for (host, parameters) in [("127.0.0.1", authority.as_str()), ("localhost", "?sslmode=require")] {
        let error = refused(&url_of("tls_only", host, parameters)).await;
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("sslrootcert"), "{host}: {error}");
    }
    let error = refused(&url_of("tls_only", "127.0.0.1", "")).await;
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "without TLS: {error}");
}

#[tokio::test]
async fn a_client_can_prove_who_it_is() {
    role("client LOGIN").await;
    let folder = certificates().await;
    let authority = format!("?sslmode=verify-full&sslrootcert={}", folder.join("ca.pem").display());
    let error = refused(&url_of("client", "localhost", &authority)).await;
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "without a certificate: {error}");
    let own = format!(
        "{authority}&sslcert={}&sslkey={}",
        folder.join("client.pem").display(),
        folder.join("client.key").display()
    );
    connect(&ConnectOptions::parse(&url_of("client", "localhost", &own)).unwrap()).await.unwrap();
    let missing = format!("{authority}&sslcert=/nowhere.pem&sslkey=/nowhere.key");
    let error = refused(&url_of("client", "localhost", &missing)).await;
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("/nowhere.pem"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_a_database_that_is_not_is_named() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = refused(&format!("postgres://postgres@{nobody}/postgres")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let config: tokio_postgres::Config = url().parse().unwrap();
    let error = refused(&format!("postgres://postgres@127.0.0.1:{}/nowhere", config.get_ports()[0])).await;
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://postgres@{}/postgres", silent.local_addr().unwrap());
    let options = ConnectOptions::parse(&url).unwrap().connect_timeout(Duration::from_millis(50));
    let error = connect(&options).await.err().unwrap();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("connect_timeout"), "{error}");
}

#[tokio::test]
async fn the_server_shows_who_is_connected() {
    let options = ConnectOptions::parse(url()).unwrap();
    for (options, name) in [(options.clone(), "outbox"), (options.application_name("relay"), "relay")] {
        let client = connect(&options).await.unwrap();
        let row = client.query_one("SHOW application_name", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), name);
    }
}

//! What a server, a publication and a slot have to be, told with the SQL that makes them so.

use outbox::ErrorKind;
use outbox_sql::postgres::{
    ConnectOptions, PostgresStore, StoreOptions,
    wal::{WalSettings, WalSource, unread_slots},
};

use crate::{
    cluster::Cluster,
    fixture::{Fixture, Route, slot, streams, until},
};

/// The error of opening, which has to name `remedy`.
async fn refused(service: &Fixture, settings: WalSettings, remedy: &str) -> ErrorKind {
    let error = service.open(settings).await.err().unwrap_or_else(|| panic!("it opens without {remedy}"));
    assert!(error.to_string().contains(remedy), "{error}");
    error.kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_leaves_something_out_is_refused_with_the_sql_that_mends_it() {
    let service = Fixture::new().await;
    let wrong = [
        ("DROP PUBLICATION outbox", ""),
        (
            "CREATE PUBLICATION outbox FOR TABLE outbox.heads WITH (publish_via_partition_root = true)",
            "ALTER PUBLICATION \"outbox\" ADD TABLE outbox.entries;",
        ),
        (
            "DROP PUBLICATION outbox; CREATE PUBLICATION outbox FOR TABLE outbox.entries",
            "ALTER PUBLICATION \"outbox\" SET (publish_via_partition_root = true);",
        ),
        (
            "ALTER PUBLICATION outbox SET (publish_via_partition_root = true, publish = 'delete')",
            "ALTER PUBLICATION \"outbox\" SET (publish = 'insert');",
        ),
        (
            "ALTER PUBLICATION outbox SET (publish = 'insert'); ALTER PUBLICATION outbox SET TABLE outbox.entries WHERE (type <> 'secret')",
            "ALTER PUBLICATION \"outbox\" SET TABLE outbox.entries;",
        ),
        (
            "ALTER PUBLICATION outbox SET TABLE outbox.entries (id, xid, type)",
            "ALTER PUBLICATION \"outbox\" SET TABLE outbox.entries;",
        ),
    ];
    for (sql, remedy) in wrong {
        service.sql(sql).await;
        let remedy = if remedy.is_empty() { "CREATE PUBLICATION \"outbox\" FOR TABLE outbox.entries" } else { remedy };
        assert_eq!(refused(&service, WalSettings::new(), remedy).await, ErrorKind::Invalid, "{sql}");
    }
    service.sql("ALTER PUBLICATION \"outbox\" SET TABLE outbox.entries;").await;
    service.open(WalSettings::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_does_not_tell_of_rows_is_refused() {
    let service = Fixture::on(Cluster::start("-c wal_level=replica")).await;
    let kind = refused(&service, WalSettings::new(), "ALTER SYSTEM SET wal_level = 'logical';").await;
    assert_eq!(kind, ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_replicate_is_told_what_it_needs() {
    let service = Fixture::new().await;
    let role = format!("{}_reader", service.database.name);
    service.sql(&format!("CREATE ROLE {role} LOGIN; {}", outbox_sql::postgres::Grants::new().relay(&role).sql())).await;
    let options = ConnectOptions::parse(&service.database.url().replace("postgres@", &format!("{role}@"))).unwrap();
    let store = PostgresStore::open(options.clone(), StoreOptions::default()).await.unwrap();
    let opening = WalSource::open(std::sync::Arc::new(store), options, WalSettings::new()).await;
    let error = opening.err().expect("it may not replicate");
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    assert!(error.to_string().contains("ALTER ROLE"), "{error}");
    service.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_relays_rights_reads_the_log() {
    let service = Fixture::new().await;
    let role = format!("{}_relay", service.database.name);
    let grants = outbox_sql::postgres::Grants::new().relay(&role).sql();
    service.sql(&format!("CREATE ROLE {role} LOGIN REPLICATION; {grants}")).await;
    let options = ConnectOptions::parse(&service.database.url().replace("postgres@", &format!("{role}@"))).unwrap();
    let store = PostgresStore::open(options.clone(), StoreOptions::default()).await.unwrap();
    let settings = WalSettings::new().slot(slot());
    let source = WalSource::open(std::sync::Arc::new(store), options, settings).await.unwrap();
    streams(&source).await;
    service.write("a").await;
    let mut route = Route::new();
    route.until(&source, 1).await;
    assert_eq!(source.status().polling, None);
    drop(source);
    until("the role's sessions end", async || {
        let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
        service.text(&sessions).await.as_deref() == Some("0")
    })
    .await;
    service.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_of_another_kind_is_left_alone() {
    let service = Fixture::new().await;
    let name = slot();
    service.sql(&format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")).await;
    let kind = refused(&service, WalSettings::new().slot(&name), "pg_drop_replication_slot").await;
    assert_eq!(kind, ErrorKind::Invalid);
    service.sql(&format!("SELECT pg_drop_replication_slot('{name}')")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_another_relay_reads_is_named_and_taken_once_it_is_free() {
    let service = Fixture::new().await;
    let name = slot();
    let first = service.open(WalSettings::new().slot(&name)).await.unwrap();
    streams(&first).await;
    let second = service.open(WalSettings::new().slot(&name)).await.unwrap();
    let mut route = Route::new();
    until("it says who reads the slot", async || {
        let _ = route_of(&second).await;
        second.status().polling.is_some_and(|reason| reason.contains("pg_terminate_backend"))
    })
    .await;
    service.write("meanwhile").await;
    route.until(&second, 1).await;
    drop(first);
    streams(&second).await;
    service.write("then").await;
    route.until(&second, 2).await;
    route.is_exact(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_reads_is_named_with_what_it_holds_and_how_to_drop_it() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let name = source.status().slot;
    let unread = async |settings: Option<&WalSettings>| unread_slots(&service.options(), settings).await.unwrap();
    assert_eq!(unread(None).await, [], "it is read");
    drop(source);
    until("nobody reads it", async || !unread(None).await.is_empty()).await;
    assert_eq!(unread(Some(&WalSettings::new().slot(&name))).await, [], "it is going to be read");
    service.write("a").await;
    let found = unread(Some(&WalSettings::new())).await;
    assert!(found.len() == 1 && found[0].held_bytes > 0, "{found:?}");
    let drop = format!("SELECT pg_drop_replication_slot('{name}');");
    assert!(found[0].to_string().contains(&drop), "{}", found[0]);
    service.sql(&drop).await;
    assert_eq!(unread(None).await, []);
}

async fn route_of(source: &WalSource) -> Route {
    let mut route = Route::new();
    route.read(source).await;
    route
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_slot_can_have_is_refused() {
    let service = Fixture::new().await;
    assert_eq!(refused(&service, WalSettings::new().slot("Outbox"), "lower-case").await, ErrorKind::Invalid);
}

/// Reads the log as `role`, made so, of the server at `host`, with these parameters of the URL.
async fn reads_as(role: &str, made: &str, login: &str, host: &str, parameters: &str) {
    let service = Fixture::on(Cluster::start("")).await;
    let grants = outbox_sql::postgres::Grants::new().relay(role).sql();
    service.sql(&format!("CREATE ROLE {role} LOGIN REPLICATION {made}; {grants}")).await;
    let parameters = parameters.replace("FOLDER", &service.database.cluster.folder.display().to_string());
    let url = service.database.url().replace("postgres@127.0.0.1", &format!("{login}@{host}"));
    let options = ConnectOptions::parse(&format!("{url}{parameters}")).unwrap();
    let store = PostgresStore::open(options.clone(), StoreOptions::default()).await.unwrap();
    let source = WalSource::open(std::sync::Arc::new(store), options, WalSettings::new()).await.unwrap();
    streams(&source).await;
    service.write("a").await;
    let mut route = Route::new();
    route.until(&source, 1).await;
    assert_eq!(source.status().polling, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_within_tls_where_the_url_says_so() {
    let parameters = "?sslmode=verify-full&sslrootcert=FOLDER/ca.pem";
    reads_as("tls_only", "", "tls_only", "localhost", parameters).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_proves_by_scram_that_it_knows_the_password() {
    reads_as("with_password", "PASSWORD 's3cret'", "with_password:s3cret", "127.0.0.1", "").await;
}

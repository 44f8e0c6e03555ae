//! Settings, rights and texts of a server that are not the usual ones.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Bookkeeping, ErrorKind, Operator,
    testing::{BookkeepingUnderTest, conformance},
};
use outbox_sql::postgres::{ConnectOptions, PostgresBookkeeping};

use crate::{
    fixture::{Fresh, position, take},
    server::session,
};

/// A URL with one more setting of the session.
fn with_setting(url: &str, setting: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20{setting}")
}

#[tokio::test]
async fn every_write_is_durable_when_it_is_answered_though_others_of_this_role_are_not() {
    let fresh = Fresh::new().await;
    let books = fresh.open().await;
    take(&books).await;
    let session = session(&with_setting(fresh.database.url(), "synchronous_commit=off")).await;
    let now = async || -> String { session.query_one("SHOW synchronous_commit", &[]).await.unwrap().get(0) };
    let number = session.query_one(&fresh.named("SELECT outbox_relay.attach('relay', 1)"), &[]).await.unwrap();
    let owner = format!("'relay', 1, {}", number.get::<_, i64>(0));
    for write in [
        "take('relay', 1, 1, false, 'host:2', 1)".to_owned(),
        "attach('relay', 1)".to_owned(),
        "renew('relay', 1)".to_owned(),
        "release('relay', 1)".to_owned(),
        format!("note_claims({owner}, '{{}}', '{{}}')"),
        format!("checkpoint({owner}, 'a', 'p', '1', false, NULL, NULL)"),
        format!("forget_checkpoints({owner}, 'a', '{{}}')"),
        format!(
            "keep({owner}, 'a', 'k:a', 'p', NULL, NULL, NULL, NULL, NULL, NULL, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')"
        ),
        format!("settle({owner}, 'a', 'k:a', 1, '{{}}', true, NULL, NULL, NULL, NULL, NULL, NULL)"),
        format!("forget_tombstones({owner}, 'a', '{{}}', '{{}}', '{{}}')"),
        format!("note_replayed({owner}, 'r')"),
        format!("note_health({owner}, 'a', 'flowing', NULL, '')"),
        "change_dead('a', NULL, NULL, NULL, 'dead', NULL, NULL)".to_owned(),
        "erase('a')".to_owned(),
        "pause('a', true)".to_owned(),
        "put_replay('r', 'a', '', NULL, NULL, NULL, '', false)".to_owned(),
        "rename_route('a', 'b')".to_owned(),
        "forget_route('a')".to_owned(),
        "renew_id('i')".to_owned(),
        "reset_checkpoint('a', 'p', '1', false)".to_owned(),
    ] {
        session.batch_execute(&fresh.named(&format!("BEGIN; SELECT outbox_relay.{write}"))).await.unwrap();
        assert_eq!(now().await, "on", "when {write} commits");
        session.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(now().await, "off", "after {write}: a pooler gives the session to somebody else");
    }
}

#[tokio::test]
async fn another_isolation_level_is_refused_with_the_statement_that_sets_it_right() {
    let fresh = Fresh::new().await;
    let setting = "default_transaction_isolation=serializable";
    let books = fresh.open_with(ConnectOptions::parse(&with_setting(fresh.database.url(), setting)).unwrap()).await;
    let seen = books.lease("relay").await.unwrap();
    let error = books.take("relay", &seen, "host:1", std::time::Duration::from_secs(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Incompatible, false), "{error}");
    assert!(error.to_string().contains("ALTER ROLE postgres SET default_transaction_isolation"), "{error}");
    assert_eq!(position(&books).await, None);
}

/// A bookkeeping that a role with no more than the granted rights opens.
struct Granted(Fresh, String);

impl Granted {
    async fn new() -> Self {
        let fresh = Fresh::new().await;
        let role = format!("role_of_{}", fresh.schema);
        let admin = fresh.session().await;
        admin.batch_execute(&format!("CREATE ROLE {role} LOGIN; {}", fresh.schema.grants(&role))).await.unwrap();
        let url = as_role(fresh.database.url(), &role);
        Self(fresh, url)
    }
}

/// `url` for another role.
fn as_role(url: &str, role: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let behind_user = rest.split_once('@').map_or(rest, |(_, behind)| behind);
    format!("{scheme}://{role}@{behind_user}")
}

#[async_trait]
impl BookkeepingUnderTest for Granted {
    async fn open(&self) -> Arc<dyn Operator> {
        Arc::new(self.0.open_with(ConnectOptions::parse(&self.1).unwrap()).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_granted_rights_are_all_that_a_relay_and_an_operator_need() {
    conformance::bookkeeping::handles::all(&Granted::new).await;
    conformance::operator::all(Granted::new).await;
}

#[tokio::test]
async fn without_rights_the_error_says_which_are_missing() {
    let fresh = Fresh::new().await;
    let role = format!("stranger_of_{}", fresh.schema);
    fresh.session().await.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let options = ConnectOptions::parse(&as_role(fresh.database.url(), &role)).unwrap();
    let error = PostgresBookkeeping::open(options, fresh.schema.clone()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert!(error.to_string().contains("grant"), "{error}");
}

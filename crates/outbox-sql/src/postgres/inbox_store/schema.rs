//! The inbox's schema.

use outbox::{ErrorKind, StoreError};
use tokio_postgres::types::Type;

use super::driver::{Driver, Ended, Open, OpenTokio, Param, Row, Statement, TokioPostgres, column};
use crate::postgres::{connection::ConnectOptions, failure::store_error};

/// The layout that this version makes and knows.
const LAYOUT: i32 = 1;
const TABLES: &str = include_str!("../schema/inbox.sql");
/// What an inbox calls. It can be put in place anew at any time.
const FUNCTIONS: &str = include_str!("../schema/inbox/functions.sql");
const SCHEMA: &str = "CREATE SCHEMA outbox_inbox;\n";

/// The statements that make the tables of inboxes, for migrations of one's own: to be run once, in one transaction.
pub(super) fn sql() -> String {
    [SCHEMA, TABLES, FUNCTIONS].join("\n")
}

/// The rights of a consumer's role.
pub(super) fn grants(role: &str) -> String {
    let role = role.replace('"', "\"\"");
    format!(
        "GRANT USAGE ON SCHEMA outbox_inbox TO \"{role}\";\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA outbox_inbox TO \"{role}\";\n\
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox_inbox TO \"{role}\";\n"
    )
}

/// Makes the tables if they are not there, else puts the functions in place anew; and makes the inbox of `consumer`.
pub(super) async fn init(options: &ConnectOptions, consumer: &str) -> Result<(), StoreError> {
    if consumer.is_empty() {
        return Err(StoreError::new(ErrorKind::Invalid, "the inbox's name is empty: name it after its consumer"));
    }
    let mut driver = TokioPostgres::new(options.clone());
    let mut open = driver.begin().await?;
    let made = make(&mut open, consumer).await;
    if let Err(error) = made {
        open.rollback().await;
        return Err(error);
    }
    open.commit(&[]).await.map(drop).map_err(|ended| match ended {
        Ended::Statement(failed) | Ended::Commit(failed) => failed.error,
    })
}

async fn make(open: &mut OpenTokio<'_>, consumer: &str) -> Result<(), StoreError> {
    const MAKING: &str = "making the inbox's tables";
    // Of two at once the second finds all in place. The number is Outbox's own.
    ask(open, MAKING, "SELECT pg_advisory_xact_lock(7310026, 4)", &[]).await?;
    let sql = match layout(open).await? {
        Some(layout) => {
            known(layout)?;
            FUNCTIONS.to_owned()
        }
        None => made_in(open).await?,
    };
    open.transaction().batch_execute(&sql).await.map_err(store_error(MAKING))?;
    let sql = "INSERT INTO outbox_inbox.consumers (name) VALUES ($1) ON CONFLICT DO NOTHING";
    ask(open, "making the inbox", sql, &[(&consumer, Type::TEXT)]).await.map(drop)
}

/// What makes the tables. A schema that exists already, empty, was made by somebody with more rights.
async fn made_in(open: &mut OpenTokio<'_>) -> Result<String, StoreError> {
    let exists = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'outbox_inbox'";
    let exists = ask(open, "looking for the inbox's schema", exists, &[]).await?;
    Ok(if exists.is_empty() { sql() } else { [TABLES, FUNCTIONS].join("\n") })
}

async fn ask(
    open: &mut impl Open,
    attempted: &'static str,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Vec<Row>, StoreError> {
    let answer = open.send(&[Statement { attempted, sql, params: params.to_vec() }]).await;
    answer.map_err(|failed| failed.certain().error)
}

/// Makes sure that the inbox of `consumer` is there, and that this version can work with it.
pub(super) async fn check(open: &mut impl Open, consumer: &str) -> Result<(), StoreError> {
    let names = names(open).await?.ok_or_else(|| {
        let message = "the database has no inbox: make it, or name the consumer's own database";
        StoreError::new(ErrorKind::Incompatible, message)
    })?;
    if names.iter().any(|name| name == consumer) {
        return Ok(());
    }
    let listed = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let listed = if listed.is_empty() { "none" } else { &listed };
    let message = format!("the database has no inbox `{consumer}`, it has {listed}: make it, or check the name");
    Err(StoreError::new(ErrorKind::Invalid, message))
}

/// The names of the inboxes in a database.
pub(super) async fn consumers(options: &ConnectOptions) -> Result<Vec<String>, StoreError> {
    let mut driver = TokioPostgres::new(options.clone());
    let mut open = driver.begin().await?;
    let names = names(&mut open).await;
    open.rollback().await;
    Ok(names?.unwrap_or_default())
}

/// `None` where there are no tables of inboxes.
async fn names(open: &mut impl Open) -> Result<Option<Vec<String>>, StoreError> {
    let Some(layout) = layout(open).await? else { return Ok(None) };
    known(layout)?;
    let sql = "SELECT name FROM outbox_inbox.consumers ORDER BY name";
    let rows = ask(open, "reading the names of the inboxes", sql, &[]).await?;
    rows.iter().map(|row| column(row, 0)).collect::<Result<_, _>>().map(Some)
}

async fn layout(open: &mut impl Open) -> Result<Option<i32>, StoreError> {
    const READING: &str = "reading the layout of the inbox's tables";
    let there = "SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'outbox_inbox' AND tablename = 'meta'";
    if ask(open, READING, there, &[]).await?.is_empty() {
        return Ok(None);
    }
    let rows = ask(open, READING, "SELECT layout FROM outbox_inbox.meta", &[]).await?;
    rows.first().map(|row| column(row, 0)).transpose()
}

fn known(layout: i32) -> Result<(), StoreError> {
    if layout == LAYOUT {
        return Ok(());
    }
    let message = format!(
        "the inbox's tables have layout {layout}, made by another version of Outbox; this one knows {LAYOUT}: upgrade this program"
    );
    Err(StoreError::new(ErrorKind::Incompatible, message))
}

//! The inbox's schema.

use outbox::{ErrorKind, StoreError};
use tokio_postgres::{Client, types::Type};

use super::tx::column;
use crate::postgres::{
    connection::{ConnectOptions, connect},
    failure::store_error,
};

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
    const MAKING: &str = "making the inbox's tables";
    if consumer.is_empty() {
        return Err(StoreError::new(ErrorKind::Invalid, "the inbox's name is empty: name it after its consumer"));
    }
    let mut client = connect(options).await?;
    let transaction = client.transaction().await.map_err(store_error(MAKING))?;
    // Of two at once the second finds all in place. The number is Outbox's own.
    transaction.batch_execute("SELECT pg_advisory_xact_lock(7310026, 4)").await.map_err(store_error(MAKING))?;
    let sql = match layout(transaction.client()).await? {
        Some(layout) => {
            known(layout)?;
            FUNCTIONS.to_owned()
        }
        None => made_in(transaction.client()).await?,
    };
    transaction.batch_execute(&sql).await.map_err(store_error(MAKING))?;
    transaction
        .query_typed(
            "INSERT INTO outbox_inbox.consumers (name) VALUES ($1) ON CONFLICT DO NOTHING",
            &[(&consumer, Type::TEXT)],
        )
        .await
        .map_err(store_error("making the inbox"))?;
    transaction.commit().await.map_err(store_error("committing the inbox's tables"))
}

/// What makes the tables. A schema that exists already, empty, was made by somebody with more rights.
async fn made_in(client: &Client) -> Result<String, StoreError> {
    let exists = client.query_typed("SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'outbox_inbox'", &[]).await;
    let exists = exists.map_err(store_error("looking for the inbox's schema"))?;
    Ok(if exists.is_empty() { sql() } else { [TABLES, FUNCTIONS].join("\n") })
}

/// Makes sure that the inbox of `consumer` is there, and that this version can work with it.
pub(super) async fn check(client: &Client, consumer: &str) -> Result<(), StoreError> {
    let names = consumers(client).await?;
    if names.iter().any(|name| name == consumer) {
        return Ok(());
    }
    let listed = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let listed = if listed.is_empty() { "none" } else { &listed };
    let message = format!("the database has no inbox `{consumer}`, it has {listed}: make it, or check the name");
    Err(StoreError::new(ErrorKind::Invalid, message))
}

/// The names of the inboxes.
pub(super) async fn consumers(client: &Client) -> Result<Vec<String>, StoreError> {
    match layout(client).await? {
        None => {
            let message = "the database has no inbox: make it, or name the consumer's own database";
            return Err(StoreError::new(ErrorKind::Incompatible, message));
        }
        Some(layout) => known(layout)?,
    }
    let rows = client.query_typed("SELECT name FROM outbox_inbox.consumers ORDER BY name", &[]).await;
    rows.map_err(store_error("reading the names of the inboxes"))?.iter().map(|row| column(row, 0)).collect()
}

async fn layout(client: &Client) -> Result<Option<i32>, StoreError> {
    let failed = store_error("reading the layout of the inbox's tables");
    let there = "SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'outbox_inbox' AND tablename = 'meta'";
    if client.query_typed(there, &[]).await.map_err(&failed)?.is_empty() {
        return Ok(None);
    }
    let rows = client.query_typed("SELECT layout FROM outbox_inbox.meta", &[]).await.map_err(&failed)?;
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

//! The inbox's tables.

use outbox::{ErrorKind, StoreError};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::super::failure::store_error;

/// The layout that this version makes and knows.
const LAYOUT: u32 = 1;

/// Consumer and producer share one number, so that the rows of the marks, of which there is one a key, stay small.
const DDL: &str = "
CREATE TABLE IF NOT EXISTS outbox_inbox_meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    layout INTEGER NOT NULL
);
INSERT INTO outbox_inbox_meta (one, layout) VALUES (1, 1) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS outbox_inbox_consumers (
    name TEXT PRIMARY KEY,
    mode TEXT,
    applied INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    superseded INTEGER NOT NULL DEFAULT 0,
    ignored INTEGER NOT NULL DEFAULT 0,
    early INTEGER NOT NULL DEFAULT 0,
    history_back INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox_inbox_producers (
    id INTEGER PRIMARY KEY,
    consumer TEXT NOT NULL,
    producer TEXT NOT NULL,
    UNIQUE (consumer, producer)
);
CREATE TABLE IF NOT EXISTS outbox_inbox_marks (
    producer INTEGER NOT NULL,
    key TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    life INTEGER NOT NULL,
    troubled INTEGER NOT NULL,
    PRIMARY KEY (producer, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox_inbox_ids (
    n INTEGER PRIMARY KEY,
    producer INTEGER NOT NULL,
    id TEXT NOT NULL,
    expires INTEGER NOT NULL,
    done INTEGER NOT NULL,
    UNIQUE (producer, id)
);
CREATE TABLE IF NOT EXISTS outbox_inbox_troubles (
    producer INTEGER NOT NULL,
    lane TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due INTEGER,
    since INTEGER NOT NULL,
    reason TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    PRIMARY KEY (producer, lane)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outbox_inbox_due ON outbox_inbox_troubles (due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS outbox_inbox_kept (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    producer INTEGER NOT NULL,
    lane TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    arrived INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT,
    message BLOB NOT NULL,
    UNIQUE (producer, lane, incarnation, sequence, idx)
);
CREATE TABLE IF NOT EXISTS outbox_inbox_waits (
    producer INTEGER NOT NULL,
    lane TEXT NOT NULL,
    cause_producer INTEGER NOT NULL,
    cause_lane TEXT NOT NULL,
    PRIMARY KEY (producer, lane)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outbox_inbox_causes ON outbox_inbox_waits (cause_producer, cause_lane);
";

/// Makes what is missing of the tables, and the inbox of `consumer`.
pub(super) fn make(connection: &Connection, consumer: &str) -> Result<(), StoreError> {
    if consumer.is_empty() {
        return Err(StoreError::new(ErrorKind::Invalid, "the inbox's name is empty: name it after its consumer"));
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .map_err(store_error("locking the database to make the inbox's tables"))?;
    if let Some(layout) = layout(&transaction)? {
        known(layout)?;
    }
    transaction.execute_batch(DDL).map_err(store_error("making the inbox's tables"))?;
    transaction
        .execute("INSERT INTO outbox_inbox_consumers (name) VALUES (?1) ON CONFLICT DO NOTHING", [consumer])
        .map_err(store_error("making the inbox"))?;
    transaction.commit().map_err(store_error("committing the inbox's tables"))
}

/// Makes sure that the inbox of `consumer` is there, and that this version can work with it.
pub(super) fn check(connection: &Connection, consumer: &str) -> Result<(), StoreError> {
    let names = consumers(connection)?;
    if names.iter().any(|name| name == consumer) {
        return Ok(());
    }
    let message = format!("the database has no inbox `{consumer}`: it has {}", listed(&names));
    Err(StoreError::new(ErrorKind::Invalid, message))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Whether the database has any inbox's tables, of whatever version.
pub(super) fn is_there(connection: &Connection) -> Result<bool, StoreError> {
    Ok(layout(connection)?.is_some())
}

pub(super) fn consumers(connection: &Connection) -> Result<Vec<String>, StoreError> {
    match layout(connection)? {
        None => {
            let message = "the database has no inbox: name the consumer's own database file";
            return Err(StoreError::new(ErrorKind::Incompatible, message));
        }
        Some(layout) => known(layout)?,
    }
    connection
        .prepare("SELECT name FROM outbox_inbox_consumers ORDER BY name")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(store_error("reading the names of the inboxes"))
}

fn layout(connection: &Connection) -> Result<Option<u32>, StoreError> {
    let there: bool = connection
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'outbox_inbox_meta'",
            [],
            |row| row.get(0),
        )
        .map_err(store_error("looking for the inbox's tables"))?;
    if !there {
        return Ok(None);
    }
    connection
        .query_row("SELECT layout FROM outbox_inbox_meta", [], |row| row.get(0))
        .optional()
        .map_err(store_error("reading the layout of the inbox's tables"))
}

fn known(layout: u32) -> Result<(), StoreError> {
    if layout == LAYOUT {
        return Ok(());
    }
    let message = format!(
        "the inbox's tables have layout {layout}, made by another version of Outbox; this one knows {LAYOUT}: upgrade this program"
    );
    Err(StoreError::new(ErrorKind::Incompatible, message))
}

//! A writer that knows nothing but the table's public layout, as a service in another language has one.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use outbox::{
    CommitId, Entropy, Expected, NewEvent, Place, Receipt, Source, System, WriteError,
    testing::{End, Opened, StoreUnderTest, Transaction, Write, WriterUnderTest},
    writer::{EntryPlan, Settled, plan},
};
use outbox_sql::sqlite::{InitOptions, SqliteStore, StoreOptions, init, settle};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

/// A database, its writer, and a backup of it.
pub(crate) struct Service {
    path: PathBuf,
    backup: PathBuf,
}

impl Service {
    pub(crate) fn new(path: PathBuf) -> Self {
        init(&Connection::open(&path).unwrap(), &InitOptions::new("/orders")).unwrap();
        let backup = path.with_extension("backup");
        Self { path, backup }
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        connection
    }
}

fn failed(error: rusqlite::Error) -> WriteError {
    WriteError::Store { message: error.to_string(), error: Box::new(error) }
}

fn write(connection: &Connection, write: Write) -> Result<Vec<Receipt>, WriteError> {
    let limit: u64 = connection
        .query_row("SELECT max_event_bytes FROM outbox_meta", [], |row| row.get::<_, i64>(0))
        .map_err(failed)?
        .unsigned_abs();
    for (index, event) in write.events.iter().enumerate() {
        let bytes = event.data().map_or(0, bytes::Bytes::len);
        if bytes as u64 > limit {
            return Err(WriteError::TooLarge { index, bytes, limit });
        }
    }
    plan(write.events)?.into_iter().map(|plan| insert(connection, &plan, write.expected)).collect()
}

fn insert(connection: &Connection, plan: &EntryPlan, expected: Expected) -> Result<Receipt, WriteError> {
    let (_, first) = &plan.events[0];
    let key = plan.key.as_ref().map(outbox::Key::as_str);
    let more: Vec<Value> = plan.events[1..].iter().map(|(_, event)| further(event)).collect();
    let commit = CommitId(System.sixteen());
    let expected = match expected {
        Expected::Any => None,
        Expected::Sequence(sequence) => Some(i64::try_from(sequence).unwrap()),
    };
    let data = first.data().map(|data| data.to_vec());
    connection
        .execute(
            "INSERT INTO outbox (key, type, data, content_type, event_id, more, expected, commit_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                key,
                first.kind(),
                data,
                first.content_type(),
                first.id(),
                (!more.is_empty()).then(|| Value::from(more).to_string()),
                expected,
                commit.0
            ],
        )
        .map_err(failed)?;
    let head = connection
        .query_row("SELECT incarnation, sequence FROM outbox_heads WHERE key = ?1", [key], |row| {
            Ok(Place::new(row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs(), 0))
        })
        .optional()
        .map_err(failed)?;
    let count = u32::try_from(plan.events.len()).unwrap();
    Ok(Receipt { key: plan.key.clone(), commit, first: head, count })
}

fn further(event: &NewEvent) -> Value {
    let mut further = json!({ "type": event.kind() });
    if let Some(id) = event.id() {
        further["id"] = id.into();
    }
    if let Some(content_type) = event.content_type() {
        further["content_type"] = content_type.into();
    }
    if let Some(data) = event.data() {
        further["data_base64"] = STANDARD.encode(data).into();
    }
    further
}

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, transaction: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let connection = self.connect();
        connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
        let mut receipts = Vec::new();
        for call in transaction.writes {
            receipts.extend(write(&connection, call)?);
        }
        if let Some(before_end) = transaction.before_end {
            before_end.await;
        }
        let end = match transaction.end {
            End::Commit => "COMMIT",
            End::RollBack => "ROLLBACK",
        };
        connection.execute_batch(end).map_err(failed)?;
        Ok(receipts)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        settle(&self.connect(), receipt).unwrap()
    }

    async fn source(&self) -> Arc<dyn Source> {
        self.open().await.source
    }
}

#[async_trait]
impl StoreUnderTest for Service {
    async fn open(&self) -> Opened {
        let store = Arc::new(SqliteStore::open(&self.path, StoreOptions::default()).unwrap());
        Opened { source: store.clone(), store }
    }

    async fn back_up(&self) {
        let _ = std::fs::remove_file(&self.backup);
        self.connect().execute("VACUUM INTO ?1", [self.backup.to_str().unwrap()]).unwrap();
    }

    async fn restore(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            let _ = std::fs::remove_file(name);
        }
        std::fs::copy(&self.backup, &self.path).unwrap();
        self.connect().pragma_update(None, "journal_mode", "WAL").unwrap();
    }
}

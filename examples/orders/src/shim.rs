//! TEMPORARY until the writer is there.
use outbox::{CommitId, NewEvent, Place, Receipt, WriteError};
use rusqlite::Connection;

pub(crate) struct Writer;

impl Writer {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn write(&self, tx: &Connection, event: NewEvent) -> Result<Receipt, WriteError> {
        let failed = |error: rusqlite::Error| WriteError::Store { message: error.to_string(), error: Box::new(error) };
        let key = event.key().cloned();
        let data = std::str::from_utf8(event.data().unwrap()).unwrap();
        let attributes = serde_json::json!({ "subject": event.subject() }).to_string();
        tx.prepare_cached("INSERT INTO outbox(key, type, data, attributes) VALUES (?,?,?,?)").map_err(failed)?
            .execute((key.as_ref().map(|key| key.as_str()), event.kind(), data, attributes)).map_err(failed)?;
        let sequence: i64 = tx.prepare_cached("SELECT sequence FROM outbox_heads WHERE key = ?").map_err(failed)?
            .query_row([key.as_ref().unwrap().as_str()], |row| row.get(0)).map_err(failed)?;
        Ok(Receipt { key, commit: CommitId([0; 16]), first: Some(Place::new(1, sequence.unsigned_abs(), 0)), count: 1 })
    }
}

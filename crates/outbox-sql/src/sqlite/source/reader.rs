//! One connection that reads pages.

use std::sync::Arc;

use outbox::{Record, StoreError, source::Limit};
use rusqlite::{Connection, Rows};

use crate::sqlite::{
    connection::{FileIdentity, Opened},
    decode::{COLUMNS, Decoder},
    failure::store_error,
    history::{Known, Seen, missing_entry},
    schema,
    store::Inner,
};

const READING: &str = "reading entries";

/// A connection with its decoder.
pub(crate) struct Reader {
    opened: Opened,
    decoder: Decoder,
    sql: String,
}

/// What a page holds.
pub(crate) struct Found {
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) more: bool,
    /// The last entry of the page.
    pub(crate) last: Option<Seen>,
    /// The highest id of the snapshot, if the page holds anything not known to be durable.
    pub(crate) unsynced: Option<i64>,
}

impl Reader {
    pub(crate) fn new(opened: Opened) -> Self {
        let decoder = Decoder::new(&opened.meta.producer);
        let sql = format!("SELECT {COLUMNS} FROM outbox_entries WHERE id >= ?1 ORDER BY id");
        Self { opened, decoder, sql }
    }

    pub(crate) fn file(&self) -> FileIdentity {
        self.opened.file
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.opened.connection
    }

    /// Reads behind `after` in one snapshot, once that snapshot has proved to be of the store, the claim and the history
    /// that are known.
    pub(crate) fn page(&mut self, store: &Inner, after: i64, limit: Limit, known: &Known) -> Result<Found, StoreError> {
        let connection = &self.opened.connection;
        let snapshot = connection.unchecked_transaction().map_err(store_error(READING))?;
        let meta = schema::read_meta(&snapshot)?;
        schema::known_layout(meta.layout)?;
        store.check_store(&meta.store_id)?;
        store.check_claim(&meta)?;
        known.check_newest(&snapshot, &store.path)?;
        if meta.producer != self.decoder.producer() {
            self.decoder = Decoder::new(&meta.producer);
        }
        let mut statement = snapshot.prepare_cached(&self.sql).map_err(store_error(READING))?;
        let mut rows = statement.query([after]).map_err(store_error(READING))?;
        if after > 0 {
            let anchor = match rows.next().map_err(store_error(READING))? {
                Some(row) => Decoder::seen(row).map_err(store_error(READING))?,
                None => return Err(missing_entry(&snapshot, &store.path, after)),
            };
            if anchor.id != after {
                return Err(missing_entry(&snapshot, &store.path, after));
            }
            known.check_anchor(&store.path, after, anchor.commit)?;
        }
        let (records, more, last) = take(&mut self.decoder, &mut rows, limit).map_err(store_error(READING))?;
        let sync = last.is_some_and(|last| store.options.sync_wal && !store.durable.holds(last.id));
        let unsynced = sync
            .then(|| snapshot.query_row("SELECT max(id) FROM outbox_entries", [], |row| row.get(0)))
            .transpose()
            .map_err(store_error(READING))?;
        Ok(Found { records, more, last, unsynced })
    }
}

/// Takes records up to `limit`, one at least.
fn take(
    decoder: &mut Decoder,
    rows: &mut Rows<'_>,
    limit: Limit,
) -> rusqlite::Result<(Vec<Arc<Record>>, bool, Option<Seen>)> {
    let (mut records, mut events, mut bytes, mut last) = (Vec::new(), 0, 0, None);
    while let Some(row) = rows.next()? {
        if last.is_some() && (events >= limit.events || bytes >= limit.bytes) {
            return Ok((records, true, last));
        }
        let (seen, record) = decoder.record(row)?;
        let (further, weight) = (record.len(), record.weight());
        if last.is_some() && (events + further > limit.events || bytes + weight > limit.bytes) {
            return Ok((records, true, last));
        }
        last = Some(seen);
        (events, bytes) = (events + further, bytes + weight);
        records.push(Arc::new(record));
    }
    Ok((records, false, last))
}

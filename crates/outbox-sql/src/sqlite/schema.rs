//! The tables in the service's database: made, checked, brought up to date.
//!
//! `docs/table-layout.md` is the layout's public description; the DDL itself is `schema/layout_1.sql`.

use std::sync::Arc;

use outbox::{Entropy, ErrorKind, StoreError, System, event::check_uri_reference};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::failure::store_error;

/// The table layout that this version makes and works with.
pub const LAYOUT: u32 = 1;

/// The largest payload before any route is registered: what one entry takes (`outbox::writer::MAX_ENTRY_BYTES`).
pub const DEFAULT_MAX_EVENT_BYTES: i64 = 8 << 20;

const DDL: &str = include_str!("schema/layout_1.sql");

/// What the tables are made with.
#[derive(Clone)]
pub struct InitOptions {
    producer: String,
    entropy: Arc<dyn Entropy>,
}

impl InitOptions {
    /// Tables for the events of `producer`: the CloudEvents `source`, a URI reference as `/orders`.
    pub fn new(producer: impl Into<String>) -> Self {
        Self { producer: producer.into(), entropy: Arc::new(System) }
    }

    /// Takes the store's id from `entropy` rather than from the machine.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }
}

/// The one row of `outbox_meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The version of the table layout.
    pub layout: u32,
    /// Given when the tables were made; a copy of the file has the same.
    pub store_id: String,
    /// The CloudEvents `source` of the file's events.
    pub producer: String,
    /// Rises when history went backwards.
    pub incarnation: u32,
    /// The largest payload that the registered routes take, in bytes.
    pub max_event_bytes: u64,
    /// The bookkeeping that reads this file, once one has claimed it.
    pub bookkeeping: Option<String>,
    /// The lease's epoch of the latest claim.
    pub claim_epoch: u64,
    /// The nonce of the latest claim.
    pub claim_nonce: Option<String>,
}

impl Meta {
    /// The latest claim of the database.
    pub(crate) fn claim(&self) -> Option<outbox::store::Claim> {
        let (epoch, nonce) = (self.claim_epoch, self.claim_nonce.clone().unwrap_or_default());
        self.bookkeeping.clone().map(|bookkeeping| outbox::store::Claim { bookkeeping, epoch, nonce })
    }
}

/// The DDL, for a team that makes its tables by its own migrations. It gives the file no identity: [`init`] does,
/// afterwards.
pub fn sql() -> &'static str {
    DDL
}

/// Makes the tables and gives the file its identity, or brings older tables up to date; does nothing where all is
/// there. Sets the journal mode to WAL, so it must be called outside a transaction.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the producer is no URI reference, or the file belongs to another producer;
/// [`ErrorKind::Incompatible`] if it has a newer layout, cannot use a WAL, or is not in UTF-8; otherwise as SQLite says.
pub fn init(connection: &Connection, options: &InitOptions) -> Result<Meta, StoreError> {
    check_uri_reference("producer", &options.producer)
        .map_err(|error| StoreError::new(ErrorKind::Invalid, error.to_string()))?;
    if !connection.is_autocommit() {
        let message = "the connection is in a transaction: initialise outside of one, as the journal mode is set";
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(store_error("setting the journal mode to WAL"))?;
    require_wal(&mode)?;
    require_utf_8(connection)?;
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .map_err(store_error("locking the database to make the tables"))?;
    if let Some(layout) = layout(&transaction)? {
        known_layout(layout)?;
    }
    transaction.execute_batch(DDL).map_err(store_error("making the tables"))?;
    transaction
        .execute(
            "INSERT INTO outbox_meta (one, layout, store_id, producer, incarnation, max_event_bytes) \
             VALUES (1, ?1, ?2, ?3, 1, ?4) ON CONFLICT DO NOTHING",
            (LAYOUT, new_store_id(&*options.entropy), &options.producer, DEFAULT_MAX_EVENT_BYTES),
        )
        .map_err(store_error("giving the database its identity"))?;
    let meta = read_meta(&transaction)?;
    if meta.producer != options.producer {
        let message = format!(
            "this database holds the events of producer `{}`, not of `{}`: use that name, or another database",
            meta.producer, options.producer
        );
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    transaction.commit().map_err(store_error("committing the tables"))?;
    Ok(meta)
}

/// Reads the file's identity, and makes sure that this version can work with its tables. Writes nothing.
///
/// # Errors
/// [`ErrorKind::Incompatible`] with the remedy: tables missing, a layout of another version, another journal mode than
/// WAL, another text encoding than UTF-8; otherwise as SQLite says.
pub fn check(connection: &Connection) -> Result<Meta, StoreError> {
    match layout(connection)? {
        None => {
            let message = "the outbox tables are missing from this database: run `outbox init`";
            return Err(StoreError::new(ErrorKind::Incompatible, message));
        }
        Some(layout) => known_layout(layout)?,
    }
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(store_error("reading the journal mode"))?;
    require_wal(&mode)?;
    require_utf_8(connection)?;
    read_meta(connection)
}

/// The layout of the tables; `None` if there are none, or none that has an identity.
fn layout(connection: &Connection) -> Result<Option<u32>, StoreError> {
    let tables: bool = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'outbox_meta'", [], |row| {
            row.get(0)
        })
        .map_err(store_error("looking for the outbox tables"))?;
    if !tables {
        return Ok(None);
    }
    connection
        .query_row("SELECT layout FROM outbox_meta", [], |row| row.get(0))
        .optional()
        .map_err(store_error("reading the layout of the outbox tables"))
}

/// Layout 1 is the first: there is none to bring up to date yet.
pub(crate) fn known_layout(layout: u32) -> Result<(), StoreError> {
    let message = match layout {
        LAYOUT => return Ok(()),
        0 => "the outbox tables have layout 0, which never existed: restore `outbox_meta` from a backup".to_owned(),
        newer => format!(
            "the outbox tables have layout {newer}, made by a newer version of Outbox; this one knows {LAYOUT}: upgrade this program"
        ),
    };
    Err(StoreError::new(ErrorKind::Incompatible, message))
}

fn require_wal(mode: &str) -> Result<(), StoreError> {
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    let message = format!(
        "the database's journal mode is `{mode}`, but Outbox needs `wal`, or reading would block writing: run `outbox init`, or `PRAGMA journal_mode = WAL` on a local file"
    );
    Err(StoreError::new(ErrorKind::Incompatible, message))
}

/// In another encoding SQLite would change some texts on their way in and out.
fn require_utf_8(connection: &Connection) -> Result<(), StoreError> {
    let encoding: String = connection
        .query_row("PRAGMA encoding", [], |row| row.get(0))
        .map_err(store_error("reading the text encoding"))?;
    if encoding == "UTF-8" {
        return Ok(());
    }
    let message = format!(
        "the database's text encoding is {encoding}, but payloads are kept byte for byte only in UTF-8: dump it, and load the dump into a new database"
    );
    Err(StoreError::new(ErrorKind::Incompatible, message))
}

pub(crate) fn read_meta(connection: &Connection) -> Result<Meta, StoreError> {
    connection
        .query_row(
            "SELECT layout, store_id, producer, incarnation, max_event_bytes, bookkeeping, claim_epoch, claim_nonce \
             FROM outbox_meta",
            [],
            |row| {
                Ok(Meta {
                    layout: row.get(0)?,
                    store_id: row.get(1)?,
                    producer: row.get(2)?,
                    incarnation: row.get(3)?,
                    max_event_bytes: row.get::<_, i64>(4)?.unsigned_abs(),
                    bookkeeping: row.get(5)?,
                    claim_epoch: row.get::<_, i64>(6)?.unsigned_abs(),
                    claim_nonce: row.get(7)?,
                })
            },
        )
        .map_err(store_error("reading `outbox_meta`"))
}

fn new_store_id(entropy: &dyn Entropy) -> String {
    outbox::CommitId(entropy.sixteen()).to_string()
}

//! The bookkeeping's file: made, recognised, opened.

use std::{fs, path::Path, time::Duration};

use outbox::{CommitId, Entropy, ErrorKind, StoreError};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::sqlite::{
    connection::FileIdentity,
    failure::{meaning, store_error},
};

/// The layout that this version makes and works with: the file's `user_version`.
const LAYOUT: i64 = 1;
/// Tells a bookkeeping from every other `SQLite` file: "OBKP".
const APPLICATION_ID: i64 = 0x4F42_4B50;
const DDL: &str = include_str!("layout_1.sql");

/// A connection that writes, and which file it is connected to.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) file: FileIdentity,
}

/// Opens the bookkeeping at `path`, or makes it if `create` allows that and there is no file.
pub(super) fn open(path: &Path, create: bool, busy: Duration, entropy: &dyn Entropy) -> Result<Opened, StoreError> {
    let exists = fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
    if !exists && !create {
        let message = format!(
            "there is no bookkeeping at `{}`: check the path, or make one with `outbox init`; if the one that was there is lost, run `outbox adopt`",
            path.display()
        );
        return Err(StoreError::new(ErrorKind::Incompatible, message));
    }
    let in_file = |error: StoreError| error.context(&format!("opening the bookkeeping `{}`", path.display()));
    let writer = connect(path, create && !exists, busy).map_err(in_file)?;
    prepare(&writer, create, entropy).map_err(in_file)?;
    Ok(Opened { writer, file: FileIdentity::of(path)? })
}

/// A connection that only reads.
pub(super) fn reader(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    let reader = connect(path, false, busy)?;
    reader.pragma_update(None, "query_only", true).map_err(store_error("opening the bookkeeping for reading"))?;
    Ok(reader)
}

fn connect(path: &Path, create: bool, busy: Duration) -> Result<Connection, StoreError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(busy)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    open().map_err(|error| {
        let (kind, remedy) = meaning(&error);
        StoreError::new(kind, format!("{error}{remedy}")).because(error)
    })
}

/// Makes sure that the file is a bookkeeping of this layout.
fn prepare(writer: &Connection, create: bool, entropy: &dyn Entropy) -> Result<(), StoreError> {
    if create && is_empty(writer)? {
        writer
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
            .map_err(store_error("setting the journal mode to WAL"))?;
        make(writer, entropy)?;
    }
    recognise(writer)?;
    let mode: String = writer
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(store_error("setting the journal mode to WAL"))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let message = format!("its journal mode is `{mode}` and cannot be `wal`: put it on a local file system");
        return Err(StoreError::new(ErrorKind::Incompatible, message));
    }
    writer.pragma_update(None, "synchronous", "FULL").map_err(store_error("asking for durable commits"))?;
    id(writer).map(drop)
}

/// The bookkeeping's id.
pub(super) fn id(connection: &Connection) -> Result<String, StoreError> {
    connection
        .prepare_cached("SELECT id FROM bookkeeping")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(store_error("reading the bookkeeping's id"))
}

fn is_empty(writer: &Connection) -> Result<bool, StoreError> {
    writer
        .query_row("SELECT count(*) = 0 FROM sqlite_master", [], |row| row.get(0))
        .map_err(store_error("looking at its tables"))
}

fn make(writer: &Connection, entropy: &dyn Entropy) -> Result<(), StoreError> {
    const MAKING: &str = "making its tables";
    let transaction =
        Transaction::new_unchecked(writer, TransactionBehavior::Immediate).map_err(store_error(MAKING))?;
    // Another process may have made it meanwhile.
    if !is_empty(&transaction)? {
        return Ok(());
    }
    transaction.execute_batch(DDL).map_err(store_error(MAKING))?;
    let id = CommitId(entropy.sixteen()).to_string();
    transaction.execute("INSERT INTO bookkeeping (one, id) VALUES (1, ?1)", [id]).map_err(store_error(MAKING))?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(store_error(MAKING))?;
    transaction.pragma_update(None, "user_version", LAYOUT).map_err(store_error(MAKING))?;
    transaction.commit().map_err(store_error(MAKING))
}

fn recognise(writer: &Connection) -> Result<(), StoreError> {
    let pragma = |name| -> Result<i64, StoreError> {
        writer.pragma_query_value(None, name, |row| row.get(0)).map_err(store_error("looking at what it is"))
    };
    if pragma("application_id")? != APPLICATION_ID {
        let message = "it is a database, but no bookkeeping: give the bookkeeping a file of its own, apart from the service's database";
        return Err(StoreError::new(ErrorKind::Incompatible, message));
    }
    match pragma("user_version")? {
        LAYOUT => Ok(()),
        newer if newer > LAYOUT => Err(StoreError::new(
            ErrorKind::Incompatible,
            format!(
                "it has layout {newer}, made by a newer version of Outbox; this one knows {LAYOUT}: upgrade this program"
            ),
        )),
        other => Err(StoreError::new(
            ErrorKind::Incompatible,
            format!("it has layout {other}, which never existed: restore it from a backup, then run `outbox adopt`"),
        )),
    }
}

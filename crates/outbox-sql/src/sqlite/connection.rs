//! Connections to the business file, and which file they are connected to.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use outbox::{ErrorKind, StoreError};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    failure::{meaning, store_error},
    schema::{self, Meta},
};

/// Which file a path leads to. Another file at the same path has another identity, whatever it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The file at `path` now. Asks for its metadata only: opening a database by plain file I/O and closing it again
    /// would drop the locks that `SQLite` holds in this process.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`] if there is none.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        let metadata = fs::metadata(path).map_err(|error| not_there(path, error))?;
        Ok(Self::from_metadata(&metadata))
    }

    #[cfg(unix)]
    fn from_metadata(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Elsewhere a file in use cannot be replaced at all.
    #[cfg(not(unix))]
    fn from_metadata(_: &fs::Metadata) -> Self {
        Self { device: 0, inode: 0 }
    }
}

fn not_there(path: &Path, error: io::Error) -> StoreError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::new(
            ErrorKind::HistoryChanged,
            format!(
                "the database `{path}` is gone: put it back; if what you put back is an older copy, run `outbox adopt` before its writers start"
            ),
        ),
        io::ErrorKind::PermissionDenied => StoreError::new(
            ErrorKind::NotPermitted,
            format!("this user may not look at the database `{path}`: grant search rights on its directories"),
        ),
        _ => StoreError::new(ErrorKind::Unavailable, format!("looking at the database `{path}`: {error}")),
    }
    .because(error)
}

/// How a connection is to be used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Reading only; an attempt to write is an error.
    Read,
    /// Writing what has to survive a crash at once.
    Write,
    /// Writing what a crash may take back, so that no writer waits for the disk.
    Relaxed,
}

/// A connection to the business file, its identity checked, and what `outbox_meta` said.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) file: FileIdentity,
    pub(crate) meta: Meta,
}

/// Opens the business file at `path`, which has to be there and to have this version's tables.
///
/// # Errors
/// [`ErrorKind::HistoryChanged`] if the file is gone, [`ErrorKind::Incompatible`] for other tables or no database at
/// all, otherwise as `SQLite` says.
pub(crate) fn open(path: &Path, access: Access, busy: Duration) -> Result<Opened, StoreError> {
    // The path may be given another file between the two looks; then what was opened is not known.
    for _ in 0..3 {
        let file = FileIdentity::of(path)?;
        let connection = connect(path)?;
        if FileIdentity::of(path)? == file {
            prepare(&connection, access, busy).map_err(|error| opening_failed(path, error))?;
            let meta = schema::check(&connection)
                .map_err(|error| error.context(&format!("opening the database `{}`", path.display())))?;
            return Ok(Opened { connection, file, meta });
        }
    }
    let message =
        format!("the database `{}` is being replaced again and again: let it rest, then start anew", path.display());
    Err(StoreError::new(ErrorKind::Unavailable, message))
}

/// Never creates a file: one that is missing is an error, not an empty database.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(|error| opening_failed(path, error))
}

fn opening_failed(path: &Path, error: rusqlite::Error) -> StoreError {
    let (kind, remedy) = meaning(&error);
    StoreError::new(kind, format!("opening the database `{}`: {error}{remedy}", path.display())).because(error)
}

fn prepare(connection: &Connection, access: Access, busy: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy)?;
    connection.set_prepared_statement_cache_capacity(32);
    match access {
        // The file's writers decide when the WAL is checkpointed, not the reader that happens to close last.
        Access::Read => {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.pragma_update(None, "query_only", true)
        }
        Access::Write => connection.pragma_update(None, "synchronous", "FULL"),
        Access::Relaxed => connection.pragma_update(None, "synchronous", "NORMAL"),
    }
}

/// The WAL of the database at `path`: it lies beside the file itself, not beside a symbolic link to it.
pub(crate) fn wal_path(path: &Path) -> PathBuf {
    let mut wal = real_path(path).into_os_string();
    wal.push("-wal");
    wal.into()
}

/// The path without symbolic links, as `SQLite` resolves it.
pub(crate) fn real_path(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Runs `query` and gives what it found, if anything.
pub(crate) fn query_optional<T>(
    connection: &Connection,
    attempted: &'static str,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    use rusqlite::OptionalExtension;
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(params, read).optional())
        .map_err(store_error(attempted))
}

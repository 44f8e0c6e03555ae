//! Where data is: the service's database, and the relay's bookkeeping.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use outbox_sql::postgres::{BookkeepingSchema, ConnectOptions, Mapping, wal::WalSettings};

/// The service's database, with its data and its entries.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseConfig {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PostgresConfig>),
}

/// How a PostgreSQL database is reached and read.
#[derive(Clone, Debug)]
pub(crate) struct PostgresConfig {
    /// How it is reached. Shows no password.
    pub options: ConnectOptions,
    /// The longest pause between two looks while nothing happens.
    pub poll: Duration,
    /// Whether to listen for what writers tell besides.
    pub notify: bool,
    /// The table of the entries, where it is laid out otherwise.
    pub mapping: Option<Mapping>,
    /// Whether a relay reads the server's log.
    pub log: Option<LogConfig>,
}

/// How a server's log is read.
#[derive(Clone, Debug)]
pub(crate) struct LogConfig {
    /// The publication of the entries.
    pub publication: String,
    /// Slot, publication, and how much log the server may keep.
    pub settings: WalSettings,
}

/// What a relay keeps for itself.
#[derive(Clone, Debug)]
pub(crate) enum BookkeepingConfig {
    /// An SQLite file of its own.
    Sqlite(PathBuf),
    /// A schema in a PostgreSQL database, which may be the service's.
    Postgres {
        /// How the database is reached.
        options: Box<ConnectOptions>,
        /// Which schema.
        schema: BookkeepingSchema,
        /// The file that does not go back when the database is restored from a backup.
        witness: PathBuf,
    },
}

impl DatabaseConfig {
    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(file),
            Self::Postgres(_) => None,
        }
    }

    /// Whether its entries are in a table that is laid out otherwise.
    pub(crate) fn is_mapped(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(database) => database.mapping.is_some(),
        }
    }
}

impl BookkeepingConfig {
    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(file),
            Self::Postgres { .. } => None,
        }
    }
}

/// For people, without secrets.
impl fmt::Display for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.display().fmt(f),
            Self::Postgres(database) => database.options.fmt(f),
        }
    }
}

/// For people, without secrets.
impl fmt::Display for BookkeepingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.display().fmt(f),
            Self::Postgres { options, schema, .. } => write!(f, "{options}, schema {schema}"),
        }
    }
}

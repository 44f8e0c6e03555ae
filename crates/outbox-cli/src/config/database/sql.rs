//! What a build with SQLite and PostgreSQL knows besides: how a PostgreSQL database is reached, and which stores are files.

use std::{fmt, path::Path, time::Duration};

use outbox_sql::postgres::{ConnectOptions, Mapping, wal::WalSettings};

use super::{BookkeepingConfig, DatabaseConfig};

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

impl PostgresConfig {
    /// The mapping and the log, where rows are read in the log alone.
    pub(crate) fn log_alone(&self) -> Option<(&Mapping, &LogConfig)> {
        let mapping = self.mapping.as_ref().filter(|mapping| !mapping.has_id())?;
        Some((mapping, self.log.as_ref()?))
    }
}

impl DatabaseConfig {
    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(file),
            Self::Postgres(_) => None,
            #[cfg(feature = "aws")]
            Self::Dynamo(_) => None,
        }
    }

    /// Whether its rows are in the server's log alone: nothing is kept that could be read again.
    pub(crate) fn is_log_alone(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(database) => database.log_alone().is_some(),
            #[cfg(feature = "aws")]
            Self::Dynamo(_) => false,
        }
    }
}

impl BookkeepingConfig {
    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(file),
            Self::Postgres { .. } => None,
            #[cfg(feature = "aws")]
            Self::Dynamo { .. } => None,
        }
    }
}

/// For people, without secrets.
impl fmt::Display for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.display().fmt(f),
            Self::Postgres(database) => database.options.fmt(f),
            #[cfg(feature = "aws")]
            Self::Dynamo(dynamo) => write!(f, "dynamodb:{}", dynamo.prefix),
        }
    }
}

/// For people, without secrets.
impl fmt::Display for BookkeepingConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.display().fmt(f),
            Self::Postgres { options, schema, .. } => write!(f, "{options}, schema {schema}"),
            #[cfg(feature = "aws")]
            Self::Dynamo { table, .. } => write!(f, "dynamodb:{table}"),
        }
    }
}

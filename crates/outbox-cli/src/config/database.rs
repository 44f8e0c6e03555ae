//! Where data is: the service's database, and the relay's bookkeeping.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

#[cfg(feature = "aws")]
use outbox_aws::{Settings, dynamodb::Tables};
use outbox_sql::postgres::{BookkeepingSchema, ConnectOptions, Mapping, wal::WalSettings};

/// The service's database, with its data and its entries.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseConfig {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PostgresConfig>),
    /// Tables of DynamoDB.
    #[cfg(feature = "aws")]
    Dynamo(Box<DynamoConfig>),
}

/// How tables of DynamoDB are reached and read.
#[cfg(feature = "aws")]
#[derive(Clone, Debug)]
pub(crate) struct DynamoConfig {
    /// What the names of the tables begin with.
    pub prefix: String,
    /// Where they are, and as whom they are used.
    pub aws: Settings,
    /// Which share of the entries' read capacity a recovery takes at most.
    pub recovery_share: f64,
    /// How long after their commit entries of new tables expire, if that is said.
    pub expiry: Option<Duration>,
    /// Go on though entries may have expired before a route got them.
    pub accept_loss: bool,
}

#[cfg(feature = "aws")]
impl DynamoConfig {
    /// The tables of entries and heads.
    pub(crate) fn tables(&self) -> Tables {
        Tables::with_prefix(&self.prefix)
    }
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
    /// A table of DynamoDB.
    #[cfg(feature = "aws")]
    Dynamo {
        /// Its name.
        table: String,
        /// Where it is, and as whom it is used.
        aws: Settings,
    },
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

    /// Whether its entries are in a table that is laid out otherwise.
    pub(crate) fn is_mapped(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(database) => database.mapping.is_some(),
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

//! Where data is: the service's database, and the relay's bookkeeping.

#[cfg(feature = "sql")]
use std::path::PathBuf;
#[cfg(feature = "aws")]
use std::time::Duration;

#[cfg(feature = "aws")]
use outbox_aws::{Settings, dynamodb::Tables};
#[cfg(feature = "sql")]
use outbox_sql::postgres::{BookkeepingSchema, ConnectOptions};

#[cfg(feature = "sql")]
mod sql;

#[cfg(feature = "sql")]
pub(crate) use sql::{LogConfig, PostgresConfig};

/// The service's database, with its data and its entries.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseConfig {
    /// An SQLite file.
    #[cfg(feature = "sql")]
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    #[cfg(feature = "sql")]
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
    /// The table of the entries, where others lay it out.
    pub mapping: Option<outbox_aws::dynamodb::Mapping>,
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
        match &self.mapping {
            Some(mapping) => Tables::mapped(&self.prefix, mapping.clone()),
            None => Tables::with_prefix(&self.prefix),
        }
    }
}

/// What a relay keeps for itself.
#[derive(Clone, Debug)]
pub(crate) enum BookkeepingConfig {
    /// An SQLite file of its own.
    #[cfg(feature = "sql")]
    Sqlite(PathBuf),
    /// A schema in a PostgreSQL database, which may be the service's.
    #[cfg(feature = "sql")]
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

impl DatabaseConfig {
    /// Whether its entries are in a table that is laid out otherwise.
    pub(crate) fn is_mapped(&self) -> bool {
        match self {
            #[cfg(feature = "sql")]
            Self::Sqlite(_) => false,
            #[cfg(feature = "sql")]
            Self::Postgres(database) => database.mapping.is_some(),
            #[cfg(feature = "aws")]
            Self::Dynamo(database) => database.mapping.is_some(),
        }
    }
}

//! The databases that a configuration names: the service's, and the relay's bookkeeping.

use std::{path::Path, sync::Arc};

use outbox::{BusinessStore, Operator, Source};
#[cfg(feature = "aws")]
use outbox_aws::dynamodb::{self, DynamoBookkeeping, TableSource};
use outbox_sql::{
    postgres::{
        self, ConnectOptions, PostgresBookkeeping, PostgresStore,
        wal::{self, LogStore, UnreadSlot, WalSource},
    },
    sqlite::{self, BookkeepingOptions, SqliteBookkeeping, SqliteStore},
};

#[cfg(feature = "aws")]
use super::dynamo;
use crate::{
    config::{BookkeepingConfig, Config, DatabaseConfig, PostgresConfig},
    exit::{Exit, Failure},
};

/// Where entries are read, where routes are registered, and what the relay keeps.
#[derive(Clone)]
pub(crate) struct Stores {
    /// Reads entries.
    pub source: Arc<dyn Source>,
    /// Registers routes.
    pub business: Arc<dyn BusinessStore>,
    /// Checkpoints, lease, kept events.
    pub bookkeeping: Arc<dyn Operator>,
}

/// The service's database: both sides of it that a relay sees.
pub(crate) struct Business {
    /// Reads entries.
    pub source: Arc<dyn Source>,
    /// Registers routes.
    pub store: Arc<dyn BusinessStore>,
}

impl Business {
    fn of(store: impl Source + BusinessStore + Clone + 'static) -> Self {
        Self { source: Arc::new(store.clone()), store: Arc::new(store) }
    }
}

/// Opens the business database and the bookkeeping of `config`, making the latter if `make` and nobody has read the
/// database yet.
///
/// # Errors
/// [`Failure`], with exit code 4 if the database belongs to a bookkeeping that is not there: a new one would publish
/// everything again.
pub(crate) async fn stores(config: &Config, make: bool) -> Result<Stores, Failure> {
    let Business { source, store } = business(config).await?;
    let kept = &config.relay.bookkeeping;
    if let Some(owner) = store.identity().await?.bookkeeping()
        && !is_there(kept).await?
    {
        return Err(Failure::new(format!("the bookkeeping {kept} is not there"))
            .exit(Exit::Adopt)
            .help(format!("the database is read by bookkeeping {owner}: put it back, or see `outbox adopt`")));
    }
    Ok(Stores { source, business: store, bookkeeping: bookkeeping(kept, make).await? })
}

/// Opens the business database alone.
///
/// # Errors
/// As the store gave it.
pub(crate) async fn business(config: &Config) -> Result<Business, Failure> {
    #[cfg(feature = "aws")]
    let forwarders = &config.forwarders;
    match &config.store.database {
        DatabaseConfig::Sqlite(file) => {
            // Never there, rather than gone: then nothing was lost.
            if !file.exists() && !config.relay.bookkeeping.file().is_some_and(Path::exists) {
                return Err(Failure::new(format!("there is no database {}", file.display()))
                    .help("`outbox init` makes it; a path is relative to the configuration's folder"));
            }
            Ok(Business::of(SqliteStore::open(file, sqlite::StoreOptions::default())?))
        }
        DatabaseConfig::Postgres(database) => {
            if let Some((mapping, log)) = database.log_alone() {
                let (options, settings) = (database.options.clone(), log.settings.clone());
                return Ok(Business::of(LogStore::open(options, mapping.clone(), settings).await?));
            }
            let PostgresConfig { options, poll, notify, mapping, log: _ } = &**database;
            let listen = notify.then(|| options.clone());
            let (poll, mapping) = (*poll, mapping.clone());
            let settings = postgres::StoreOptions { poll, listen, mapping, ..postgres::StoreOptions::default() };
            Ok(Business::of(PostgresStore::open(options.clone(), settings).await?))
        }
        #[cfg(feature = "aws")]
        DatabaseConfig::Dynamo(config) => {
            let store = dynamo(config).await?;
            let stream = super::stream(config, &store).await?;
            // What functions publish, nobody reads here: only replays do, from the table.
            let is_forwarded = !forwarders.is_empty();
            let source: Arc<dyn Source> =
                if is_forwarded { Arc::new(TableSource::of(&stream)) } else { Arc::new(stream) };
            Ok(Business { source, store: Arc::new(store) })
        }
    }
}

/// What a relay reads: the server's log, if the configuration says so, which begins a stream; else `source`.
///
/// # Errors
/// As the server gave it.
pub(crate) async fn read_by(config: &Config, source: Arc<dyn Source>) -> Result<Arc<dyn Source>, Failure> {
    let DatabaseConfig::Postgres(database) = &config.store.database else { return Ok(source) };
    match &database.log {
        // It is one already.
        Some(_) if database.log_alone().is_some() => Ok(source),
        Some(log) => Ok(Arc::new(WalSource::open(source, database.options.clone(), log.settings.clone()).await?)),
        None => Ok(source),
    }
}

/// The replication slots of the database that nobody reads, nor a relay of this configuration would.
///
/// # Errors
/// As the server gave it.
pub(crate) async fn unread_slots(config: &Config) -> Result<Vec<UnreadSlot>, Failure> {
    let DatabaseConfig::Postgres(database) = &config.store.database else { return Ok(Vec::new()) };
    let settings = database.log.as_ref().map(|log| &log.settings);
    Ok(wal::unread_slots(&database.options, settings).await?)
}

/// Whether there is a bookkeeping.
///
/// # Errors
/// As connecting gave it.
pub(crate) async fn is_there(bookkeeping: &BookkeepingConfig) -> Result<bool, Failure> {
    match bookkeeping {
        BookkeepingConfig::Sqlite(file) => Ok(file.exists()),
        BookkeepingConfig::Postgres { options, schema, .. } => {
            Ok(PostgresBookkeeping::is_there(options, schema).await?)
        }
        #[cfg(feature = "aws")]
        BookkeepingConfig::Dynamo { table, aws } => {
            let client = dynamodb::connect(aws).await;
            Ok(DynamoBookkeeping::is_there(&client, table, dynamodb::BookkeepingOptions::default()).await?)
        }
    }
}

/// Opens the bookkeeping; makes it, if need be and `make` says so.
///
/// # Errors
/// As the store gave it.
pub(crate) async fn bookkeeping(config: &BookkeepingConfig, make: bool) -> Result<Arc<dyn Operator>, Failure> {
    match config {
        BookkeepingConfig::Sqlite(file) => {
            let options = BookkeepingOptions { create: make, ..BookkeepingOptions::default() };
            Ok(Arc::new(SqliteBookkeeping::open(file, options)?))
        }
        BookkeepingConfig::Postgres { options, schema, witness } => {
            if make && !PostgresBookkeeping::is_there(options, schema).await? {
                PostgresBookkeeping::init(options, schema).await?;
            }
            let opened = PostgresBookkeeping::open(ConnectOptions::clone(options), schema.clone()).await?;
            Ok(Arc::new(opened.witness_file(witness)))
        }
        #[cfg(feature = "aws")]
        BookkeepingConfig::Dynamo { table, aws } => {
            let (client, options) = (dynamodb::connect(aws).await, dynamodb::BookkeepingOptions::default());
            if make && !DynamoBookkeeping::is_there(&client, table, options.clone()).await? {
                DynamoBookkeeping::init(&client, table, &options).await?;
            }
            Ok(Arc::new(DynamoBookkeeping::open(&client, table, options).await?))
        }
    }
}

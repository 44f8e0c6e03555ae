//! From a configuration to its components: one explicit `match` for each kind of thing.

use std::{path::Path, sync::Arc, time::Duration};

#[cfg(not(feature = "crash-points"))]
use outbox::System;
use outbox::{
    BusinessStore, Clock, Operator, Sink, SinkLimits, Source,
    relay::RetentionPolicy,
    sinks::{FileSink, LINE_LIMITS, StdoutSink, WebhookSettings, WebhookSink},
};
use outbox_sql::sqlite::{BookkeepingOptions, InboxOptions, SqliteBookkeeping, SqliteInbox, SqliteStore, StoreOptions};

use crate::{
    config::{Config, Retention, RouteConfig, SinkConfig},
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

/// Opens the business database and the bookkeeping of `config`, making the latter if `make` and nobody has read the
/// database yet.
///
/// # Errors
/// [`Failure`], with exit code 4 if the database belongs to a bookkeeping and the file is not there: a new one would
/// publish everything again.
pub(crate) async fn stores(config: &Config, make: bool) -> Result<Stores, Failure> {
    let store = business(config)?;
    let file = &config.relay.bookkeeping;
    let identity = store.identity().await?;
    if let Some(owner) = identity.bookkeeping().filter(|_| !file.exists()) {
        return Err(Failure::new(format!("the bookkeeping {} is not there", file.display()))
            .exit(Exit::Adopt)
            .help(format!("the database is read by bookkeeping {owner}: put its file back, or see `outbox adopt`")));
    }
    let bookkeeping = bookkeeping(file, make)?;
    Ok(Stores { source: Arc::new(store.clone()), business: Arc::new(store), bookkeeping: Arc::new(bookkeeping) })
}

/// Opens the business database alone.
///
/// # Errors
/// As the store gave it.
pub(crate) fn business(config: &Config) -> Result<SqliteStore, Failure> {
    let file = &config.store.sqlite;
    // Never there, rather than gone: then nothing was lost.
    if !file.exists() && !config.relay.bookkeeping.exists() {
        return Err(Failure::new(format!("there is no database {}", file.display()))
            .help("`outbox init` makes it; a path is relative to the configuration's folder"));
    }
    Ok(SqliteStore::open(file, StoreOptions::default())?)
}

/// Opens the bookkeeping at `file`; makes it, if need be and `make` says so.
///
/// # Errors
/// As the store gave it.
pub(crate) fn bookkeeping(file: &Path, make: bool) -> Result<SqliteBookkeeping, Failure> {
    Ok(SqliteBookkeeping::open(file, BookkeepingOptions { create: make, ..BookkeepingOptions::default() })?)
}

/// The consumers that have an inbox in the database `file`.
///
/// # Errors
/// As the store gave it.
pub(crate) fn inbox_consumers(file: &Path) -> Result<Vec<String>, Failure> {
    Ok(SqliteInbox::consumers(file)?)
}

/// Opens the inbox of `consumer` in the database `file`; makes neither.
///
/// # Errors
/// As the store gave it.
pub(crate) fn inbox(file: &Path, consumer: &str) -> Result<SqliteInbox, Failure> {
    Ok(SqliteInbox::open(file, InboxOptions::new(consumer).existing())?)
}

/// Makes the sink of `route`. Connects nowhere yet.
///
/// # Errors
/// [`Failure`] if its file cannot be opened or its certificates cannot be loaded.
pub(crate) fn sink(route: &RouteConfig) -> Result<Arc<dyn Sink>, Failure> {
    let name = &route.settings.name;
    let attempted = format!("the sink of route `{name}`");
    let sink: Arc<dyn Sink> = match &route.sink {
        SinkConfig::Webhook(settings) => {
            let sink = WebhookSink::new(WebhookSettings::clone(settings), clock()?);
            Arc::new(sink.map_err(|error| Failure::new(error.to_string()).context(&attempted))?)
        }
        SinkConfig::File(file) => {
            let sink = FileSink::open(&file.path);
            Arc::new(sink.map_err(|error| Failure::new(error.to_string()).because(&error).context(&attempted))?)
        }
        SinkConfig::Stdout => Arc::new(StdoutSink::new()),
    };
    #[cfg(feature = "crash-points")]
    let sink = crate::crash_points::sink(sink)?;
    Ok(sink)
}

/// The clock of everything that runs for long.
///
/// # Errors
/// None in a shipped build.
#[cfg_attr(not(feature = "crash-points"), expect(clippy::unnecessary_wraps, reason = "with crash points it can fail"))]
pub(crate) fn clock() -> Result<Arc<dyn Clock>, Failure> {
    #[cfg(feature = "crash-points")]
    return crate::crash_points::clock();
    #[cfg(not(feature = "crash-points"))]
    Ok(Arc::new(System))
}

/// What the sink of `route` takes, without making it.
pub(crate) fn limits(route: &RouteConfig) -> SinkLimits {
    match &route.sink {
        SinkConfig::Webhook(settings) => settings.limits(),
        SinkConfig::File(_) | SinkConfig::Stdout => LINE_LIMITS,
    }
}

/// The relay's retention.
pub(crate) fn retention(retention: Retention) -> RetentionPolicy {
    match retention {
        Retention::Off => RetentionPolicy::Off,
        Retention::Age(age) => RetentionPolicy::Age(age),
        Retention::Newest(newest) => RetentionPolicy::Newest(newest),
    }
}

/// How long the relay waits for a call, so that the sink's own limit, which knows more, comes first.
pub(crate) fn call_timeout(config: &Config) -> Option<Duration> {
    const SLACK: Duration = Duration::from_secs(10);
    let own = config.routes.iter().filter_map(|route| match &route.sink {
        SinkConfig::Webhook(settings) => Some(settings.timeout + SLACK),
        SinkConfig::File(_) | SinkConfig::Stdout => None,
    });
    own.max().filter(|longest| *longest > Duration::from_secs(60))
}

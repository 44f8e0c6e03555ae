//! What the functions of Lambda take of the command: the configuration that both read, and the components that it names.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use outbox::{RouteSettings, Sink};
use outbox_aws::dynamodb::{self, BookkeepingOptions, DynamoBookkeeping, DynamoStore, StreamsSource, TableSource};

use crate::{
    config::{BookkeepingConfig, Config, DatabaseConfig, DynamoConfig},
    exit::Failure,
    wiring,
};

/// The configuration of a function that is given none but names, in its environment.
const BY_NAMES: &str = r#"
[store]
dynamodb = "${OUTBOX_STORE}"

[relay]
bookkeeping = "dynamodb:${OUTBOX_BOOKKEEPING}"

[[route]]
name = "${OUTBOX_ROUTE:-bus}"
eventbridge = "${OUTBOX_BUS}"
"#;

/// What it is called in messages.
const ENVIRONMENT: &str = "(environment)";

/// Why a function cannot be set up: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misconfigured(String);

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misconfigured {}

impl From<Failure> for Misconfigured {
    fn from(failure: Failure) -> Self {
        Self(
            failure
                .remedy()
                .map_or_else(|| failure.message().to_owned(), |help| format!("{}: {help}", failure.message())),
        )
    }
}

/// A function's configuration, read and checked. Holds secrets of sinks, and shows none.
#[derive(Clone, Debug)]
pub struct Functions {
    config: Config,
}

/// What a forwarder works with.
pub struct Forwarding {
    /// The service's tables.
    pub store: DynamoStore,
    /// Reads single entries.
    pub entries: StreamsSource,
    /// What is kept.
    pub bookkeeping: DynamoBookkeeping,
    /// The route.
    pub route: RouteSettings,
    /// Its sink.
    pub sink: Arc<dyn Sink>,
}

/// What a keeper works with.
pub struct Keeping {
    /// The service's tables.
    pub store: DynamoStore,
    /// Reads history for replays.
    pub table: TableSource,
    /// The stream.
    pub stream: StreamsSource,
    /// What is kept.
    pub bookkeeping: DynamoBookkeeping,
    /// The routes, each with its sink.
    pub routes: Vec<(RouteSettings, Arc<dyn Sink>)>,
    /// What the lease is called.
    pub lease: String,
    /// How long it stands still before somebody else takes it.
    pub failover: Duration,
}

impl Functions {
    /// Reads the configuration: the file that `OUTBOX_CONFIG` names, or what `OUTBOX_STORE`, `OUTBOX_BOOKKEEPING` and
    /// `OUTBOX_BUS` say. `lookup` gives environment variables.
    ///
    /// # Errors
    /// [`Misconfigured`] names every mistake.
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Misconfigured> {
        let read = match lookup("OUTBOX_CONFIG").filter(|file| !file.is_empty()) {
            Some(file) => {
                let text = std::fs::read_to_string(&file).map_err(|error| {
                    Misconfigured(format!(
                        "OUTBOX_CONFIG: {file} cannot be read ({error}): put it into the function's zip"
                    ))
                })?;
                Config::parse(Path::new(&file), &text, lookup)
            }
            None => Config::parse(Path::new(ENVIRONMENT), BY_NAMES, lookup),
        };
        let config = read.map_err(|problems| Misconfigured(problems.to_string()))?;
        let functions = Self { config };
        functions.tables()?;
        functions.bookkeeping_table()?;
        Ok(functions)
    }

    /// Opens what the forwarder of one route works with: the only one, or that which `route` names.
    ///
    /// # Errors
    /// [`Misconfigured`] if no route is meant, or one that functions cannot publish; else as DynamoDB says.
    pub async fn forwarding(&self, route: Option<&str>) -> Result<Forwarding, Misconfigured> {
        let route = match (route, self.config.routes.as_slice()) {
            (Some(name), _) => self.config.route(name).ok_or_else(|| {
                Misconfigured(format!("OUTBOX_ROUTE: the configuration has no route `{name}`: name one that it has"))
            })?,
            (None, [route]) => route,
            (None, _) => {
                let message = "OUTBOX_ROUTE is not set, and the configuration has several routes: name the one that this function publishes";
                return Err(Misconfigured(message.to_owned()));
            }
        };
        if route.settings.rate_limit.is_some() {
            let name = &route.settings.name;
            return Err(Misconfigured(format!(
                "route[{name}].rate_limit: functions side by side cannot keep it: leave it out"
            )));
        }
        let (store, entries, bookkeeping) = self.stores().await?;
        Ok(Forwarding { store, entries, bookkeeping, route: route.settings.clone(), sink: wiring::sink(route).await? })
    }

    /// Opens what the keeper of all routes works with.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn keeping(&self) -> Result<Keeping, Misconfigured> {
        let (store, entries, bookkeeping) = self.stores().await?;
        let mut routes = Vec::with_capacity(self.config.routes.len());
        for route in &self.config.routes {
            routes.push((route.settings.clone(), wiring::sink(route).await?));
        }
        Ok(Keeping {
            table: TableSource::of(&entries),
            stream: entries,
            store,
            bookkeeping,
            routes,
            lease: self.config.relay.name.clone(),
            failover: self.config.relay.failover,
        })
    }

    /// What the tables' names begin with, to tell stores apart.
    pub fn store(&self) -> &str {
        self.tables().map_or("", |tables| tables.prefix.as_str())
    }

    async fn stores(&self) -> Result<(DynamoStore, StreamsSource, DynamoBookkeeping), Misconfigured> {
        let config = self.tables()?;
        let store = wiring::dynamo(config).await?;
        let entries = wiring::stream(config, &store).await?;
        let (table, aws) = self.bookkeeping_table()?;
        let client = dynamodb::connect(aws).await;
        let bookkeeping = DynamoBookkeeping::open(&client, table, BookkeepingOptions::default()).await;
        Ok((store, entries, bookkeeping.map_err(Failure::from)?))
    }

    fn tables(&self) -> Result<&DynamoConfig, Misconfigured> {
        match &self.config.store.database {
            DatabaseConfig::Dynamo(dynamo) if dynamo.mapping.is_some() => {
                let message = "store.mapping: functions read tables of Outbox's own layout: run a relay for this one";
                Err(Misconfigured(message.to_owned()))
            }
            DatabaseConfig::Dynamo(dynamo) => Ok(dynamo),
            #[cfg(feature = "sql")]
            DatabaseConfig::Sqlite(_) | DatabaseConfig::Postgres(_) => {
                let message = "store: functions publish from tables of DynamoDB: name them by `dynamodb`";
                Err(Misconfigured(message.to_owned()))
            }
        }
    }

    #[cfg_attr(not(feature = "sql"), expect(clippy::unnecessary_wraps, reason = "with SQL it can be elsewhere"))]
    fn bookkeeping_table(&self) -> Result<(&str, &outbox_aws::Settings), Misconfigured> {
        match &self.config.relay.bookkeeping {
            BookkeepingConfig::Dynamo { table, aws } => Ok((table, aws)),
            #[cfg(feature = "sql")]
            BookkeepingConfig::Sqlite(_) | BookkeepingConfig::Postgres { .. } => {
                let message = "relay.bookkeeping: functions keep nothing on a disk: name a table, as \"dynamodb:orders-relay-bookkeeping\"";
                Err(Misconfigured(message.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Functions, Misconfigured> {
        Functions::from_environment(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn three_names_are_a_configuration() {
        let named = [("OUTBOX_STORE", "carts"), ("OUTBOX_BOOKKEEPING", "carts-bookkeeping"), ("OUTBOX_BUS", "carts")];
        let functions = read(&named).unwrap();
        assert_eq!(functions.store(), "carts");
        assert_eq!(functions.bookkeeping_table().unwrap().0, "carts-bookkeeping");
        assert_eq!(functions.config.routes[0].settings.name.as_str(), "bus");
    }

    #[test]
    fn a_name_that_is_missing_is_named() {
        let refused = read(&[("OUTBOX_STORE", "carts"), ("OUTBOX_BUS", "carts")]).unwrap_err().to_string();
        assert!(refused.contains("`OUTBOX_BOOKKEEPING` is not set"), "{refused}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let refused = read(&[("OUTBOX_CONFIG", "/nowhere/outbox.toml")]).unwrap_err().to_string();
        assert!(refused.contains("/nowhere/outbox.toml cannot be read"), "{refused}");
    }
}

//! What has to be run by others: rights of roles, and the statements for a team's own migrations.

use outbox_sql::postgres::{BookkeepingSchema, Grants, schema, wal::publication_sql};

use super::Args;
use crate::{
    config::{BookkeepingConfig, Config, DatabaseConfig},
    exit::Failure,
};

/// The GRANTs for the roles of `args`; empty if it names none.
///
/// # Errors
/// [`Failure`] if the database has no roles.
pub(super) fn of(config: &Config, args: &Args) -> Result<String, Failure> {
    if args.writer.is_empty() && args.relay.is_empty() {
        return Ok(String::new());
    }
    if config.store.database.file().is_some() {
        return Err(Failure::usage("an SQLite database has no roles")
            .help("leave --writer and --relay out; who may write the file may write events"));
    }
    #[cfg(feature = "aws")]
    if let DatabaseConfig::Dynamo(_) = &config.store.database {
        return Err(Failure::usage("tables of DynamoDB grant nothing themselves")
            .help("leave --writer and --relay out; `outbox iam writer` and `outbox iam relay` print the policies"));
    }
    let mut grants = Grants::new();
    for role in &args.writer {
        grants = grants.writer(role);
    }
    for role in &args.relay {
        grants = grants.relay(role);
    }
    let kept = books(config).map(|schema| args.relay.iter().map(|role| schema.grants(role)).collect::<String>());
    Ok(grants.sql() + &kept.unwrap_or_default())
}

/// The schema of the bookkeeping, where it is in the service's database or in one of its kind.
fn books(config: &Config) -> Option<&BookkeepingSchema> {
    match &config.relay.bookkeeping {
        BookkeepingConfig::Postgres { schema, .. } => Some(schema),
        BookkeepingConfig::Sqlite(_) => None,
        #[cfg(feature = "aws")]
        BookkeepingConfig::Dynamo { .. } => None,
    }
}

/// All that `outbox init` would run, `grants`, and what a mapped table needs.
///
/// # Errors
/// [`Failure`] if the database is none that has migrations.
pub(super) fn statements(config: &Config, grants: &str, mapped: &str) -> Result<String, Failure> {
    let DatabaseConfig::Postgres(database) = &config.store.database else {
        return Err(Failure::usage("--sql is for PostgreSQL")
            .help("docs/table-layout.md has the tables of an SQLite database; `outbox init` makes them"));
    };
    let mut parts = vec![format!(
        "-- In the service's database, in one transaction, by the role that is to own the schema.\n\
         -- Afterwards `outbox init` gives the database its identity.\n{}",
        schema::sql()
    )];
    if let BookkeepingConfig::Postgres { options, schema, .. } = &config.relay.bookkeeping {
        let place = if options.to_string() == database.options.to_string() {
            "in the same database".to_owned()
        } else {
            format!("in {options}")
        };
        parts.push(format!("-- The relay's bookkeeping, {place}, in one transaction.\n{}", schema.sql()));
    }
    if let Some(log) = database.log.as_ref().filter(|_| database.mapping.is_none()) {
        parts.push(format!("-- What a relay reads of the server's log.\n{}", publication_sql(&log.publication)));
    }
    if !mapped.is_empty() {
        parts.push(format!(
            "-- For the mapped table, by its owner, each statement by itself, not in a transaction.\n{mapped}"
        ));
    }
    if !grants.is_empty() {
        parts.push(format!("-- Rights.\n{grants}"));
    }
    Ok(parts.join("\n"))
}

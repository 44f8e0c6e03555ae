//! `[store]`, and the bookkeeping of `[relay]`.

use std::path::Path;

use super::Section;
#[cfg(feature = "aws")]
use super::dynamodb;
#[cfg(feature = "sql")]
use super::{DAY, MILLISECOND, SECOND, mapping, path};
#[cfg(feature = "aws")]
use crate::config::Retention;
use crate::config::{BookkeepingConfig, DatabaseConfig, StoreConfig};

#[cfg(any(not(feature = "sql"), test))]
mod no_sql;
#[cfg(feature = "sql")]
mod sql;

#[cfg(not(feature = "sql"))]
use no_sql as sql;

const DATABASE: &str = "name the service's database: `sqlite = \"orders.db\"`, `postgres = \"postgres://relay@db.example.com/orders\"`, or `dynamodb = \"orders\"`";

pub(super) fn store(folder: &Path, section: &Section<'_>) -> Option<StoreConfig> {
    let database = database(folder, section);
    let producer = section.parsed("producer", "/orders", |text| {
        outbox::event::check_uri_reference("producer", text)
            .map(|()| text.to_owned())
            .map_err(|error| format!("cannot be a producer ({error}): use a URI reference, as `/orders`"))
    });
    let retention = match &database {
        #[cfg(feature = "aws")]
        Some(DatabaseConfig::Dynamo(_)) => Retention::Off,
        database => sql::retention(section, database.as_ref()),
    };
    section.finish();
    Some(StoreConfig { database: database?, producer, retention })
}

fn database(folder: &Path, section: &Section<'_>) -> Option<DatabaseConfig> {
    let sqlite = section.has("sqlite");
    let given: Vec<_> = ["postgres", "dynamodb"].into_iter().filter(|key| section.has(key)).collect();
    if let Some(second) = given.get(usize::from(!sqlite)) {
        let first = if sqlite { "sqlite" } else { given[0] };
        section.problem(second, format!("there is `{first}` already"), "name one database: leave the others out");
        return None;
    }
    match given.first() {
        Some(&"dynamodb") => in_dynamodb(section),
        Some(_) => sql::postgres(section),
        None => sql::sqlite(folder, section),
    }
}

#[cfg(feature = "aws")]
fn in_dynamodb(section: &Section<'_>) -> Option<DatabaseConfig> {
    dynamodb::store(section).map(|dynamo| DatabaseConfig::Dynamo(Box::new(dynamo)))
}

#[cfg(not(feature = "aws"))]
fn in_dynamodb(section: &Section<'_>) -> Option<DatabaseConfig> {
    section.problem("dynamodb", "is not in this build", "build the command with the feature `aws`");
    None
}

/// The bookkeeping of the relay `name`; without a section, that which belongs to the store.
pub(super) fn bookkeeping(
    folder: &Path,
    name: &str,
    section: Option<&Section<'_>>,
    store: Option<&StoreConfig>,
) -> Option<BookkeepingConfig> {
    let text = section.and_then(|section| section.text("bookkeeping"));
    #[cfg(feature = "aws")]
    if let Some(StoreConfig { database: DatabaseConfig::Dynamo(dynamo), .. }) = store
        && text.as_ref().is_none_or(|text| text.starts_with(dynamodb::SCHEME))
    {
        if let Some(section) = section {
            needs_no_schema(section);
        }
        if let (Some(section), Some(text)) = (section, text) {
            return dynamodb::bookkeeping(section, &text, dynamo);
        }
        // The service may well have a table that is called as the relay is: `orders-carts`.
        let table = format!("{}-{name}-bookkeeping", dynamo.prefix);
        return Some(BookkeepingConfig::Dynamo { table, aws: dynamo.aws.clone() });
    }
    sql::bookkeeping(folder, name, section, text, store)
}

/// A file or a table is the relay's own as it is.
fn needs_no_schema(section: &Section<'_>) {
    const HELP: &str = "leave it out; it is for a bookkeeping in PostgreSQL";
    if section.has("schema") {
        section.problem("schema", "the bookkeeping is a file or a table, which has no schemas", HELP);
    }
    if section.has("witness") {
        section.problem("witness", "the bookkeeping is a file or a table, which needs no witness", HELP);
    }
}

//! The tables in the service's database.

use std::path::Path;

use outbox_sql::{
    postgres::{self, wal},
    sqlite,
};

#[cfg(feature = "aws")]
use outbox_aws::dynamodb;

use super::Done;
#[cfg(feature = "aws")]
use crate::config::DynamoConfig;
use crate::{
    config::{Config, DatabaseConfig, PostgresConfig},
    exit::Failure,
};

/// What identifies the tables that are there now.
pub(super) struct Tables {
    /// Given when they were made.
    pub store_id: String,
    /// Whose events they hold.
    pub producer: String,
}

/// Makes the tables, or finds them there.
pub(super) async fn tables(config: &Config, producer: Option<&str>, done: &mut Done) -> Result<Tables, Failure> {
    let named = producer.map(str::to_owned).or_else(|| config.store.producer.clone());
    match &config.store.database {
        DatabaseConfig::Sqlite(file) => in_sqlite(file, named, done),
        DatabaseConfig::Postgres(database) => in_postgres(database, named, done).await,
        #[cfg(feature = "aws")]
        DatabaseConfig::Dynamo(database) => in_dynamodb(database, named, done).await,
    }
}

fn in_sqlite(file: &Path, named: Option<String>, done: &mut Done) -> Result<Tables, Failure> {
    let fresh = !file.exists();
    let connection = rusqlite::Connection::open(file).map_err(|error| {
        Failure::new(format!("the database {} cannot be opened or made", file.display()))
            .because(&error)
            .help("name a path in a folder that this user may write")
    })?;
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .map_err(|error| Failure::new("the database refuses a time limit").because(&error))?;
    let before = sqlite::check(&connection).ok();
    let producer = expect_producer(named.or_else(|| before.as_ref().map(|meta| meta.producer.clone())))?;
    let meta = sqlite::init(&connection, &sqlite::InitOptions::new(producer))
        .map_err(|error| Failure::from(error).context(&file.display().to_string()))?;
    done.add(
        file.display(),
        match (before.is_some(), fresh) {
            (true, _) => "has the outbox tables already".to_owned(),
            (false, true) => format!("database, with the outbox tables of producer {}", meta.producer),
            (false, false) => format!("the outbox tables of producer {}; your own are untouched", meta.producer),
        },
    );
    Ok(Tables { store_id: meta.store_id, producer: meta.producer })
}

async fn in_postgres(database: &PostgresConfig, named: Option<String>, done: &mut Done) -> Result<Tables, Failure> {
    let options = &database.options;
    let mut client = postgres::connect(options).await?;
    let before = postgres::check(&client).await.ok();
    let producer = expect_producer(named.or_else(|| before.as_ref().map(|meta| meta.producer.clone())))?;
    let meta = postgres::init(&mut client, &postgres::InitOptions::new(producer))
        .await
        .map_err(|error| Failure::from(error).context(&options.to_string()))?;
    done.add(
        options,
        if before.is_some() {
            "has the schema `outbox` already".to_owned()
        } else {
            format!("the schema `outbox` of producer {}; your own tables are untouched", meta.producer)
        },
    );
    // A mapped table is published by its owner.
    if let Some(log) = database.log.as_ref().filter(|_| database.mapping.is_none()) {
        wal::publish(&client, &log.publication).await?;
        done.add(options, format!("the publication {}, of which a relay reads", log.publication));
    }
    Ok(Tables { store_id: meta.store_id, producer: meta.producer })
}

#[cfg(feature = "aws")]
async fn in_dynamodb(database: &DynamoConfig, named: Option<String>, done: &mut Done) -> Result<Tables, Failure> {
    let (client, tables) = (dynamodb::connect(&database.aws).await, database.tables());
    let before = dynamodb::schema::check(&client, &tables).await.ok();
    let producer = expect_producer(named.or_else(|| before.as_ref().map(|identity| identity.producer.clone())))?;
    let options = dynamodb::InitOptions::new(producer);
    let options = match database.expiry {
        Some(expiry) => options.retention(expiry),
        None => options,
    };
    let identity = dynamodb::schema::init(&client, &tables, &options)
        .await
        .map_err(|error| Failure::from(error).context(&format!("dynamodb:{}", database.prefix)))?;
    let place = format!("tables {} and {}", tables.entries(), tables.heads());
    done.add(
        place,
        if before.is_some() {
            "are there already".to_owned()
        } else {
            let entries = if database.mapping.is_some() { "your own entries" } else { "the entries" };
            format!("{entries} of producer {}, and the heads of their keys", identity.producer)
        },
    );
    if let Some(asked) = database.expiry.filter(|asked| *asked != identity.retention) {
        let days = |age: std::time::Duration| age.as_secs() / 86_400;
        return Err(Failure::usage(format!(
            "store.retention is {} days, and the tables were made with {}",
            days(asked),
            days(identity.retention)
        ))
        .help(
            "set `retention_seconds` of the item `store` in the table of heads: writers take it over within a minute",
        ));
    }
    Ok(Tables { store_id: identity.store_id, producer: identity.producer })
}

fn expect_producer(producer: Option<String>) -> Result<String, Failure> {
    producer.ok_or_else(|| {
        Failure::usage("what the service is called is not said")
            .help("set `producer` in `[store]`, or say --producer /orders")
    })
}

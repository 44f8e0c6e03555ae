//! The demo's own database on a PostgreSQL server, made for it and removed with it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use outbox::Entropy;
use outbox_sql::postgres::{ConnectOptions, connect};
use tokio_postgres::Client;

use super::purchases::Account;

/// The environment variable that holds the database's URL, for the orders service and the relay.
pub(crate) const STORE_VARIABLE: &str = "OUTBOX_DEMO_STORE";

/// Between two looks at how many events are committed.
const LOOK: Duration = Duration::from_millis(200);

/// A database of the demo's own, next to the one whose URL was given.
pub(crate) struct Server {
    /// Where databases are made.
    given: ConnectOptions,
    name: String,
    url: String,
    committed: Arc<AtomicU64>,
}

/// Shows no password.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("given", &self.given).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Server {
    /// Makes the database.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(crate) async fn set_up(url: &str, entropy: &dyn Entropy) -> Result<Self, String> {
        let given = ConnectOptions::parse(url).map_err(|error| format!("--store: {error}"))?;
        let client = connect(&given).await.map_err(|error| format!("--store: {error}"))?;
        let name = format!("outbox_demo_{:016x}", entropy.seed());
        let made = client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")).await;
        made.map_err(|error| {
            format!("--store: {given}: a database for the demo cannot be made ({error}): name a role that may make one")
        })?;
        Ok(Self { given, url: at_database(url, &name), name, committed: Arc::default() })
    }

    /// The database's URL, with its password if it has one.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many events were committed, as seen last.
    pub(crate) fn committed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.committed)
    }

    /// Looks again and again at how many events are committed, until it is dropped.
    pub(crate) async fn watch(&self) {
        loop {
            if let Ok(client) = self.client().await {
                // A server that goes away meanwhile is looked at anew.
                while self.count(&client).await.is_ok() {
                    tokio::time::sleep(LOOK).await;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The customers' accounts; how many events are committed is counted once more.
    ///
    /// # Errors
    /// That the database cannot be read, and why.
    pub(crate) async fn findings(&self) -> Result<BTreeMap<String, Account>, String> {
        const ORDERS: &str =
            "SELECT customer, count(*), sum(quantity)::bigint, sum(cents)::bigint FROM orders GROUP BY customer";
        let client = self.client().await?;
        let failed = |error: tokio_postgres::Error| format!("cannot read {}: {error}", self.name);
        self.count(&client).await.map_err(failed)?;
        let rows = client.query_typed(ORDERS, &[]).await.map_err(failed)?;
        let account = |row: &tokio_postgres::Row| {
            let (orders, units, cents) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            Ok((row.try_get(0)?, Account { orders, units, cents, fingerprint: 0 }))
        };
        rows.iter().map(account).collect::<Result<_, _>>().map_err(failed)
    }

    /// Removes the database; what still uses it is cut off.
    pub(crate) async fn remove(&self) {
        let removed = async {
            let client = connect(&self.given).await.map_err(|error| error.to_string())?;
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
            client.batch_execute(&drop).await.map_err(|error| error.to_string())
        };
        if let Err(error) = removed.await {
            eprintln!("could not remove the database {} of {}: {error}; remove it by hand", self.name, self.given);
        }
    }

    async fn client(&self) -> Result<Client, String> {
        let options = ConnectOptions::parse(&self.url).map_err(|error| error.to_string())?;
        connect(&options).await.map_err(|error| error.to_string())
    }

    async fn count(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        // Before the service has started there is no table.
        let is_there = client.query_typed("SELECT to_regclass('outbox.entries') IS NOT NULL", &[]).await?;
        if !is_there.first().map_or(Ok(false), |row| row.try_get(0))? {
            return Ok(());
        }
        if let Some(row) = client.query_typed("SELECT count(*) FROM outbox.entries", &[]).await?.first() {
            self.committed.store(row.try_get::<_, i64>(0)?.unsigned_abs(), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The URL of another database of the same server.
fn at_database(url: &str, name: &str) -> String {
    let (front, parameters) =
        url.split_once('?').map_or((url, String::new()), |(front, rest)| (front, format!("?{rest}")));
    let authority = front.find("://").map_or(0, |at| at + 3);
    let end = front[authority..].find('/').map_or(front.len(), |at| authority + at);
    format!("{}/{name}{parameters}", &front[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_databases_name_differs() {
        for (given, expected) in [
            ("postgres://u@h/a", "postgres://u@h/x"),
            ("postgres://u:p@h:5/a?sslmode=disable", "postgres://u:p@h:5/x?sslmode=disable"),
            ("postgres://u@h", "postgres://u@h/x"),
            ("postgres://u@h?sslmode=disable", "postgres://u@h/x?sslmode=disable"),
        ] {
            assert_eq!(at_database(given, "x"), expected);
        }
    }
}

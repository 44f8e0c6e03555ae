//! The bookkeeping's schema: its name, what makes it, and how it is recognised.

use std::{borrow::Cow, fmt};

use outbox::{ErrorKind, StoreError};
use tokio_postgres::{Client, error::SqlState};

use crate::postgres::{
    connection::{ConnectOptions, connect},
    failure::store_error,
};

/// The layout that this version makes and works with.
const LAYOUT: i32 = 1;
const TABLES: &str = include_str!("../schema/bookkeeping.sql");
/// The functions that write to the tables. They can be put in place anew at any time.
const FUNCTIONS: [&str; 3] = [
    include_str!("../schema/bookkeeping/locks.sql"),
    include_str!("../schema/bookkeeping/relay.sql"),
    include_str!("../schema/bookkeeping/operator.sql"),
];
/// How statements and tables above call the schema.
const USUAL: &str = "outbox_relay";

/// The name of a bookkeeping's schema: 1 to 63 of `a-z`, `0-9` and `_`, no digit first. `outbox_relay` by default.
///
/// The bookkeepings of several relays can share a database, each in a schema of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookkeepingSchema(String);

impl Default for BookkeepingSchema {
    fn default() -> Self {
        Self(USUAL.to_owned())
    }
}

impl fmt::Display for BookkeepingSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BookkeepingSchema {
    /// # Errors
    /// [`ErrorKind::Invalid`] if `name` has other characters or another length, or is PostgreSQL's own.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        let allowed = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let begins_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !allowed || !begins_well || name.len() > 63 || name.starts_with("pg_") {
            let message = "the bookkeeping's schema cannot be called so: use 1 to 63 of a-z, 0-9 and `_`, no digit and no `pg_` first";
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        Ok(Self(name.to_owned()))
    }

    /// The statements that make the bookkeeping, for migrations of one's own. They begin with the schema itself, and are to be
    /// run once, in one transaction; [`PostgresBookkeeping::init`](super::PostgresBookkeeping::init) does the same.
    pub fn sql(&self) -> String {
        format!("CREATE SCHEMA \"{self}\";\n\n{}\n{}", self.named(TABLES), self.functions())
    }

    fn functions(&self) -> String {
        self.named(&FUNCTIONS.join("\n")).into_owned()
    }

    /// The statements that give `role` the rights that a relay and an operator need, and no others: it can neither change
    /// the tables nor make any.
    pub fn grants(&self, role: &str) -> String {
        let role = role.replace('"', "\"\"");
        format!(
            "GRANT USAGE ON SCHEMA \"{self}\" TO \"{role}\";\n\
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"{self}\" TO \"{role}\";\n\
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA \"{self}\" TO \"{role}\";\n\
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA \"{self}\" TO \"{role}\";\n"
        )
    }

    /// A statement that calls the schema by its usual name, for this one.
    pub(super) fn named<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        if self.0 == USUAL { Cow::Borrowed(sql) } else { Cow::Owned(sql.replace(USUAL, &format!("\"{self}\""))) }
    }
}

/// Makes the bookkeeping if it is not there; if it is, and of this layout, puts its functions in place anew.
pub(super) async fn init(options: &ConnectOptions, schema: &BookkeepingSchema) -> Result<(), StoreError> {
    const MAKING: &str = "making the bookkeeping";
    let mut client = connect(options).await?;
    let transaction = client.transaction().await.map_err(store_error(MAKING))?;
    // Of two at once the second finds all in place. The number is Outbox's own.
    transaction.batch_execute("SELECT pg_advisory_xact_lock(7310026, 3)").await.map_err(store_error(MAKING))?;
    let sql = if is_there(transaction.client(), schema).await? {
        recognise(transaction.client(), options, schema).await?;
        schema.functions()
    } else {
        let encoding = transaction.query_typed("SELECT current_setting('server_encoding')", &[]).await;
        let encoding = encoding.map_err(store_error(MAKING))?;
        encoding.first().map_or(Ok(()), |row| expect_utf8(options, super::books::column(row, 0)?))?;
        // A schema that exists already, empty, was made by somebody with more rights.
        let exists = format!("SELECT FROM pg_catalog.pg_namespace WHERE nspname = '{schema}'");
        let exists = transaction.query_typed(&exists, &[]).await.map_err(store_error(MAKING))?;
        if exists.is_empty() { schema.sql() } else { format!("{}\n{}", schema.named(TABLES), schema.functions()) }
    };
    transaction.batch_execute(&sql).await.map_err(store_error(MAKING))?;
    transaction.commit().await.map_err(store_error("committing the bookkeeping"))
}

pub(super) async fn is_there(client: &Client, schema: &BookkeepingSchema) -> Result<bool, StoreError> {
    let sql = format!("SELECT FROM pg_catalog.pg_tables WHERE schemaname = '{schema}' AND tablename = 'bookkeeping'");
    let found = client.query_typed(&sql, &[]).await.map_err(store_error("looking for the bookkeeping"))?;
    Ok(!found.is_empty())
}

/// Makes sure that a bookkeeping of this layout is there.
pub(super) async fn recognise(
    client: &Client,
    options: &ConnectOptions,
    schema: &BookkeepingSchema,
) -> Result<(), StoreError> {
    const LOOKING: &str = "looking at the bookkeeping";
    let sql = "SELECT layout, current_setting('server_encoding') FROM outbox_relay.bookkeeping";
    let rows = match client.query_typed(&schema.named(sql), &[]).await {
        Ok(rows) => rows,
        Err(error) => {
            let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
            if error.code().is_some_and(|code| missing.contains(code)) {
                return Err(incompatible(format!(
                    "there is no bookkeeping in schema `{schema}` of {options}: check both names, or make one with `outbox init`; if the one that was there is lost, run `outbox adopt`"
                )));
            }
            return Err(store_error(LOOKING)(error));
        }
    };
    let Some(row) = rows.first() else {
        return Err(incompatible(format!(
            "the table `{schema}.bookkeeping` of {options} is empty: restore the bookkeeping from a backup, then run `outbox adopt`"
        )));
    };
    expect_utf8(options, super::books::column(row, 1)?)?;
    match super::books::column::<i32>(row, 0)? {
        LAYOUT => Ok(()),
        newer if newer > LAYOUT => Err(incompatible(format!(
            "the bookkeeping in schema `{schema}` of {options} has layout {newer}, made by a newer version of Outbox; this one knows {LAYOUT}: upgrade this program"
        ))),
        other => Err(incompatible(format!(
            "the bookkeeping in schema `{schema}` of {options} has layout {other}, which never existed: restore it from a backup, then run `outbox adopt`"
        ))),
    }
}

fn expect_utf8(options: &ConnectOptions, encoding: &str) -> Result<(), StoreError> {
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(incompatible(format!(
        "{options} has the encoding {encoding}, in which not every event can be kept: create the bookkeeping's database with the encoding UTF8"
    )))
}

fn incompatible(message: String) -> StoreError {
    StoreError::new(ErrorKind::Incompatible, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_named_so_that_no_statement_can_be_misread() {
        for name in ["outbox_relay", "a", "_1", "relay_of_orders"] {
            assert_eq!(BookkeepingSchema::new(name).unwrap().to_string(), name);
        }
        for name in ["", "1a", "A", "a-b", "a b", "a\"b", "a'b", "a%b", "pg_a", &"a".repeat(64)] {
            let refused = BookkeepingSchema::new(name).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{name}");
        }
    }

    #[test]
    fn no_statement_of_another_schema_names_the_usual_one() {
        let other = BookkeepingSchema::new("books").unwrap();
        let sql = other.sql() + &other.grants("relay");
        assert!(sql.contains("\"books\".leases") && !sql.contains(USUAL), "{sql}");
        assert!(BookkeepingSchema::default().sql().contains("outbox_relay.leases"));
    }
}

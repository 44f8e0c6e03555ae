//! What the server has to be set to, and what it has to publish, so that its log tells of every entry.

use outbox::{ErrorKind, StoreError};
use tokio_postgres::{
    GenericClient,
    types::{ToSql, Type},
};

use super::replication::{identifier, literal};
use crate::postgres::failure::store_error;

const CHECKING: &str = "looking whether the log tells of the entries";

/// The publication's name, unless another one is chosen.
pub const PUBLICATION: &str = "outbox";

/// The table whose rows are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Target {
    pub(super) schema: String,
    pub(super) table: String,
    /// Its name in a statement.
    sql: String,
}

impl Target {
    /// The entries of Outbox.
    pub(super) fn entries() -> Self {
        Self { schema: "outbox".to_owned(), table: "entries".to_owned(), sql: "outbox.entries".to_owned() }
    }

    /// A mapped table.
    pub(in crate::postgres) fn new(schema: &str, table: &str) -> Self {
        let sql = format!("{}.{}", identifier(schema), identifier(table));
        Self { schema: schema.to_owned(), table: table.to_owned(), sql }
    }
}

/// The SQL that publishes the entries, to be run by the owner of the schema, who needs the right to CREATE in the
/// database.
pub fn publication_sql(name: &str) -> String {
    sql_to_publish(name, &Target::entries())
}

/// The same for any table.
pub(in crate::postgres) fn sql_to_publish(name: &str, target: &Target) -> String {
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert', publish_via_partition_root = true);",
        identifier(name),
        target.sql
    )
}

/// An expression: another text whenever the publication that `name` gives was changed or made anew, as far as `relations`, a
/// condition on `pg_publication_rel AS r`, go; '' if there is none.
pub(super) fn fingerprint(name: &str, relations: &str) -> String {
    format!(
        "coalesce((SELECT concat_ws('.', p.oid, p.xmin, \
            (SELECT string_agg(concat_ws('.', r.oid, r.xmin), ',' ORDER BY r.oid) \
                FROM pg_publication_rel AS r WHERE r.prpubid = p.oid AND {relations}), \
            (SELECT string_agg(concat_ws('.', n.oid, n.xmin), ',' ORDER BY n.oid) \
                FROM pg_publication_namespace AS n WHERE n.pnpubid = p.oid)) \
            FROM pg_publication AS p WHERE p.pubname = {name}), '')"
    )
}

/// Publishes the entries, if publication `name` is not there yet.
///
/// # Errors
/// As the server says: the role does not own the table, or has no right to CREATE in the database.
pub async fn publish(client: &(impl GenericClient + Sync), name: &str) -> Result<(), StoreError> {
    let sql = format!(
        "DO $block$ BEGIN IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = {}) THEN {} END IF; END $block$",
        literal(name),
        publication_sql(name),
    );
    client.batch_execute(&sql).await.map_err(store_error("publishing the entries"))
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    wal_level: String,
    /// `None` if there is no such publication.
    publication: Option<Published>,
}

#[derive(Debug, PartialEq, Eq)]
struct Published {
    inserts: bool,
    via_root: bool,
    /// `None` if it does not publish the entries.
    entries: Option<Part>,
}

/// What is published of the entries.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    some_rows: bool,
    some_columns: bool,
}

/// Makes sure that the log tells of every row of `target`.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the SQL that sets it right; otherwise as the server says.
pub(super) async fn check(client: &(impl GenericClient + Sync), name: &str, target: &Target) -> Result<(), StoreError> {
    let found = find(client, name, target).await.map_err(store_error(CHECKING))?;
    judge(&found, name, target).map_err(|message| StoreError::new(ErrorKind::Invalid, message))
}

async fn find(
    client: &(impl GenericClient + Sync),
    name: &str,
    target: &Target,
) -> Result<Found, tokio_postgres::Error> {
    const SQL: &str = "SELECT current_setting('wal_level'), p.pubinsert, p.pubviaroot, t.tablename IS NOT NULL, \
        t.rowfilter IS NOT NULL, \
        (SELECT count(*) FROM pg_attribute AS a WHERE a.attrelid = $4::text::regclass AND a.attnum > 0 \
            AND NOT a.attisdropped AND a.attgenerated = '' AND a.attname <> ALL (t.attnames)) > 0 \
        FROM (SELECT) AS one \
        LEFT JOIN pg_publication AS p ON p.pubname = $1 \
        LEFT JOIN pg_publication_tables AS t ON t.pubname = p.pubname AND t.schemaname = $2 AND t.tablename = $3";
    let params: [(&(dyn ToSql + Sync), Type); 4] =
        [(&name, Type::TEXT), (&target.schema, Type::TEXT), (&target.table, Type::TEXT), (&target.sql, Type::TEXT)];
    let row = client.query_typed_one(SQL, &params).await?;
    let inserts: Option<bool> = row.try_get(1)?;
    let publication = match inserts {
        None => None,
        Some(inserts) => {
            let is_published: bool = row.try_get(3)?;
            let part = |row: &tokio_postgres::Row| {
                Ok::<_, tokio_postgres::Error>(Part { some_rows: row.try_get(4)?, some_columns: row.try_get(5)? })
            };
            let entries = if is_published { Some(part(&row)?) } else { None };
            Some(Published { inserts, via_root: row.try_get(2)?, entries })
        }
    };
    Ok(Found { wal_level: row.try_get(0)?, publication })
}

/// What is wrong, with the SQL that sets it right.
fn judge(found: &Found, name: &str, target: &Target) -> Result<(), String> {
    if found.wal_level != "logical" {
        return Err(format!(
            "the server's `wal_level` is `{}`, so its log does not tell of rows: run ALTER SYSTEM SET wal_level = 'logical'; and restart it (on Amazon RDS, set rds.logical_replication to 1), or read by polling",
            found.wal_level
        ));
    }
    let name = identifier(name);
    let Some(published) = &found.publication else {
        return Err(format!(
            "there is no publication {name} in this database: have the owner of the schema run {}",
            sql_to_publish(name.trim_matches('"'), target)
        ));
    };
    if !published.via_root {
        return Err(format!(
            "publication {name} publishes each partition by itself, and so would leave out new ones: run ALTER PUBLICATION {name} SET (publish_via_partition_root = true);"
        ));
    }
    if !published.inserts {
        return Err(format!(
            "publication {name} does not publish new rows: run ALTER PUBLICATION {name} SET (publish = 'insert');"
        ));
    }
    let table = &target.sql;
    let whole = format!("ALTER PUBLICATION {name} SET TABLE {table};");
    match &published.entries {
        None => {
            Err(format!("publication {name} does not publish {table}: run ALTER PUBLICATION {name} ADD TABLE {table};"))
        }
        Some(Part { some_rows: true, .. }) => Err(format!(
            "publication {name} publishes only the rows that a WHERE takes, and the others would be lost: run {whole}"
        )),
        Some(Part { some_columns: true, .. }) => {
            Err(format!("publication {name} publishes only some columns of {table}: run {whole}"))
        }
        Some(Part { some_rows: false, some_columns: false }) => Ok(()),
    }
}

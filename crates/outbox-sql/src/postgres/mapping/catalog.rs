//! What the server knows of a table.

use outbox::{ErrorKind, StoreError};
use tokio_postgres::{Client, Row, types::Type};

use crate::postgres::failure::store_error;

const LOOKING: &str = "looking at the mapped table";

/// A table or what else can be read like one.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub(super) oid: i64,
    pub(super) schema: String,
    pub(super) name: String,
    /// As `pg_class.relkind` has it.
    pub(super) kind: String,
    /// As `pg_class.relpersistence` has it.
    pub(super) persistence: String,
    /// Whether rows may be hidden from this role.
    pub(super) hides_rows: bool,
    pub(super) may_read: bool,
    /// Whether other tables inherit from it, whose ids may be the same.
    pub(super) has_heirs: bool,
}

/// A column of it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type's own name, of a domain that of what is below it.
    pub(super) kind: String,
    /// As `pg_type.typcategory` has it.
    pub(super) category: String,
    /// The type's number, as it is declared.
    pub(super) oid: u32,
    /// The type as it is declared.
    pub(super) declared: String,
    pub(super) is_required: bool,
    pub(super) default: Option<String>,
    pub(super) given: Given,
    pub(super) may_update: bool,
}

/// Who gives a column its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Who writes the row, or the default.
    Written,
    /// The server, of a sequence.
    Identity,
    /// The server, of other columns.
    Generated,
}

/// A partitioned table, or a partition of it.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    pub(super) oid: i64,
    pub(super) parent: Option<i64>,
    pub(super) schema: String,
    pub(super) name: String,
    /// Whether it has none of its own.
    pub(super) is_leaf: bool,
}

/// An index that finds every row.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) is_unique: bool,
    pub(super) columns: Vec<String>,
}

/// Everything called `name`, but for its case; without a schema, of those that need none.
pub(super) async fn relations(client: &Client, schema: Option<&str>, name: &str) -> Result<Vec<Relation>, StoreError> {
    const SQL: &str = "SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
            c.relkind IN ('r', 'p') AND row_security_active(c.oid),
            has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
            c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid)
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE lower(c.relname) = lower($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(c.oid) ELSE lower(n.nspname) = lower($2) END
        ORDER BY 2, 3";
    let rows = client.query_typed(SQL, &[(&name, Type::TEXT), (&schema, Type::TEXT)]).await;
    read(&rows.map_err(store_error(LOOKING))?, |row| {
        Ok(Relation {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            kind: row.try_get(3)?,
            persistence: row.try_get(4)?,
            hides_rows: row.try_get(5)?,
            may_read: row.try_get(6)?,
            has_heirs: row.try_get(7)?,
        })
    })
}

/// Its columns, as they stand.
pub(super) async fn columns(client: &Client, relation: &Relation) -> Result<Vec<Column>, StoreError> {
    const SQL: &str =
        "SELECT a.attname::text, coalesce(b.typname, t.typname)::text, coalesce(b.typcategory, t.typcategory)::text,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity <> '',
            has_column_privilege(a.attrelid, a.attnum, 'UPDATE'), a.atttypid, a.attgenerated <> ''
        FROM pg_catalog.pg_attribute AS a
        JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
        LEFT JOIN pg_catalog.pg_type AS b ON b.oid = t.typbasetype
        LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let rows = client.query_typed(SQL, &[(&relation.oid, Type::INT8)]).await;
    read(&rows.map_err(store_error(LOOKING))?, |row| {
        Ok(Column {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            category: row.try_get(2)?,
            declared: row.try_get(3)?,
            is_required: row.try_get(4)?,
            default: row.try_get(5)?,
            given: match (row.try_get(6)?, row.try_get(9)?) {
                (true, _) => Given::Identity,
                (false, true) => Given::Generated,
                (false, false) => Given::Written,
            },
            may_update: row.try_get(7)?,
            oid: row.try_get(8)?,
        })
    })
}

/// Its ordered indexes that are whole.
pub(super) async fn indexes(client: &Client, relation: &Relation) -> Result<Vec<Index>, StoreError> {
    const SQL: &str = "SELECT i.indisunique, ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (number, at)
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
                WHERE k.at <= i.indnkeyatts ORDER BY k.at)
        FROM pg_catalog.pg_index AS i
        JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
        WHERE i.indrelid = $1::bigint::oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND m.amname = 'btree'";
    let rows = client.query_typed(SQL, &[(&relation.oid, Type::INT8)]).await;
    read(&rows.map_err(store_error(LOOKING))?, |row| Ok(Index { is_unique: row.try_get(0)?, columns: row.try_get(1)? }))
}

/// It and its partitions, each behind what it is part of; nothing if it is not partitioned.
pub(super) async fn partitions(client: &Client, relation: &Relation) -> Result<Vec<Partition>, StoreError> {
    const SQL: &str =
        "SELECT t.relid::oid::bigint, t.parentrelid::oid::bigint, n.nspname::text, c.relname::text, t.isleaf
        FROM pg_partition_tree($1::bigint::oid::regclass) AS t
        JOIN pg_catalog.pg_class AS c ON c.oid = t.relid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE $2 ORDER BY t.level, t.relid::oid";
    let is_partitioned = relation.kind == "p";
    let rows = client.query_typed(SQL, &[(&relation.oid, Type::INT8), (&is_partitioned, Type::BOOL)]).await;
    read(&rows.map_err(store_error(LOOKING))?, |row| {
        Ok(Partition {
            oid: row.try_get(0)?,
            parent: row.try_get(1)?,
            schema: row.try_get(2)?,
            name: row.try_get(3)?,
            is_leaf: row.try_get(4)?,
        })
    })
}

/// The names of its triggers that fire when a row is deleted.
pub(super) async fn delete_triggers(client: &Client, relation: &Relation) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "SELECT t.tgname::text FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = $1::bigint::oid AND t.tgenabled IN ('O', 'A') AND (t.tgtype & 1) <> 0 AND (t.tgtype & 8) <> 0";
    let rows = client.query_typed(SQL, &[(&relation.oid, Type::INT8)]).await;
    read(&rows.map_err(store_error(LOOKING))?, |row| row.try_get(0))
}

fn read<T>(rows: &[Row], of: impl Fn(&Row) -> Result<T, tokio_postgres::Error>) -> Result<Vec<T>, StoreError> {
    rows.iter().map(of).collect::<Result<_, _>>().map_err(|error| {
        let message = format!("{LOOKING}: the server's answer cannot be read: Outbox needs PostgreSQL 15 or later");
        StoreError::new(ErrorKind::Incompatible, message).because(error)
    })
}

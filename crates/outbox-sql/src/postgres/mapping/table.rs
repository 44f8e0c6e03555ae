//! A mapped table as the server has it.

use outbox::{ErrorKind, StoreError};
use tokio_postgres::Client;

use super::{
    Mapping, Status,
    catalog::{self, Column, Index, Partition, Relation},
    columns::{Looked, Parts, Use},
    quoted,
    refusal::{incompatible, invalid, listed},
};
use crate::postgres::failure::store_error;

/// The table that a mapping means, and each column that it names. It can be read without losing rows, once it is prepared.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) relation: Relation,
    pub(super) columns: Vec<Column>,
    pub(super) indexes: Vec<Index>,
    pub(super) partitions: Vec<Partition>,
    pub(super) delete_triggers: Vec<String>,
    pub(super) is_guarded: bool,
    pub(super) id: Column,
    pub(super) parts: Parts,
    pub(super) status: Option<(Column, Status)>,
    pub(super) content_type: Option<String>,
}

impl Table {
    /// Finds the table and its columns.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is no such table or column, or one has a type that cannot be read;
    /// [`ErrorKind::Incompatible`] if rows could be lost.
    pub(super) async fn find(client: &Client, mapping: &Mapping) -> Result<Self, StoreError> {
        let relation = find_relation(client, &mapping.table).await?;
        check_relation(&relation)?;
        if relation.hides_rows {
            return Err(incompatible(format!(
                "row-level security hides rows of the mapped table {} from this role, and they would never be published: \
                 give the role BYPASSRLS",
                shown(&relation)
            )));
        }
        let (columns, indexes) =
            (catalog::columns(client, &relation).await?, catalog::indexes(client, &relation).await?);
        let looked = Looked::new(&relation, &columns);
        let status = match &mapping.status {
            Some(status) => Some((looked.column("status", &status.column, Use::Status)?, status.clone())),
            None => None,
        };
        let parts = looked.parts(mapping)?;
        let id = looked.growing_id(mapping.id.as_deref(), &indexes)?;
        let (content_type, is_guarded) = (mapping.content_type.clone(), mapping.is_guarded);
        let delete_triggers = catalog::delete_triggers(client, &relation).await?;
        let partitions = catalog::partitions(client, &relation).await?;
        Ok(Self {
            relation,
            columns,
            indexes,
            partitions,
            delete_triggers,
            is_guarded,
            id,
            parts,
            status,
            content_type,
        })
    }

    /// Its name for people.
    pub(super) fn shown(&self) -> String {
        shown(&self.relation)
    }

    /// Its name in a statement.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", quoted(&self.relation.schema), quoted(&self.relation.name))
    }

    /// Whether this role may read it, and keep its status.
    pub(super) fn check_rights(&self) -> Result<(), StoreError> {
        let denied = |what: &str| {
            let message = format!(
                "this role may not {what} of the mapped table {}: grant it: `outbox init --relay ROLE` prints how",
                self.shown()
            );
            Err(StoreError::new(ErrorKind::NotPermitted, message))
        };
        match &self.status {
            _ if !self.relation.may_read => denied("read rows"),
            Some((column, _)) if !column.may_update => denied(&format!("update the column `{}`", column.name)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether nothing is written where nobody reads while `table` is read.
pub(super) async fn check_alone(client: &Client, table: &str) -> Result<(), StoreError> {
    let sql = "SELECT EXISTS (SELECT FROM outbox.entries)";
    let row = client.query_typed_one(sql, &[]).await.and_then(|row| row.try_get(0));
    if !row.map_err(store_error("looking for entries beside the mapped table"))? {
        return Ok(());
    }
    Err(incompatible(format!(
        "this database has entries in outbox.entries, which are not read while {table} is: have them published without the \
         mapping and removed, and let nobody call `outbox.write`"
    )))
}

pub(super) fn shown(relation: &Relation) -> String {
    format!("`{}.{}`", relation.schema, relation.name)
}

/// The one that is called so exactly, else the only one but for its case.
pub(super) async fn find_relation(client: &Client, table: &str) -> Result<Relation, StoreError> {
    let (schema, name) = table.split_once('.').map_or((None, table), |(schema, name)| (Some(schema), name));
    let mut found = catalog::relations(client, schema, name).await?;
    let is_exact = |relation: &Relation| relation.name == name && schema.is_none_or(|schema| relation.schema == schema);
    if let Some(exact) = found.iter().position(is_exact) {
        return Ok(found.swap_remove(exact));
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(invalid(format!(
            "mapping.table: there is no table `{table}` in this database: name it as it is called, with its schema, as `app.{name}`"
        ))),
        _ => Err(invalid(format!(
            "mapping.table: `{table}` may be {}: write it as it is called",
            listed(found.iter().map(|relation| relation.name.as_str()))
        ))),
    }
}

/// Whether it is a table, all of whose rows are its own and logged.
pub(super) fn check_relation(relation: &Relation) -> Result<(), StoreError> {
    let name = shown(relation);
    if !matches!(relation.kind.as_str(), "r" | "p") {
        return Err(invalid(format!("mapping.table: {name} is no table of this database: name the table behind it")));
    }
    if relation.persistence != "p" {
        return Err(incompatible(format!(
            "the mapped table {name} is unlogged, and empty after a crash: ALTER TABLE {name} SET LOGGED"
        )));
    }
    if relation.has_heirs {
        return Err(incompatible(format!(
            "other tables inherit from the mapped table {name}, and may have the same ids: name a table without any, or a \
             partitioned one"
        )));
    }
    Ok(())
}

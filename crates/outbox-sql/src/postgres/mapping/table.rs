//! A mapped table as the server has it.

use outbox::{ErrorKind, StoreError};
use tokio_postgres::Client;

use super::{
    Mapping, Status,
    catalog::{self, Column, Index, Relation},
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
    pub(super) delete_triggers: Vec<String>,
    pub(super) is_guarded: bool,
    pub(super) id: Column,
    pub(super) key: Vec<Column>,
    pub(super) kind: Column,
    pub(super) payload: Column,
    pub(super) event_id: Option<Column>,
    pub(super) time: Option<Column>,
    pub(super) attributes: Option<Column>,
    pub(super) status: Option<(Column, Status)>,
    pub(super) content_type: Option<String>,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Id,
    Name,
    Payload,
    Time,
    Attributes,
    Status,
}

impl Use {
    /// Whether it can be a column like this.
    fn takes(self, column: &Column) -> bool {
        let kind = column.kind.as_str();
        let is_text = column.category == "S" || column.category == "E";
        let is_number = matches!(kind, "int2" | "int4" | "int8");
        match self {
            Self::Id => is_number,
            Self::Name => is_text || is_number || kind == "uuid",
            Self::Payload => matches!(kind, "json" | "jsonb" | "bytea") || column.category == "S",
            Self::Time => matches!(kind, "timestamp" | "timestamptz"),
            Self::Attributes => matches!(kind, "json" | "jsonb") || column.category == "S",
            Self::Status => is_text,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Id => "smallint, integer or bigint",
            Self::Name => "a text, an enum, a whole number or a uuid",
            Self::Payload => "json, jsonb, text or bytea",
            Self::Time => "timestamptz or timestamp",
            Self::Attributes => "json, jsonb or text",
            Self::Status => "a text or an enum",
        }
    }
}

/// A relation while its columns are looked for.
struct Looked<'a> {
    relation: &'a Relation,
    columns: &'a [Column],
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
        let (columns, indexes) =
            (catalog::columns(client, &relation).await?, catalog::indexes(client, &relation).await?);
        let looked = Looked { relation: &relation, columns: &columns };
        let optional =
            |field, name: &Option<String>, of| name.as_ref().map(|name| looked.column(field, name, of)).transpose();
        let status = match &mapping.status {
            Some(status) => Some((looked.column("status", &status.column, Use::Status)?, status.clone())),
            None => None,
        };
        let key = mapping.key.iter().map(|name| looked.column("key", name, Use::Name)).collect::<Result<_, _>>()?;
        let (kind, payload) = (
            looked.column("type", &mapping.kind, Use::Name)?,
            looked.column("payload", &mapping.payload, Use::Payload)?,
        );
        let (event_id, time, attributes) = (
            optional("event_id", &mapping.event_id, Use::Name)?,
            optional("time", &mapping.time, Use::Time)?,
            optional("attributes", &mapping.attributes, Use::Attributes)?,
        );
        let id = looked.growing_id(mapping.id.as_deref(), &indexes)?;
        let (content_type, is_guarded) = (mapping.content_type.clone(), mapping.is_guarded);
        let delete_triggers = catalog::delete_triggers(client, &relation).await?;
        Ok(Self {
            relation,
            columns,
            indexes,
            delete_triggers,
            is_guarded,
            id,
            key,
            kind,
            payload,
            event_id,
            time,
            attributes,
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

    /// Whether nothing is written where nobody reads while this table is read.
    pub(super) async fn check_alone(&self, client: &Client) -> Result<(), StoreError> {
        let sql = "SELECT EXISTS (SELECT FROM outbox.entries)";
        let row = client.query_typed_one(sql, &[]).await.and_then(|row| row.try_get(0));
        if !row.map_err(store_error("looking for entries beside the mapped table"))? {
            return Ok(());
        }
        Err(incompatible(format!(
            "this database has entries in outbox.entries, which are not read while {} is: have them published without the \
             mapping and removed, and let nobody call `outbox.write`",
            self.shown()
        )))
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

fn shown(relation: &Relation) -> String {
    format!("`{}.{}`", relation.schema, relation.name)
}

/// The one that is called so exactly, else the only one but for its case.
async fn find_relation(client: &Client, table: &str) -> Result<Relation, StoreError> {
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

/// Whether its rows stay, and all of them can be seen.
fn check_relation(relation: &Relation) -> Result<(), StoreError> {
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
    if relation.hides_rows {
        return Err(incompatible(format!(
            "row-level security hides rows of the mapped table {name} from this role, and they would never be published: \
             give the role BYPASSRLS"
        )));
    }
    Ok(())
}

impl Looked<'_> {
    /// The column `name` that the mapping's `field` names.
    fn column(&self, field: &str, name: &str, of: Use) -> Result<Column, StoreError> {
        let table = shown(self.relation);
        let column = self.named(field, name)?;
        if of.takes(&column) {
            return Ok(column);
        }
        Err(invalid(format!(
            "mapping.{field}: the column `{}` of {table} is {}, which cannot be read as such: name one that is {}",
            column.name,
            column.declared,
            of.wanted()
        )))
    }

    fn named(&self, field: &str, name: &str) -> Result<Column, StoreError> {
        if let Some(exact) = self.columns.iter().find(|column| column.name == name) {
            return Ok(exact.clone());
        }
        let alike: Vec<_> =
            self.columns.iter().filter(|column| column.name.to_lowercase() == name.to_lowercase()).collect();
        match alike[..] {
            [only] => Ok(only.clone()),
            _ => Err(invalid(format!(
                "mapping.{field}: {} has no column `{name}`: name one of {}{}",
                shown(self.relation),
                listed(self.columns.iter().map(|column| column.name.as_str())),
                if matches!(field, "time" | "status") { ", or write \"\" for none" } else { "" }
            ))),
        }
    }

    /// The id, by which rows are read in their order: each has another, and the later one the higher.
    fn growing_id(&self, name: Option<&str>, indexes: &[Index]) -> Result<Column, StoreError> {
        let table = shown(self.relation);
        let Some(name) = name else {
            return Err(incompatible(format!(
                "the mapped table {table} has no growing id, and can only be polled by one: add a column as \
                 `seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE` (which rewrites the table) and name it by mapping.id, if \
                 its rows stay longer than the transaction that writes them; rows that are deleted at once cannot be polled"
            )));
        };
        let column = self.named("id", name)?;
        let refused = |why: &str, remedy: &str| {
            let message = format!(
                "mapping.id: the column `{}` of {table} {why}, and rows cannot be polled by it: {remedy}",
                column.name
            );
            Err(incompatible(message))
        };
        if !Use::Id.takes(&column) {
            let why = format!("is {}, not a growing number", column.declared);
            return refused(&why, "name a column that is smallint, integer or bigint and drawn from a sequence");
        }
        if !column.is_required {
            return refused("may be NULL", "ALTER it to NOT NULL");
        }
        if !indexes.iter().any(|index| index.is_unique && index.columns == [column.name.clone()]) {
            return refused("has no unique index of its own", "make it the primary key, or UNIQUE");
        }
        let is_drawn = column.is_identity || column.default.as_ref().is_some_and(|text| text.starts_with("nextval("));
        if !is_drawn {
            return refused(
                "is not drawn from a sequence",
                "have it GENERATED AS IDENTITY, or give it DEFAULT nextval('…')",
            );
        }
        Ok(column)
    }
}

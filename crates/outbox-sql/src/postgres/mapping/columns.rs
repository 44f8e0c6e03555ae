//! The columns that a mapping names, found among those of a table.

use outbox::StoreError;

use super::{
    Mapping,
    catalog::{Column, Given, Index, Relation},
    refusal::{incompatible, invalid, listed},
    table::shown,
};

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
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

/// The columns that the events are made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) key: Vec<Column>,
    pub(super) kind: Column,
    pub(super) payload: Column,
    pub(super) event_id: Option<Column>,
    pub(super) time: Option<Column>,
    pub(super) attributes: Option<Column>,
}

/// A relation while its columns are looked for.
pub(super) struct Looked<'a> {
    relation: &'a Relation,
    columns: &'a [Column],
}

impl Parts {
    /// Which column is read as what, for a message.
    pub(super) fn roles(&self) -> String {
        let key = self.key.iter().map(|column| ("key", column));
        let others = [("event_id", &self.event_id), ("recorded_at", &self.time), ("attributes", &self.attributes)];
        let others = others.iter().filter_map(|(role, column)| column.as_ref().map(|column| (*role, column)));
        let all = [("type", &self.kind), ("data", &self.payload)].into_iter().chain(key).chain(others);
        all.map(|(role, column)| format!("{role} = `{}`", column.name)).collect::<Vec<_>>().join(", ")
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Column> {
        let optional = [&self.event_id, &self.time, &self.attributes].into_iter().flatten();
        [&self.kind, &self.payload].into_iter().chain(&self.key).chain(optional)
    }

    /// The column whose texts have to be JSON, where its type does not see to it.
    pub(super) fn json_column(&self, content_type: Option<&str>) -> Option<String> {
        let is_typed = matches!(self.payload.kind.as_str(), "json" | "jsonb" | "bytea");
        let is_json = !is_typed && outbox::cloudevents::is_json(content_type);
        is_json.then(|| self.payload.name.clone())
    }
}

impl<'a> Looked<'a> {
    pub(super) fn new(relation: &'a Relation, columns: &'a [Column]) -> Self {
        Self { relation, columns }
    }

    /// The columns that the events are made of.
    pub(super) fn parts(&self, mapping: &Mapping) -> Result<Parts, StoreError> {
        let optional =
            |field, name: &Option<String>, of| name.as_ref().map(|name| self.column(field, name, of)).transpose();
        Ok(Parts {
            key: mapping.key.iter().map(|name| self.column("key", name, Use::Name)).collect::<Result<_, _>>()?,
            kind: self.column("type", &mapping.kind, Use::Name)?,
            payload: self.column("payload", &mapping.payload, Use::Payload)?,
            event_id: optional("event_id", &mapping.event_id, Use::Name)?,
            time: optional("time", &mapping.time, Use::Time)?,
            attributes: optional("attributes", &mapping.attributes, Use::Attributes)?,
        })
    }

    /// The column `name` that the mapping's `field` names.
    pub(super) fn column(&self, field: &str, name: &str, of: Use) -> Result<Column, StoreError> {
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
    pub(super) fn growing_id(&self, name: Option<&str>, indexes: &[Index]) -> Result<Column, StoreError> {
        let table = shown(self.relation);
        let Some(name) = name else {
            return Err(incompatible(format!(
                "the mapped table {table} has no growing id, and can only be polled by one: add a column as \
                 `seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE` (which rewrites the table) and name it by mapping.id, if \
                 its rows stay longer than the transaction that writes them; or read the server's log, by `read = \"wal\"`"
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
        let is_drawn =
            column.given == Given::Identity || column.default.as_ref().is_some_and(|text| text.starts_with("nextval("));
        if !is_drawn {
            return refused(
                "is not drawn from a sequence",
                "have it GENERATED AS IDENTITY, or give it DEFAULT nextval('…')",
            );
        }
        Ok(column)
    }
}

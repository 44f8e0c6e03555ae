//! A mapped table as the server's log tells of it: which columns are read, and in what form their values come.

use std::sync::Arc;

use outbox::{ErrorKind, StoreError};
use tokio_postgres::Client;

use super::{
    Mapping, XID,
    catalog::{self, Column, Given},
    columns::{Looked, Parts},
    quoted,
    refusal::{incompatible, invalid},
    table::{self, Table, check_relation, find_relation, shown},
};
use crate::postgres::{decode::Reading, failure::store_error};

/// How the values of a column come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Form {
    Text,
    /// A text that is filled up with blanks, which do not count.
    Padded,
    Small,
    Whole,
    Big,
    Uuid,
    JsonBinary,
    Bytes,
    /// Microseconds since 2000.
    Time,
}

/// A column that is read.
#[derive(Clone, Debug)]
pub(in crate::postgres) struct LogColumn {
    pub(in crate::postgres) name: String,
    /// Its type's number: with another one it is not the column that the mapping was made for.
    pub(in crate::postgres) oid: u32,
    pub(in crate::postgres) form: Form,
}

/// A mapped table for who reads the log. What an event is made of are numbers of [`columns`](Self::columns).
#[derive(Debug)]
pub(in crate::postgres) struct LogTable {
    pub(in crate::postgres) schema: String,
    pub(in crate::postgres) name: String,
    pub(in crate::postgres) columns: Vec<LogColumn>,
    /// The id and the number of the transaction, if the table can be read besides.
    pub(in crate::postgres) place: Option<(usize, usize)>,
    pub(in crate::postgres) key: Vec<usize>,
    pub(in crate::postgres) kind: usize,
    pub(in crate::postgres) payload: usize,
    pub(in crate::postgres) event_id: Option<usize>,
    pub(in crate::postgres) time: Option<usize>,
    pub(in crate::postgres) attributes: Option<usize>,
    pub(in crate::postgres) content_type: Option<String>,
    pub(in crate::postgres) reading: Arc<Reading>,
}

/// The columns that are read, each once.
#[derive(Default)]
struct Numbered(Vec<LogColumn>);

impl Numbered {
    fn of(&mut self, column: &Column) -> usize {
        let known = self.0.iter().position(|known| known.name == column.name);
        known.unwrap_or_else(|| {
            self.0.push(LogColumn { name: column.name.clone(), oid: column.oid, form: form(&column.kind) });
            self.0.len() - 1
        })
    }
}

impl LogTable {
    /// The table of `mapping`, which is prepared for polling besides where the mapping names an id.
    ///
    /// # Errors
    /// As [`Mapping::statements`]; also for a status that nobody could keep, or a time that the log does not tell exactly.
    pub(super) async fn find(client: &Client, mapping: &Mapping) -> Result<Self, StoreError> {
        if mapping.has_id() {
            let table = Table::find(client, mapping).await?;
            table.check_prepared()?;
            let xid = table.columns.iter().find(|column| column.name == XID).cloned();
            let xid = xid.ok_or_else(|| incompatible(format!("{} has no column `{XID}`", table.shown())))?;
            let place = Some((table.id.clone(), xid));
            let Table { relation, parts, .. } = table;
            return Self::of(client, (&relation.schema, &relation.name), parts, place, mapping).await;
        }
        let relation = find_relation(client, &mapping.table).await?;
        check_relation(&relation)?;
        if mapping.status.is_some() {
            return Err(invalid(format!(
                "mapping.status: {} is read from the log alone, where nothing names a row whose status could be kept: \
                 write \"\" for none, or name a growing id by mapping.id",
                shown(&relation)
            )));
        }
        let columns = catalog::columns(client, &relation).await?;
        let parts = Looked::new(&relation, &columns).parts(mapping)?;
        Self::of(client, (&relation.schema, &relation.name), parts, None, mapping).await
    }

    async fn of(
        client: &Client,
        (schema, name): (&str, &str),
        parts: Parts,
        place: Option<(Column, Column)>,
        mapping: &Mapping,
    ) -> Result<Self, StoreError> {
        if let Some(time) = parts.time.as_ref().filter(|time| time.kind == "timestamp") {
            check_zone(client, &format!("`{schema}.{name}`"), time).await?;
        }
        if let Some(generated) = parts.all().find(|column| column.given == Given::Generated) {
            return Err(incompatible(format!(
                "mapping: the column `{}` of `{schema}.{name}` is worked out by the server, and so is not in its log: have it \
                 written with the row, or poll the table",
                generated.name
            )));
        }
        let table = format!("the mapped table `{schema}.{name}` ({})", parts.roles());
        let reading = Reading { table, json: parts.json_column(mapping.content_type.as_deref()) };
        let content_type = mapping.content_type.clone();
        let is_bytes = parts.payload.kind == "bytea";
        let mut columns = Numbered::default();
        let place = place.map(|(id, xid)| (columns.of(&id), columns.of(&xid)));
        let key = parts.key.iter().map(|column| columns.of(column)).collect();
        let (kind, payload) = (columns.of(&parts.kind), columns.of(&parts.payload));
        let [event_id, time, attributes] =
            [&parts.event_id, &parts.time, &parts.attributes].map(|column| column.as_ref().map(|it| columns.of(it)));
        Ok(Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns: columns.0,
            place,
            key,
            kind,
            payload,
            event_id,
            time,
            attributes,
            content_type: content_type.or_else(|| is_bytes.then(|| "application/octet-stream".to_owned())),
            reading: Arc::new(reading),
        })
    }

    /// Whether nothing is written where nobody reads while this table is read.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if there is.
    pub(in crate::postgres) async fn check_alone(&self, client: &Client) -> Result<(), StoreError> {
        table::check_alone(client, &format!("`{}.{}`", self.schema, self.name)).await
    }

    /// Its name in a statement.
    pub(in crate::postgres) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// A text of its own for every type that a mapping takes and is no other form: texts, enums, JSON as text.
fn form(kind: &str) -> Form {
    match kind {
        "bpchar" => Form::Padded,
        "int2" => Form::Small,
        "int4" => Form::Whole,
        "int8" | "xid8" => Form::Big,
        "uuid" => Form::Uuid,
        "jsonb" => Form::JsonBinary,
        "bytea" => Form::Bytes,
        "timestamp" | "timestamptz" => Form::Time,
        _ => Form::Text,
    }
}

/// The log has a time without a zone as it was written: what it means is known where the session's zone is that of all.
async fn check_zone(client: &Client, table: &str, column: &Column) -> Result<(), StoreError> {
    const CHECKING: &str = "looking for the time zone";
    const SQL: &str = "SELECT current_setting('TimeZone'), \
        current_setting('TimeZone') ~* '^(etc/)?(utc|uct|gmt|gmt0|gmt[+-]0|zulu|universal|greenwich)$'";
    let row = client.query_typed_one(SQL, &[]).await.map_err(store_error(CHECKING))?;
    let (zone, is_utc): (String, bool) =
        row.try_get(0).and_then(|zone| Ok((zone, row.try_get(1)?))).map_err(store_error(CHECKING))?;
    if is_utc {
        return Ok(());
    }
    let message = format!(
        "mapping.time: the column `{}` of {table} is {} and would be taken to be in the zone {zone}, by which the log cannot \
         be read: if its times are UTC, say so by ALTER ROLE … SET TimeZone = 'UTC' for the relay's role; else have them be \
         timestamptz, or write \"\" for none",
        column.name, column.declared
    );
    Err(StoreError::new(ErrorKind::Incompatible, message))
}

//! A table as statements read it.

use std::{borrow::Cow, sync::Arc};

use super::{XID, catalog::Column, literal, quoted, table::Table};
use crate::postgres::decode::{Decoder, Reading};

/// How every statement names what it reads.
const NATIVE: &str = "outbox.entries AS e";

/// The entries that are read: those of Outbox, or the rows of a mapped table as such. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::postgres) struct Entries(Option<Arc<Mapped>>);

/// A mapped table.
#[derive(Debug)]
pub(in crate::postgres) struct Mapped {
    /// What stands in place of [`NATIVE`].
    from: String,
    reading: Arc<Reading>,
    /// Its name in a statement.
    pub(in crate::postgres) table: String,
    /// The id's.
    pub(in crate::postgres) id: String,
    pub(in crate::postgres) has_time: bool,
    pub(in crate::postgres) status: Option<StatusSql>,
}

/// A status, in statements.
#[derive(Debug)]
pub(in crate::postgres) struct StatusSql {
    pub(in crate::postgres) column: String,
    pub(in crate::postgres) waiting: String,
    pub(in crate::postgres) done: String,
}

impl Entries {
    pub(super) fn of(table: &Table) -> Self {
        let reading = Reading {
            table: format!("the mapped table {} ({})", table.shown(), table.parts.roles()),
            json: table.parts.json_column(table.content_type.as_deref()),
        };
        let status = table.status.as_ref().map(|(column, status)| StatusSql {
            column: quoted(&column.name),
            waiting: literal(&status.waiting),
            done: literal(&status.done),
        });
        Self(Some(Arc::new(Mapped {
            from: format!("({}) AS e", select(table)),
            reading: Arc::new(reading),
            table: table.name(),
            id: quoted(&table.id.name),
            has_time: table.parts.time.is_some(),
            status,
        })))
    }

    /// `sql` as it is for the table.
    pub(in crate::postgres) fn sql<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        match &self.0 {
            None => Cow::Borrowed(sql),
            Some(mapped) => Cow::Owned(sql.replace(NATIVE, &mapped.from)),
        }
    }

    /// Decodes its rows.
    pub(in crate::postgres) fn decoder(&self, producer: &str) -> Decoder {
        match &self.0 {
            None => Decoder::new(producer),
            Some(mapped) => Decoder::mapped(producer, mapped.reading.clone()),
        }
    }

    /// Whether it is a mapped table.
    pub(in crate::postgres) fn is_mapped(&self) -> bool {
        self.0.is_some()
    }

    /// The mapped table, if it is one.
    pub(in crate::postgres) fn mapped(&self) -> Option<&Mapped> {
        self.0.as_deref()
    }

    /// Whether a status is kept.
    pub(in crate::postgres) fn has_status(&self) -> bool {
        self.mapped().is_some_and(|mapped| mapped.status.is_some())
    }
}

/// The rows with the columns that entries have. Each is as simple as it can be, so that the planner takes this for the table
/// itself: the id is not cast, for its index to be of use.
fn select(table: &Table) -> String {
    let (id, kind) = (of(&table.id), text(&table.parts.kind));
    let key = key(table);
    let event_id = table.parts.event_id.as_ref().map_or_else(none, text);
    let recorded = match &table.parts.time {
        Some(time) => format!("coalesce({}::timestamptz, statement_timestamp())", of(time)),
        None => "statement_timestamp()".to_owned(),
    };
    let (data, bytes) = match table.parts.payload.kind.as_str() {
        "bytea" => (none(), of(&table.parts.payload)),
        _ => (text(&table.parts.payload), "NULL::bytea".to_owned()),
    };
    let content_type = match (&table.content_type, table.parts.payload.kind.as_str()) {
        (Some(media), _) => format!("{}::text", literal(media)),
        (None, "bytea") => "'application/octet-stream'::text".to_owned(),
        (None, _) => none(),
    };
    let attributes = table.parts.attributes.as_ref().map_or_else(none, text);
    let status = table.status.as_ref().map_or_else(none, |(column, _)| text(column));
    format!(
        "SELECT {id} AS id, t.{XID} AS xid, {recorded} AS recorded_at, NULL::bigint AS sequence, \
         NULL::integer AS incarnation, 1 AS count, {} AS commit_id, {key} AS key, NULL::text AS after, \
         coalesce({kind}, '') AS type, {event_id} AS event_id, {content_type} AS content_type, {data} AS data, \
         {bytes} AS data_bytes, {attributes} AS attributes, NULL::text AS more, {status} AS status FROM {} AS t",
        fingerprint(table),
        table.name()
    )
}

/// What tells a row from another one that has its id in another history: not what may be changed later, as its status.
fn fingerprint(table: &Table) -> String {
    let event_id = table.parts.event_id.iter().map(text);
    let time = table.parts.time.iter().map(|time| format!("extract(epoch FROM {})::text", of(time)));
    let all = [text(&table.id), text(&table.parts.kind)]
        .into_iter()
        .chain(event_id)
        .chain(time)
        .chain(table.parts.key.iter().map(text));
    let parts: Vec<_> = all.map(|part| format!("coalesce({part}, '')")).collect();
    let whole = format!("sha256(convert_to(concat_ws(chr(31), {}), 'UTF8'))", parts.join(", "));
    format!("encode(substring({whole} FROM 1 FOR 16), 'hex')::uuid")
}

fn key(table: &Table) -> String {
    let parts: Vec<_> = table.parts.key.iter().map(text).collect();
    if parts.is_empty() { none() } else { parts.join(" || '/' || ") }
}

fn of(column: &Column) -> String {
    format!("t.{}", quoted(&column.name))
}

fn text(column: &Column) -> String {
    format!("{}::text", of(column))
}

fn none() -> String {
    "NULL::text".to_owned()
}

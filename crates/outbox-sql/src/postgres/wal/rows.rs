//! Rows of the entries, as the log gives them.

use std::sync::Arc;

use outbox::{ErrorKind, Position, Record, StoreError};
use tokio_postgres::Client;

use super::{
    lsn::Lsn,
    pgoutput::{Relation, Tuple, Value},
    publication::Target,
};
use crate::postgres::{
    decode::{Decoder, Values},
    mapping::{LogTable, Mapping, XID},
    position::Row,
};

mod mapped;

use mapped::Mapped;

/// Which table's rows are read. Cheap to clone.
#[derive(Clone)]
pub(super) enum Layout {
    /// The entries of Outbox.
    Entries,
    /// A table that is laid out otherwise.
    Mapped(Arc<LogTable>),
}

impl Layout {
    /// That of `mapping`, or of Outbox without one.
    ///
    /// # Errors
    /// If the table is not as the mapping says.
    pub(super) async fn of(client: &Client, mapping: Option<&Mapping>) -> Result<Self, StoreError> {
        match mapping {
            None => Ok(Self::Entries),
            Some(mapping) => Ok(Self::Mapped(Arc::new(mapping.in_log(client).await?))),
        }
    }

    /// The table.
    pub(super) fn target(&self) -> Target {
        match self {
            Self::Entries => Target::entries(),
            Self::Mapped(table) => Target::new(&table.schema, &table.name),
        }
    }

    /// The table and its column with the number of the transaction, as they stand in a statement; `None` if it has none.
    pub(super) fn numbered(&self) -> Option<(String, &'static str)> {
        match self {
            Self::Entries => Some(("outbox.entries".to_owned(), "xid")),
            Self::Mapped(table) => table.place.map(|_| (table.sql(), XID)),
        }
    }
}

/// Where in the log a row is: what names it that has no id.
#[derive(Clone, Copy, Debug)]
pub(super) struct InLog {
    /// Of its transaction's commit.
    pub(super) commit: Lsn,
    pub(super) xid: u64,
    /// Which of its transaction's rows it is, from 1.
    pub(super) number: u64,
}

/// A column that is read. The others, as `previous_id` and what a team added, are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Xid,
    Recorded,
    Sequence,
    Incarnation,
    Count,
    Commit,
    Key,
    After,
    Kind,
    EventId,
    ContentType,
    Data,
    DataBytes,
    Attributes,
    More,
}

/// Each column that is read, with the number of its type.
pub(super) const FIELDS: [(&str, u32, Field); 16] = [
    ("id", INT8, Field::Id),
    ("xid", XID8, Field::Xid),
    ("recorded_at", TIMESTAMPTZ, Field::Recorded),
    ("sequence", INT8, Field::Sequence),
    ("incarnation", INT4, Field::Incarnation),
    ("count", INT4, Field::Count),
    ("commit_id", UUID, Field::Commit),
    ("key", TEXT, Field::Key),
    ("after", TEXT, Field::After),
    ("type", TEXT, Field::Kind),
    ("event_id", TEXT, Field::EventId),
    ("content_type", TEXT, Field::ContentType),
    ("data", TEXT, Field::Data),
    ("data_bytes", BYTEA, Field::DataBytes),
    ("attributes", TEXT, Field::Attributes),
    ("more", TEXT, Field::More),
];

const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const TIMESTAMPTZ: u32 = 1184;
const UUID: u32 = 2950;
const XID8: u32 = 5069;

/// Decodes the rows of the table that is read.
pub(super) struct Rows {
    decoder: Decoder,
    /// The number by which rows name the entries, and what their columns are.
    entries: Option<(u32, Vec<Option<Field>>)>,
    /// In place of the entries.
    mapped: Option<Mapped>,
    /// When the transaction that comes in committed.
    committed: i64,
}

impl Rows {
    /// For the events of `producer`.
    pub(super) fn new(producer: &str, layout: Layout) -> Self {
        let (decoder, mapped) = match layout {
            Layout::Entries => (Decoder::new(producer), None),
            Layout::Mapped(table) => (Decoder::mapped(producer, table.reading.clone()), Some(Mapped::new(table))),
        };
        Self { decoder, entries: None, mapped, committed: 0 }
    }

    /// Whether `relation` is the table that is read.
    pub(super) fn is_of(&self, relation: u32) -> bool {
        match (&self.mapped, &self.entries) {
            (Some(mapped), _) => mapped.is_of(relation),
            (None, Some((entries, _))) => *entries == relation,
            (None, None) => false,
        }
    }

    /// The rows that follow are of a transaction that committed at `time`, in microseconds since 2000.
    pub(super) fn begin(&mut self, time: i64) {
        self.committed = time;
    }

    /// Takes note of a table's columns, if it is that of the entries.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if a column is missing or has another type.
    pub(super) fn relation(&mut self, relation: &Relation) -> Result<(), StoreError> {
        if let Some(mapped) = &mut self.mapped {
            return mapped.relation(relation);
        }
        if (&*relation.schema, &*relation.name) != ("outbox", "entries") {
            return Ok(());
        }
        let fields: Vec<_> = relation
            .columns
            .iter()
            .map(|column| {
                let field = FIELDS.iter().find(|(name, ..)| *name == column.name);
                match field {
                    Some((name, kind, _)) if *kind != column.kind => Err(odd(name, "has another type")),
                    Some((_, _, field)) => Ok(Some(*field)),
                    None => Ok(None),
                }
            })
            .collect::<Result<_, _>>()?;
        if let Some((name, ..)) = FIELDS.iter().find(|(.., field)| !fields.contains(&Some(*field))) {
            return Err(odd(name, "is missing"));
        }
        self.entries = Some((relation.id, fields));
        Ok(())
    }

    /// The row's id and record, which has no position yet; `None` if the row is another table's. A row without an id is
    /// named by where it is.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if its values are not of their columns' types.
    pub(super) fn decode(
        &mut self,
        relation: u32,
        tuple: &Tuple,
        at: Option<InLog>,
    ) -> Result<Option<(i64, Record)>, StoreError> {
        if let Some(mapped) = &self.mapped {
            return mapped.decode(&mut self.decoder, (relation, tuple), at, self.committed);
        }
        let Some((id, fields)) = &self.entries else { return Ok(None) };
        if *id != relation {
            return Ok(None);
        }
        if tuple.len() != fields.len() {
            return Err(malformed());
        }
        let mut values = Values::default();
        let mut row = Row::default();
        for (field, value) in fields.iter().zip(tuple.values()) {
            let Some(field) = field else { continue };
            let bytes = match value {
                Value::Null => continue,
                Value::Binary(bytes) => bytes,
                Value::Text(_) | Value::Unchanged => return Err(malformed()),
            };
            match field {
                Field::Id => row.id = eight(bytes)?,
                Field::Xid => row.xid = eight(bytes)?.cast_unsigned(),
                Field::Recorded => values.recorded = eight(bytes)?,
                Field::Sequence => values.sequence = Some(eight(bytes)?),
                Field::Incarnation => values.incarnation = Some(four(bytes)?),
                Field::Count => values.count = four(bytes)?,
                Field::Commit => values.commit = bytes.try_into().map_err(|_| malformed())?,
                Field::Key => values.key = Some(text(bytes)?),
                Field::After => values.after = Some(text(bytes)?),
                Field::Kind => values.kind = text(bytes)?,
                Field::EventId => values.event_id = Some(text(bytes)?),
                Field::ContentType => values.content_type = Some(text(bytes)?),
                Field::Data => values.data = Some(text(bytes)?),
                Field::DataBytes => values.data_bytes = Some(bytes),
                Field::Attributes => values.attributes = Some(text(bytes)?),
                Field::More => values.more = Some(text(bytes)?),
            }
        }
        values.row = row;
        Ok(Some((row.id, self.decoder.record(&values, Position::new("")))))
    }
}

fn eight(bytes: &[u8]) -> Result<i64, StoreError> {
    bytes.try_into().map(i64::from_be_bytes).map_err(|_| malformed())
}

fn four(bytes: &[u8]) -> Result<i32, StoreError> {
    bytes.try_into().map(i32::from_be_bytes).map_err(|_| malformed())
}

fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(|_| malformed())
}

fn malformed() -> StoreError {
    StoreError::new(ErrorKind::Incompatible, "reading the log: a row's values are not of the types of its columns")
}

fn odd(column: &str, found: &str) -> StoreError {
    let message = format!("reading the log: the column `{column}` of outbox.entries {found}: run `outbox init`");
    StoreError::new(ErrorKind::Incompatible, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::wal::pgoutput::Column;

    fn columns() -> Vec<Column> {
        FIELDS.iter().map(|(name, kind, _)| Column { name: (*name).to_owned(), kind: *kind }).collect()
    }

    fn entries(columns: Vec<Column>) -> Relation {
        Relation { id: 7, schema: "outbox".to_owned(), name: "entries".to_owned(), columns }
    }

    #[test]
    fn a_table_without_a_column_or_with_another_type_is_refused() {
        let mut rows = Rows::new("/orders", Layout::Entries);
        rows.relation(&entries(columns())).unwrap();
        let mut other = columns();
        other[0].kind = TEXT;
        let refused = rows.relation(&entries(other)).unwrap_err();
        assert!(refused.to_string().contains("`id`"), "{refused}");
        let mut fewer = columns();
        fewer.pop();
        let refused = rows.relation(&entries(fewer)).unwrap_err();
        assert!(refused.to_string().contains("`more`"), "{refused}");
    }

    #[test]
    fn the_numbers_of_the_types_are_those_of_the_server() {
        use tokio_postgres::types::Type;
        let known = [Type::BYTEA, Type::INT8, Type::INT4, Type::TEXT, Type::TIMESTAMPTZ, Type::UUID, Type::XID8];
        let numbers: Vec<u32> = known.iter().map(Type::oid).collect();
        assert_eq!(numbers, [BYTEA, INT8, INT4, TEXT, TIMESTAMPTZ, UUID, XID8]);
    }
}

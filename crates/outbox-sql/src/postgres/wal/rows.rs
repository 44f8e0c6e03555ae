//! Rows of the entries, as the log gives them.

use outbox::{ErrorKind, Position, Record, StoreError};

use super::pgoutput::{Relation, Tuple, Value};
use crate::postgres::{
    decode::{Decoder, Values},
    position::Row,
};

/// A column that is read. The others, as `previous_id` and what a team added, are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
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
const FIELDS: [(&str, u32, Field); 16] = [
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

/// Decodes the rows of the entries.
pub(super) struct Rows {
    decoder: Decoder,
    /// The number by which rows name the entries, and what their columns are.
    entries: Option<(u32, Vec<Option<Field>>)>,
}

impl Rows {
    /// For the events of `producer`.
    pub(super) fn new(producer: &str) -> Self {
        Self { decoder: Decoder::new(producer), entries: None }
    }

    /// Takes note of a table's columns, if it is that of the entries.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if a column is missing or has another type.
    pub(super) fn relation(&mut self, relation: &Relation) -> Result<(), StoreError> {
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

    /// The row's id and record, which has no position yet; `None` if the row is another table's.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if its values are not of their columns' types.
    pub(super) fn decode(&mut self, relation: u32, tuple: &Tuple) -> Result<Option<(i64, Record)>, StoreError> {
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
        let mut rows = Rows::new("/orders");
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

//! Rows of a mapped table, as the log gives them: the same records that a statement reads in the table.

use std::{borrow::Cow, sync::Arc};

use outbox::{ErrorKind, Position, Record, StoreError};
use sha2::{Digest, Sha256};

use super::{InLog, eight, malformed, text};
use crate::postgres::{
    decode::{Decoder, Values},
    mapping::{Form, LogTable},
    position::Row,
    wal::pgoutput::{Relation, Tuple, Value},
};

/// 1970, in seconds before 2000.
const EPOCH: i64 = 946_684_800;
const MICROS: i64 = 1_000_000;

/// The table, once the log has told of its columns.
pub(super) struct Mapped {
    table: Arc<LogTable>,
    /// The number by which rows name it, and for each of its columns which of those that are read it is.
    known: Option<(u32, Vec<Option<usize>>)>,
}

/// A row's values, by the numbers of the columns that are read.
struct Cells<'a> {
    table: &'a LogTable,
    values: Vec<Option<&'a [u8]>>,
}

impl Mapped {
    pub(super) fn new(table: Arc<LogTable>) -> Self {
        Self { table, known: None }
    }

    /// Takes note of a table's columns, if it is this one.
    pub(super) fn relation(&mut self, relation: &Relation) -> Result<(), StoreError> {
        if (&*relation.schema, &*relation.name) != (&*self.table.schema, &*self.table.name) {
            return Ok(());
        }
        let number = |name: &str| self.table.columns.iter().position(|column| column.name == name);
        let numbers: Vec<_> = relation.columns.iter().map(|column| number(&column.name)).collect();
        for (index, wanted) in self.table.columns.iter().enumerate() {
            let found = numbers.iter().position(|number| *number == Some(index));
            let is_same = found.is_some_and(|found| relation.columns[found].kind == wanted.oid);
            if !is_same {
                let what = if found.is_some() { "has another type than it had" } else { "is not there any more" };
                let message = format!(
                    "reading the log: the column `{}` of {} {what}: set the mapping right, and start the relay again",
                    wanted.name, self.table.reading.table
                );
                return Err(StoreError::new(ErrorKind::Incompatible, message));
            }
        }
        self.known = Some((relation.id, numbers));
        Ok(())
    }

    /// Whether it is this table.
    pub(super) fn is_of(&self, relation: u32) -> bool {
        self.known.as_ref().is_some_and(|(known, _)| *known == relation)
    }

    /// See [`Rows::decode`](super::Rows::decode).
    pub(super) fn decode(
        &self,
        decoder: &mut Decoder,
        (relation, tuple): (u32, &Tuple),
        at: Option<InLog>,
        committed: i64,
    ) -> Result<Option<(i64, Record)>, StoreError> {
        let Some((_, numbers)) = self.known.as_ref().filter(|(known, _)| *known == relation) else { return Ok(None) };
        if tuple.len() != numbers.len() {
            return Err(malformed());
        }
        let mut cells = Cells { table: &self.table, values: vec![None; self.table.columns.len()] };
        for (number, value) in numbers.iter().zip(tuple.values()) {
            let Some(number) = *number else { continue };
            let is_text = matches!(self.table.columns[number].form, Form::Text | Form::Padded);
            cells.values[number] = match value {
                Value::Null => None,
                Value::Binary(bytes) => Some(bytes),
                // As for a type that has no binary form.
                Value::Text(bytes) if is_text => Some(bytes),
                Value::Text(_) | Value::Unchanged => return Err(malformed()),
            };
        }
        cells.record(decoder, at, committed).map(Some)
    }
}

impl<'a> Cells<'a> {
    fn record(&self, decoder: &mut Decoder, at: Option<InLog>, committed: i64) -> Result<(i64, Record), StoreError> {
        let (row, name) = self.row(at)?;
        let key = self.key()?;
        let (kind, event_id) = (self.text(self.table.kind)?, self.optional(self.table.event_id)?);
        let attributes = self.optional(self.table.attributes)?;
        let is_bytes = self.table.columns[self.table.payload].form == Form::Bytes;
        let data = if is_bytes { None } else { self.text(self.table.payload)? };
        let time = self.table.time.and_then(|time| self.values[time]).map(eight).transpose()?;
        let values = Values {
            row,
            recorded: time.unwrap_or(committed),
            count: 1,
            name: self.table.place.is_none().then_some(&*name),
            commit: self.fingerprint(&name, time)?,
            key: key.as_deref(),
            kind: kind.as_deref().unwrap_or_default(),
            event_id: event_id.as_deref(),
            content_type: self.table.content_type.as_deref(),
            data: data.as_deref(),
            data_bytes: if is_bytes { self.values[self.table.payload] } else { None },
            attributes: attributes.as_deref(),
            ..Values::default()
        };
        Ok((row.id, decoder.record(&values, Position::new(""))))
    }

    /// The row, and what names it among all.
    fn row(&self, at: Option<InLog>) -> Result<(Row, String), StoreError> {
        if let Some((id, xid)) = self.table.place {
            let name = self.text(id)?.ok_or_else(malformed)?;
            let xid = self.values[xid].ok_or_else(malformed)?;
            let id = name.parse().map_err(|_| malformed())?;
            return Ok((Row { id, xid: eight(xid)?.cast_unsigned() }, name.into_owned()));
        }
        let InLog { commit, xid, number } = at.ok_or_else(malformed)?;
        let id = i64::try_from(number).map_err(|_| malformed())?;
        Ok((Row { id, xid }, format!("{commit}/{xid}/{number}")))
    }

    fn key(&self) -> Result<Option<String>, StoreError> {
        let parts = self.table.key.iter().map(|part| self.text(*part)).collect::<Result<Option<Vec<_>>, _>>()?;
        Ok(parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join("/")))
    }

    /// What the statement that reads the table works out as well: which row this is, in whatever history.
    fn fingerprint(&self, name: &str, time: Option<i64>) -> Result<[u8; 16], StoreError> {
        let mut parts: Vec<Cow<'_, str>> = vec![name.into(), self.text(self.table.kind)?.unwrap_or_default()];
        if let Some(event_id) = self.table.event_id {
            parts.push(self.text(event_id)?.unwrap_or_default());
        }
        if self.table.time.is_some() {
            parts.push(time.map(epoch).unwrap_or_default().into());
        }
        for part in &self.table.key {
            parts.push(self.text(*part)?.unwrap_or_default());
        }
        let hash = Sha256::digest(parts.join("\u{1f}").as_bytes());
        hash.first_chunk().copied().ok_or_else(malformed)
    }

    fn optional(&self, number: Option<usize>) -> Result<Option<Cow<'a, str>>, StoreError> {
        number.map_or(Ok(None), |number| self.text(number))
    }

    /// The value as the server prints it.
    fn text(&self, number: usize) -> Result<Option<Cow<'a, str>>, StoreError> {
        let Some(bytes) = self.values[number] else { return Ok(None) };
        let shown = match self.table.columns[number].form {
            Form::Text => Cow::Borrowed(text(bytes)?),
            Form::Padded => Cow::Borrowed(text(bytes)?.trim_end_matches(' ')),
            Form::Small => bytes.try_into().map(i16::from_be_bytes).map_err(|_| malformed())?.to_string().into(),
            Form::Whole => bytes.try_into().map(i32::from_be_bytes).map_err(|_| malformed())?.to_string().into(),
            Form::Big => eight(bytes)?.to_string().into(),
            Form::Uuid => uuid(bytes)?.into(),
            // A version stands before the text.
            Form::JsonBinary => match bytes.split_first() {
                Some((1, json)) => Cow::Borrowed(text(json)?),
                Some(_) | None => return Err(malformed()),
            },
            Form::Bytes | Form::Time => return Err(malformed()),
        };
        Ok(Some(shown))
    }
}

fn uuid(bytes: &[u8]) -> Result<String, StoreError> {
    let number = bytes.try_into().map(u128::from_be_bytes).map_err(|_| malformed())?;
    let digits = format!("{number:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

/// `extract(epoch FROM …)::text` of a time in microseconds since 2000.
fn epoch(micros: i64) -> String {
    match micros {
        i64::MAX => return "Infinity".to_owned(),
        i64::MIN => return "-Infinity".to_owned(),
        _ => {}
    }
    let since_1970 = i128::from(micros) + i128::from(EPOCH) * i128::from(MICROS);
    let (whole, sign) = (since_1970.unsigned_abs(), if since_1970 < 0 { "-" } else { "" });
    let micros = u128::from(MICROS.unsigned_abs());
    format!("{sign}{}.{:06}", whole / micros, whole % micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_the_server_prints_them() {
        assert_eq!(epoch(0), "946684800.000000");
        assert_eq!(epoch(-EPOCH * MICROS - 500_000), "-0.500000");
        assert_eq!(epoch(i64::MAX), "Infinity");
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes).unwrap(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(uuid(&bytes[1..]).unwrap_err().kind(), ErrorKind::Incompatible);
    }
}

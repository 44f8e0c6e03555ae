//! The messages of the output plugin `pgoutput`, protocol version 1. PostgreSQL 18, section 54.9.
//!
//! Version 1 sends a transaction once it has committed. The later ones can send it while it is under way, which helps who
//! applies it as it comes: here nothing of it may go out before it is known to commit, so it would have to be stored here
//! instead of at the server. The server stores it on its disk, beyond `logical_decoding_work_mem`, and sends it row by row
//! as fast as we read: what we hold of a transaction does not depend on its size.

use bytes::{Buf, Bytes};

use super::lsn::Lsn;

/// A message of the plugin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// What follows is of one transaction, up to its [`Commit`](Self::Commit).
    Begin {
        /// Where its commit is in the log.
        commit: Lsn,
        /// When it committed, in microseconds since 2000.
        time: i64,
        /// The lower half of the transaction's id.
        xid: u32,
    },
    /// The end of a transaction.
    Commit {
        /// The place behind it.
        end: Lsn,
    },
    /// What a table's columns are. Comes before its first row, and again when it was changed.
    Relation(Relation),
    /// A new row.
    Insert {
        /// Of which table.
        relation: u32,
        /// Its values.
        row: Tuple,
    },
    /// What does not tell of a new row: a changed row or one that was removed, a table that was emptied, the name of a
    /// type, where a transaction came from, a message that a session put into the log.
    Other,
}

/// What a table's columns are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Relation {
    /// Its number, by which rows name it.
    pub(crate) id: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The number of its type.
    pub(crate) kind: u32,
}

/// A row's values, as they are on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    columns: u16,
    values: Bytes,
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    /// In the binary form of its type.
    Binary(&'a [u8]),
    /// In the text form of its type, for types that have no binary one.
    Text(&'a [u8]),
    /// Not sent because it did not change; never in a new row.
    Unchanged,
}

/// That bytes are no message of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of pgoutput {0}")]
pub(crate) struct Malformed(&'static str);

const SHORT: Malformed = Malformed("ends early");
const LONG: Malformed = Malformed("goes on behind its end");

/// Reads one message. What is given shares the message's memory; no more than that is allocated.
///
/// # Errors
/// If it is none of protocol version 1.
pub(crate) fn read(mut message: Bytes) -> Result<Change, Malformed> {
    let message = &mut message;
    let change = match message.try_get_u8().map_err(|_| SHORT)? {
        b'B' => {
            let commit = Lsn(message.try_get_u64().map_err(|_| SHORT)?);
            let time = message.try_get_i64().map_err(|_| SHORT)?;
            Change::Begin { commit, time, xid: message.try_get_u32().map_err(|_| SHORT)? }
        }
        b'C' => {
            let _flags = message.try_get_u8().map_err(|_| SHORT)?;
            let _commit = message.try_get_u64().map_err(|_| SHORT)?;
            let end = Lsn(message.try_get_u64().map_err(|_| SHORT)?);
            let _time = message.try_get_i64().map_err(|_| SHORT)?;
            Change::Commit { end }
        }
        b'R' => Change::Relation(relation(message)?),
        b'I' => {
            let relation = message.try_get_u32().map_err(|_| SHORT)?;
            if message.try_get_u8() != Ok(b'N') {
                return Err(Malformed("tells of a new row without one"));
            }
            Change::Insert { relation, row: tuple(message)? }
        }
        b'U' | b'D' | b'T' | b'Y' | b'O' | b'M' => return Ok(Change::Other),
        _ => return Err(Malformed("is of a kind that was not asked for")),
    };
    if message.has_remaining() { Err(LONG) } else { Ok(change) }
}

fn relation(message: &mut Bytes) -> Result<Relation, Malformed> {
    let mut relation = Relation {
        id: message.try_get_u32().map_err(|_| SHORT)?,
        schema: text(message)?,
        name: text(message)?,
        columns: Vec::new(),
    };
    let _identity = message.try_get_u8().map_err(|_| SHORT)?;
    for _ in 0..message.try_get_u16().map_err(|_| SHORT)? {
        let _flags = message.try_get_u8().map_err(|_| SHORT)?;
        let name = text(message)?;
        let kind = message.try_get_u32().map_err(|_| SHORT)?;
        let _modifier = message.try_get_i32().map_err(|_| SHORT)?;
        relation.columns.push(Column { name, kind });
    }
    Ok(relation)
}

/// Makes sure that all values are there, so that going through them cannot fail.
fn tuple(message: &mut Bytes) -> Result<Tuple, Malformed> {
    let columns = message.try_get_u16().map_err(|_| SHORT)?;
    let mut rest = &message[..];
    for _ in 0..columns {
        value(&mut rest)?;
    }
    let values = message.split_to(message.len() - rest.len());
    Ok(Tuple { columns, values })
}

fn value<'a>(values: &mut &'a [u8]) -> Result<Value<'a>, Malformed> {
    match values.try_get_u8().map_err(|_| SHORT)? {
        b'n' => Ok(Value::Null),
        b'u' => Ok(Value::Unchanged),
        b'b' => bytes(values).map(Value::Binary),
        b't' => bytes(values).map(Value::Text),
        _ => Err(Malformed("has a value of an unknown kind")),
    }
}

fn bytes<'a>(values: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = values.try_get_u32().map_err(|_| SHORT)? as usize;
    let (value, rest) = values.split_at_checked(length).ok_or(SHORT)?;
    *values = rest;
    Ok(value)
}

fn text(message: &mut Bytes) -> Result<String, Malformed> {
    let end = message.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
    let text = message.split_to(end);
    message.advance(1);
    std::str::from_utf8(&text).map(str::to_owned).map_err(|_| Malformed("has a name that is not UTF-8"))
}

impl Tuple {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// The values, in the order of the table's columns.
    pub(crate) fn values(&self) -> impl Iterator<Item = Value<'_>> {
        let mut rest = &self.values[..];
        // Looked at when it was read, so none is missing.
        (0..self.columns).map_while(move |_| value(&mut rest).ok())
    }
}

#[cfg(test)]
mod tests;

//! What stands in one column of a row.

use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

/// A value as anybody may write it. `Good` is what a row without mistakes has there.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// What belongs there.
    Good,
    /// NULL.
    Null,
    /// An INTEGER.
    Integer(i64),
    /// A REAL.
    Real(f64),
    /// A TEXT, which need not be UTF-8.
    Text(Vec<u8>),
    /// A BLOB.
    Blob(Vec<u8>),
}

impl Cell {
    /// This one, or `good` in its place.
    pub(crate) fn or(&self, good: &Cell) -> Self {
        match self {
            Self::Good => good.clone(),
            other => other.clone(),
        }
    }

    /// A text.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// The bytes of a text or blob.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes) | Self::Blob(bytes) => bytes,
            Self::Good | Self::Null | Self::Integer(_) | Self::Real(_) => &[],
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Good | Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Reads cells from bytes: for each one byte that says what it is, and behind it the number in eight bytes, or a length
/// in two bytes and so many. Where the bytes end, the rest is good.
pub fn cells<const N: usize>(bytes: &[u8]) -> [Cell; N] {
    let mut rest = bytes;
    std::array::from_fn(|_| next(&mut rest))
}

fn next(rest: &mut &[u8]) -> Cell {
    let Some((kind, behind)) = rest.split_first() else { return Cell::Good };
    *rest = behind;
    match kind % 6 {
        0 => Cell::Good,
        1 => Cell::Null,
        2 => Cell::Integer(i64::from_be_bytes(number(rest))),
        3 => Cell::Real(f64::from_be_bytes(number(rest))),
        4 => Cell::Text(run(rest)),
        _ => Cell::Blob(run(rest)),
    }
}

/// The next so many bytes; zeros where they end.
fn number<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut number = [0; N];
    let (taken, behind) = rest.split_at(N.min(rest.len()));
    number[..taken.len()].copy_from_slice(taken);
    *rest = behind;
    number
}

fn run(rest: &mut &[u8]) -> Vec<u8> {
    let length = usize::from(u16::from_be_bytes(number(rest)));
    let (taken, behind) = rest.split_at(length.min(rest.len()));
    *rest = behind;
    taken.to_vec()
}

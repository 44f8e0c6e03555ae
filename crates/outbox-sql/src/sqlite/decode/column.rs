//! The values of a row, as the types that the table's layout says.

use rusqlite::{Row, types::ValueRef};

use crate::decode::Rubbish;

/// A column of text; `None` for NULL.
pub(super) fn text<'a>(row: &'a Row<'_>, number: usize, name: &str) -> Result<Option<&'a str>, Rubbish> {
    match row.get_ref(number) {
        Ok(ValueRef::Null) => Ok(None),
        Ok(ValueRef::Text(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                let found = format!("is not UTF-8 from byte {}: write it as UTF-8", error.valid_up_to());
                Err(Rubbish::new(name, found))
            }
        },
        Ok(other) => Err(Rubbish::new(name, format!("is {}, not text: write it as TEXT", type_name(other)))),
        Err(error) => Err(Rubbish::new(name, error)),
    }
}

/// A column of text or bytes; `None` for NULL.
pub(super) fn bytes<'a>(row: &'a Row<'_>, number: usize, name: &str) -> Result<Option<&'a [u8]>, Rubbish> {
    match row.get_ref(number) {
        Ok(ValueRef::Null) => Ok(None),
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => Ok(Some(bytes)),
        Ok(other) => {
            Err(Rubbish::new(name, format!("is {}, not text or bytes: write it as TEXT or BLOB", type_name(other))))
        }
        Err(error) => Err(Rubbish::new(name, error)),
    }
}

fn type_name(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "an integer",
        ValueRef::Real(_) => "a floating-point number",
        ValueRef::Text(_) => "text",
        ValueRef::Blob(_) => "bytes",
    }
}

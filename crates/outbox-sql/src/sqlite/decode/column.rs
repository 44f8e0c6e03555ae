//! The values of a row, as the types that the table's layout says.

use std::{fmt, sync::Arc};

use outbox::AttributeError;
use rusqlite::{Row, types::ValueRef};

/// What is wrong with a row.
#[derive(Debug)]
pub(super) struct Rubbish(String);

impl Rubbish {
    /// `column` is wrong as `found` says, remedy included.
    pub(super) fn new(column: &str, found: impl fmt::Display) -> Self {
        Self(format!("`{column}` {found}"))
    }

    /// An attribute that is not allowed: its error names it and the remedy.
    pub(super) fn attribute(error: &AttributeError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Rubbish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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

/// Gives equal texts in a row one allocation: most rows have the type of the row before.
#[derive(Default)]
pub(super) struct Shared(Option<Arc<str>>);

impl Shared {
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        match &self.0 {
            Some(last) if **last == *text => last.clone(),
            Some(_) | None => {
                let text: Arc<str> = text.into();
                self.0 = Some(text.clone());
                text
            }
        }
    }
}

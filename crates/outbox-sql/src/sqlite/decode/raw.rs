//! A row as it was found, for whoever looks into a dead letter that could not be read.

use base64::{Engine, engine::general_purpose::STANDARD};
use rusqlite::{Row, types::ValueRef};
use serde_json::{Map, Value, json};

use super::COLUMNS;

/// The row as a JSON object with a member a column. Bytes, and text that is not UTF-8, are base64 in an object that
/// says so.
pub(super) fn render(row: &Row<'_>) -> rusqlite::Result<Vec<u8>> {
    let names = COLUMNS.split(',').map(str::trim);
    let columns: Map<String, Value> = names
        .enumerate()
        .map(|(number, name)| Ok((name.to_owned(), value(row.get_ref(number)?))))
        .collect::<rusqlite::Result<_>>()?;
    Ok(Value::Object(columns).to_string().into_bytes())
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => json!({ "text_base64": STANDARD.encode(bytes) }),
        },
        ValueRef::Blob(bytes) => json!({ "blob_base64": STANDARD.encode(bytes) }),
    }
}

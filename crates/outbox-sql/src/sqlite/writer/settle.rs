//! What became of a commit whose answer was lost.

use outbox::{ErrorKind, Receipt, StoreError, writer::Settled};
use rusqlite::{Connection, params_from_iter, types::ToSqlOutput};

use crate::sqlite::{
    failure::store_error,
    statement::{self, Parameter},
};

/// Whether the entry of `receipt` was committed. Ask on a connection that is in no transaction, once the one that wrote
/// has ended: has answered, was rolled back, or its connection is closed.
///
/// A key's entry is found however many came after it, unless it has been purged; an event without a key only among the
/// newest 10,000 entries. What is not found for that reason is [`Settled::Unknown`].
///
/// # Errors
/// [`ErrorKind::Invalid`] if `connection` is in a transaction: it would see its own uncommitted entries. Otherwise as
/// SQLite says.
pub fn settle(connection: &Connection, receipt: &Receipt) -> Result<Settled, StoreError> {
    if !connection.is_autocommit() {
        let message = "the connection is in a transaction: settle once it has ended, or on another connection";
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    let ask = statement::settle(receipt);
    connection
        .query_row(ask.sql, params_from_iter(ask.parameters.iter().map(bound)), |row| {
            let commit: Option<Vec<u8>> = row.get(1)?;
            Ok(statement::settled(receipt, row.get(0)?, commit.as_deref()))
        })
        .map_err(store_error("asking what became of a commit"))
}

/// A parameter as `rusqlite` takes it.
fn bound(parameter: &Parameter) -> ToSqlOutput<'_> {
    match parameter {
        Parameter::Null => rusqlite::types::Null.into(),
        Parameter::Integer(number) => (*number).into(),
        Parameter::Text(text) => text.as_str().into(),
        Parameter::Blob(bytes) => bytes.as_slice().into(),
    }
}

//! Rows of the entries, as the driver gives them.

use std::error::Error;

use tokio_postgres::types::{FromSql, Type};

use crate::postgres::{decode::Values, position::Row};

/// What [`values`] reads, of the entries as `e`, in its order.
pub(super) const COLUMNS: &str = "e.id::bigint, e.xid, e.recorded_at, e.sequence, e.incarnation, e.count, e.commit_id, e.key, \
     e.after, e.type, e.event_id, e.content_type, e.data, e.data_bytes, e.attributes, e.more";

/// A row with [`COLUMNS`].
///
/// # Errors
/// Only if it has other columns.
pub(super) fn values(row: &tokio_postgres::Row) -> Result<Values<'_>, tokio_postgres::Error> {
    Ok(Values {
        row: Row { id: row.try_get(0)?, xid: row.try_get::<_, Eight>(1)?.0.cast_unsigned() },
        name: None,
        recorded: row.try_get::<_, Eight>(2)?.0,
        sequence: row.try_get(3)?,
        incarnation: row.try_get(4)?,
        count: row.try_get(5)?,
        commit: row.try_get::<_, Sixteen>(6)?.0,
        key: row.try_get(7)?,
        after: row.try_get(8)?,
        kind: row.try_get(9)?,
        event_id: row.try_get(10)?,
        content_type: row.try_get(11)?,
        data: row.try_get(12)?,
        data_bytes: row.try_get(13)?,
        attributes: row.try_get(14)?,
        more: row.try_get(15)?,
    })
}

/// A number of 64 bits by another name: a transaction's, or a time.
pub(in crate::postgres) struct Eight(pub(in crate::postgres) i64);

impl<'a> FromSql<'a> for Eight {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::XID8 | Type::TIMESTAMPTZ | Type::PG_LSN)
    }
}

/// A UUID.
pub(in crate::postgres) struct Sixteen(pub(in crate::postgres) [u8; 16]);

impl<'a> FromSql<'a> for Sixteen {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }
}

//! Reading rows of a range, a page at a time.

use std::sync::LazyLock;

use outbox::StoreError;
use tokio_postgres::types::Type;

use super::{
    session::{Param, Using},
    unseen::{self, Seen},
    values::COLUMNS,
};
use crate::postgres::{
    failure::store_error,
    position::{Snapshot, fitted},
};

const READING: &str = "reading entries";

/// What a row's events take in memory, or a little more, without decompressing a payload. Less would have the server send rows
/// that the page has no room for, again and again. Of a count that is rubbish there may be any.
const SIZE: &str = "320 * greatest(1, least(e.count, 1000)) + coalesce(octet_length(e.data), octet_length(e.data_bytes), 0) \
     + coalesce(octet_length(e.more), 0) + coalesce(octet_length(e.attributes), 0)";

/// Cuts `rows` off, which have [`COLUMNS`] and `size`, once there are `bytes` of them; the first one is there in any case.
fn within(rows: &str, bytes: &str) -> String {
    format!(
        "SELECT e.* FROM (SELECT p.*, sum(p.size) OVER (ORDER BY p.id ROWS UNBOUNDED PRECEDING) - p.size AS before \
         FROM ({rows}) AS p) AS e WHERE e.before < {bytes} ORDER BY e.id"
    )
}

/// By the primary key: above `$1` up to `$2`, of what `$3` sees and `$4` does not, `$5` rows and `$6` bytes at most. The
/// snapshots are hidden in functions, so that the other index is of no use.
static WALK: LazyLock<String> = LazyLock::new(|| {
    let rows = format!(
        "SELECT {COLUMNS}, {SIZE} AS size FROM outbox.entries AS e WHERE e.id > $1 AND e.id <= $2 \
         AND pg_visible_in_snapshot(e.xid, $3::text::pg_snapshot) \
         AND NOT pg_visible_in_snapshot(e.xid, $4::text::pg_snapshot) ORDER BY e.id LIMIT $5"
    );
    within(&rows, "$6")
});

/// By the index on transactions, then each row by its id: see [`Seen::params`] for `$5` to `$10`; `$1` rows and `$2` bytes at
/// most.
static PICK: LazyLock<[String; 2]> = LazyLock::new(|| {
    [false, true].map(|with_running| {
        let ids = unseen::ids(with_running, "$1");
        let rows = format!(
            "SELECT o.* FROM ({ids}) AS i, LATERAL (SELECT {COLUMNS}, {SIZE} AS size FROM outbox.entries AS e \
             WHERE e.id = i.id LIMIT 1) AS o WHERE $3::text IS NULL AND $4::text IS NULL ORDER BY o.id"
        );
        within(&rows, "$2")
    })
});

/// How much of a range to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) rows: i64,
    pub(super) bytes: i64,
}

/// Whether these rows may not be all that there were: a statement stops at the limit of rows, or of bytes.
pub(super) fn is_cut(rows: &[tokio_postgres::Row], most: Most) -> Result<bool, StoreError> {
    let Some(last) = rows.last() else { return Ok(false) };
    let columns = COLUMNS.split(',').count();
    let size: i32 = last.try_get(columns).map_err(store_error(READING))?;
    let before: i64 = last.try_get(columns + 1).map_err(store_error(READING))?;
    let bytes = before + i64::from(size);
    Ok(bytes >= most.bytes || i64::try_from(rows.len()).is_ok_and(|rows| rows >= most.rows))
}

/// The next rows of what `to` sees and `passed` does not, above an id and up to another one, walking from id to id.
pub(super) async fn walk(
    using: &Using<'_>,
    (above, through): (i64, i64),
    (passed, to): (&Snapshot, &Snapshot),
    most: Most,
) -> Result<Vec<tokio_postgres::Row>, StoreError> {
    let sql = fitted(using.sql(&WALK), &[(3, to), (4, passed)]);
    let (to, passed) = (to.to_sql(), passed.to_sql());
    let params: [Param<'_>; 6] = [
        (&above, Type::INT8),
        (&through, Type::INT8),
        (&to, Type::TEXT),
        (&passed, Type::TEXT),
        (&most.rows, Type::INT8),
        (&most.bytes, Type::INT8),
    ];
    using.within(READING, using.client().query_typed(&sql, &params)).await
}

/// The last id above `above` before which there is no row: where a walk goes on that came upon none.
pub(super) async fn end_of_gap(using: &Using<'_>, (above, through): (i64, i64)) -> Result<i64, StoreError> {
    const SQL: &str =
        "SELECT coalesce(min(e.id)::bigint - 1, $2) FROM outbox.entries AS e WHERE e.id > $1 AND e.id <= $2";
    let params: [Param<'_>; 2] = [(&above, Type::INT8), (&through, Type::INT8)];
    let row = using.within(READING, using.client().query_typed_one(&using.sql(SQL), &params)).await?;
    row.try_get(0).map_err(store_error(READING))
}

/// The same, found by their transactions: for a few rows far apart.
pub(super) async fn pick(
    using: &Using<'_>,
    above: i64,
    (passed, to): (&Snapshot, &Snapshot),
    most: Most,
) -> Result<Vec<tokio_postgres::Row>, StoreError> {
    let seen = Seen::by(passed, Some(to), above);
    let none: Option<String> = None;
    let params: Vec<Param<'_>> = [
        (&most.rows as _, Type::INT8),
        (&most.bytes as _, Type::INT8),
        (&none as _, Type::TEXT),
        (&none as _, Type::TEXT),
    ]
    .into_iter()
    .chain(seen.params())
    .collect();
    let sql = fitted(using.sql(&PICK[usize::from(seen.has_running())]), &[(7, to)]);
    using.within(READING, using.client().query_typed(&sql, &params)).await
}

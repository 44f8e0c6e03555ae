//! Going on by ids in a transaction of which the log gave some rows.

use outbox::StoreError;
use tokio_postgres::types::Type;

use super::session::Using;
use crate::postgres::position::{Reading, Row, Standing};

/// Where to read on from `standing`: within a transaction of which the log gave the rows with the lowest ids, behind these.
/// The log gives rows as they were written, and their ids rise, unless somebody drew them long before they were used; then
/// the transaction is read again from its first row.
///
/// # Errors
/// As the server says.
pub(super) async fn by_id(using: &Using<'_>, standing: Standing) -> Result<Standing, StoreError> {
    let Reading::Log { inside: Some((row, rows)) } = standing.reading else { return Ok(standing) };
    if !is_in_order(using, row, rows).await? {
        return Ok(standing);
    }
    let to = standing.passed.and(row.xid);
    Ok(Standing { reading: Reading::Range { to, last: Some(row), then: None }, ..standing })
}

/// Whether there are just `rows` rows of its transaction up to `row`, by id. As they are counted they can be seen.
async fn is_in_order(using: &Using<'_>, row: Row, rows: u64) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT count(*) FROM outbox.entries AS e WHERE e.xid = $1::text::xid8 AND e.id <= $2";
    let xid = row.xid.to_string();
    let statement = async {
        let found =
            using.client().query_typed_one(&using.sql(SQL), &[(&xid, Type::TEXT), (&row.id, Type::INT8)]).await?;
        found.try_get::<_, i64>(0)
    };
    let found = using.within("looking where a transaction was left", statement).await?;
    Ok(u64::try_from(found) == Ok(rows))
}

//! Who holds entries back: the transaction that has been open for longest.

use jiff::Timestamp;
use outbox::{StoreError, store::OpenTransaction};

use super::Inner;
use crate::postgres::{decode::from_micros, failure::store_error, source::Eight};

/// Who holds a transaction's number is shown to everybody, but since when, only to a member of `pg_read_all_stats`; for others
/// it is by when the first entry of a later transaction was recorded. Numbers of locks lack their upper half.
const OLDEST: &str = "SELECT a.pid, a.application_name, a.usename::text, p.gid, coalesce(p.prepared, a.xact_start,
        (SELECT e.recorded_at FROM outbox.entries AS e
            WHERE e.xid > (next.xid::text::bigint + age(next.xid::xid) - age(l.transactionid))::text::xid8
            ORDER BY e.xid, e.id LIMIT 1), now())
    FROM pg_catalog.pg_locks AS l CROSS JOIN (SELECT pg_snapshot_xmax(pg_current_snapshot())) AS next (xid)
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid AND a.datname = current_database()
    LEFT JOIN pg_catalog.pg_prepared_xacts AS p ON p.transaction = l.transactionid AND p.database = current_database()
    WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
        AND (a.pid IS NOT NULL OR p.gid IS NOT NULL)
    ORDER BY age(l.transactionid) DESC LIMIT 1";

impl Inner {
    /// The transaction that has been open for longest.
    pub(super) async fn oldest_transaction(&self) -> Result<Option<OpenTransaction>, StoreError> {
        const LOOKING: &str = "looking for the oldest open transaction";
        let client = self.keeper.client().await?;
        let row = client.limit().within(LOOKING, client.query_typed_opt(&self.entries.sql(OLDEST), &[])).await?;
        let Some(row) = row else { return Ok(None) };
        let of = |error| store_error(LOOKING)(error);
        let text = |column| row.try_get::<_, Option<String>>(column).map(Option::unwrap_or_default).map_err(of);
        let holder = match (
            row.try_get::<_, Option<i32>>(0).map_err(of)?,
            row.try_get::<_, Option<String>>(3).map_err(of)?,
        ) {
            (_, Some(gid)) => {
                let gid = gid.replace('\'', "''");
                format!(
                    "the prepared transaction `{gid}` (ROLLBACK PREPARED '{gid}' or COMMIT PREPARED '{gid}' ends it)"
                )
            }
            (pid, None) => {
                let pid = pid.unwrap_or_default();
                let (application, role) = (text(1)?, text(2)?);
                format!("process {pid}, `{application}`, role `{role}` (SELECT pg_terminate_backend({pid}) ends it)")
            }
        };
        let since: Eight = row.try_get(4).map_err(of)?;
        Ok(Some(OpenTransaction { holder, since: from_micros(since.0).unwrap_or(Timestamp::UNIX_EPOCH) }))
    }
}

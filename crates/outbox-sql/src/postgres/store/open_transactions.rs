//! Who holds entries back: the transaction that has been open for longest.

use jiff::Timestamp;
use outbox::{StoreError, store::OpenTransaction};

use super::Inner;
use crate::postgres::{decode::from_micros, failure::store_error, source::Eight};

/// Sessions of other roles show nothing of this without `pg_read_all_stats`, but for prepared ones.
const OLDEST: &str = "SELECT o.pid, o.application, o.role, o.gid, o.since FROM (
        SELECT a.pid, a.application_name AS application, a.usename::text AS role, NULL AS gid, a.xact_start AS since, a.backend_xid AS xid
        FROM pg_catalog.pg_stat_activity AS a WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL
            AND a.xact_start IS NOT NULL
        UNION ALL
        SELECT NULL, NULL, NULL, p.gid, p.prepared, p.transaction
        FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = current_database()
    ) AS o ORDER BY age(o.xid) DESC LIMIT 1";

impl Inner {
    /// The transaction that has been open for longest. Without the role `pg_read_all_stats`, only prepared ones and those of
    /// the same role are seen.
    pub(super) async fn oldest_transaction(&self) -> Result<Option<OpenTransaction>, StoreError> {
        const LOOKING: &str = "looking for the oldest open transaction";
        let client = self.keeper.client().await?;
        let row = client.limit().within(LOOKING, client.query_typed_opt(OLDEST, &[])).await?;
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

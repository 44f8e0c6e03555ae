//! Who holds entries back: the transaction that has been open for longest.

use std::fmt;

use jiff::Timestamp;
use outbox::StoreError;

use super::PostgresStore;
use crate::postgres::{decode::from_micros, failure::store_error, source::Eight};

/// A transaction of this database that has not ended: its entries, if it has any, cannot be read yet, and the log that it has
/// begun in is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Whose it is.
    pub holder: Holder,
    /// When it began; when it was prepared, if it was.
    pub since: Timestamp,
}

/// Whose an open transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A session's, which can be ended by `pg_terminate_backend`.
    Session {
        /// The session's process.
        pid: i32,
        /// The name that its program gave.
        application: String,
        /// Its role.
        role: String,
    },
    /// Nobody's any more: a prepared one, to be ended by `COMMIT PREPARED` or `ROLLBACK PREPARED`.
    Prepared {
        /// The name that it was prepared under.
        gid: String,
    },
}

impl fmt::Display for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Holder::Session { pid, application, role } => {
                write!(f, "a transaction of process {pid} (`{application}`, role `{role}`), open since {}", self.since)
            }
            Holder::Prepared { gid } => write!(f, "the prepared transaction `{gid}`, open since {}", self.since),
        }
    }
}

/// Sessions of other roles show nothing of this without `pg_read_all_stats`, but for prepared ones.
const OLDEST: &str = "SELECT o.pid, o.application, o.role, o.gid, o.since FROM (
        SELECT a.pid, a.application_name AS application, a.usename::text AS role, NULL AS gid, a.xact_start AS since, a.backend_xid AS xid
        FROM pg_catalog.pg_stat_activity AS a WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL
            AND a.xact_start IS NOT NULL
        UNION ALL
        SELECT NULL, NULL, NULL, p.gid, p.prepared, p.transaction
        FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = current_database()
    ) AS o ORDER BY age(o.xid) DESC LIMIT 1";

impl PostgresStore {
    /// The transaction that has been open for longest, of those that write: named in a status, where entries that somebody
    /// waits for are held back by nobody else. Without the role `pg_read_all_stats`, only prepared ones and those of the same
    /// role are seen.
    ///
    /// # Errors
    /// As the server says.
    pub async fn oldest_transaction(&self) -> Result<Option<OpenTransaction>, StoreError> {
        const LOOKING: &str = "looking for the oldest open transaction";
        let client = self.inner.keeper.client().await?;
        let row = client.limit().within(LOOKING, client.query_typed_opt(OLDEST, &[])).await?;
        let Some(row) = row else { return Ok(None) };
        let of = |error| store_error(LOOKING)(error);
        let holder = match (row.try_get::<_, Option<i32>>(0).map_err(of)?, row.try_get(3).map_err(of)?) {
            (_, Some(gid)) => Holder::Prepared { gid },
            (pid, None) => Holder::Session {
                pid: pid.unwrap_or_default(),
                application: row.try_get::<_, Option<String>>(1).map_err(of)?.unwrap_or_default(),
                role: row.try_get::<_, Option<String>>(2).map_err(of)?.unwrap_or_default(),
            },
        };
        let since: Eight = row.try_get(4).map_err(of)?;
        Ok(Some(OpenTransaction { holder, since: from_micros(since.0).unwrap_or(Timestamp::UNIX_EPOCH) }))
    }
}

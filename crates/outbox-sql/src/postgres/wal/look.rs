//! Looking at the server from beside the stream: what can be seen now, and how far its log reaches.

use std::{sync::LazyLock, time::Duration};

use outbox::{ErrorKind, StoreError};
use tokio_postgres::{error::SqlState, types::Type};

use super::{lsn::Lsn, publication::fingerprint, rows::Layout};
use crate::postgres::{connection::Connection, position::Snapshot};

const LOOKING: &str = "looking how far the log reaches";
/// How long what is committed may wait to be flushed before that is made to happen.
const PATIENCE: u32 = 3;
/// As the server's `wal_writer_delay`.
const BETWEEN: Duration = Duration::from_millis(200);

/// The lowest number that is given to a transaction.
const FIRST: u64 = 3;

/// A commit that waits for its flush, and for nothing else.
const FLUSH: &str =
    "SELECT set_config('synchronous_commit', 'local', true) || pg_logical_emit_message(true, 'outbox', '')::text";

/// What can be seen, and what was written of the log by then.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// What can be seen.
    pub(super) snapshot: Snapshot,
    /// All that it sees was written to the log before this place, for the snapshot was taken first.
    pub(super) written: Lsn,
    /// The standbys that commits wait for, as the server's setting names them.
    pub(super) standbys: String,
    /// Another text whenever the publication was changed, or was removed.
    pub(super) publication: String,
    /// Which of the histories of the log the server writes.
    pub(super) timeline: u32,
}

impl Look {
    /// What may be given out, if that is not everything: what can be seen, where commits wait for a standby.
    pub(super) fn gate(&self) -> Option<Snapshot> {
        (!self.standbys.is_empty()).then(|| self.snapshot.clone())
    }
}

/// The session beside the stream.
pub(super) struct Beside {
    connection: Connection,
    publication: String,
}

impl Beside {
    pub(super) fn new(connection: Connection, publication: String) -> Self {
        Self { connection, publication }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Looks.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn look(&self) -> Result<Look, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, \
                 current_setting('synchronous_standby_names'), {}, pg_walfile_name(pg_current_wal_insert_lsn())",
                fingerprint("$1", "true")
            )
        });
        let client = self.connection.client().await?;
        let limit = client.limit();
        let statement = async {
            let row = client.query_typed_one(&SQL, &[(&self.publication, Type::TEXT)]).await?;
            let texts: [String; 2] = [row.try_get(0)?, row.try_get(1)?];
            Ok((texts, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
        };
        let ([snapshot, written], standbys, publication, file): (_, _, _, String) =
            limit.within(LOOKING, statement).await?;
        let (snapshot, written) = (read_snapshot(&snapshot)?, read_lsn(&written)?);
        Ok(Look { snapshot, written, standbys, publication, timeline: timeline(&file) })
    }

    /// The number above the latest transaction with a row in the table of `layout` that `seen` sees: what has none beyond may
    /// be numbered anew after a crash, or on a standby that takes over. Of a table that does not tell, that of the next one.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn above_newest(&self, layout: &Layout, seen: &Snapshot) -> Result<u64, StoreError> {
        let Some((table, xid)) = layout.numbered() else { return Ok(seen.xmax()) };
        let sql = format!(
            "SELECT t.{xid}::text FROM {table} AS t WHERE pg_visible_in_snapshot(t.{xid}, $1::text::pg_snapshot) \
             ORDER BY t.{xid} DESC LIMIT 1"
        );
        let client = self.connection.client().await?;
        let limit = client.limit();
        let seen = seen.to_sql();
        let statement = async {
            let row = client.query_typed_opt(&sql, &[(&seen, Type::TEXT)]).await?;
            row.map(|row| row.try_get::<_, String>(0)).transpose()
        };
        let Some(newest) = limit.within(LOOKING, statement).await? else { return Ok(FIRST) };
        let number: u64 = newest.parse().map_err(|_| strange("a transaction's number", &newest))?;
        Ok(number.saturating_add(1))
    }

    /// Looks at what can be seen, and waits until all of that is flushed: a crash can take none of it back.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn look_at_flushed(&self) -> Result<Look, StoreError> {
        let look = self.look().await?;
        let mut tries = 0;
        while self.flushed().await? < look.written {
            tries += 1;
            if tries > PATIENCE {
                // A session that wrote and does nothing more can hold it up for long: a commit of ours has all flushed.
                // It waits for no standby.
                self.text(FLUSH).await?;
            } else {
                tokio::time::sleep(BETWEEN).await;
            }
        }
        Ok(look)
    }

    /// What is flushed.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn flushed(&self) -> Result<Lsn, StoreError> {
        read_lsn(&self.text("SELECT pg_current_wal_flush_lsn()::text").await?)
    }

    /// What can be seen.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        read_snapshot(&self.text("SELECT pg_current_snapshot()::text").await?)
    }

    /// A transaction's number above those of all that have one.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn draw_number(&self) -> Result<u64, StoreError> {
        let number = self.text("SELECT pg_current_xact_id()::text").await?;
        number.parse().map_err(|_| strange("a transaction's number", &number))
    }

    /// Whether the server has given this number to a transaction; an older copy may not have yet.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn has_given(&self, xid: u64) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT pg_xact_status($1::text::xid8)";
        let client = self.connection.client().await?;
        let (limit, xid) = (client.limit(), xid.to_string());
        let asked = async {
            match client.query_typed_one(SQL, &[(&xid, Type::TEXT)]).await {
                Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => Ok(false),
                other => other.map(|_| true),
            }
        };
        limit.within(LOOKING, asked).await
    }

    async fn text(&self, sql: &str) -> Result<String, StoreError> {
        let client = self.connection.client().await?;
        let limit = client.limit();
        let statement = async { client.query_typed_one(sql, &[]).await?.try_get(0) };
        limit.within(LOOKING, statement).await
    }
}

/// What the name of a file of the log says, which begins with it.
pub(super) fn timeline(file: &str) -> u32 {
    file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

pub(super) fn read_snapshot(text: &str) -> Result<Snapshot, StoreError> {
    Snapshot::from_sql(text).map_err(|_| strange("a snapshot", text))
}

pub(super) fn read_lsn(text: &str) -> Result<Lsn, StoreError> {
    text.parse().map_err(|_| strange("a place in the log", text))
}

fn strange(what: &str, text: &str) -> StoreError {
    StoreError::new(ErrorKind::Incompatible, format!("{LOOKING}: the server gave `{text}` for {what}"))
}

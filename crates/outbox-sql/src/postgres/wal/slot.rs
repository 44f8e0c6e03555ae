//! The replication slot: what makes the server keep its log until we have read it. One for all routes.

use std::time::Duration;

use outbox::{ErrorKind, StoreError};
use tokio_postgres::types::Type;

use super::{
    ROUND,
    look::{Beside, read_snapshot},
    replication::{Replication, identifier, literal},
};
use crate::postgres::position::Snapshot;

const LOOKING: &str = "looking at the replication slot";
const DROPPING: &str = "dropping the replication slot";
/// For so many rounds a slot that is being made may not be there: before it is begun, and once it is done.
const PATIENCE: u32 = 30;

/// What the server says of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// There is none of this name.
    Missing,
    /// The server has thrown away log that it held, as `max_slot_wal_keep_size` bids, or a standby's promotion.
    Lost,
    /// Somebody reads it.
    Busy { pid: i32 },
    /// It can be read.
    Ready,
}

/// How much log is kept, and for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// For the slot, in bytes.
    pub(super) whole: u64,
    /// Of that, what was not confirmed.
    pub(super) unconfirmed: u64,
}

/// Looks at slot `name`, and at how much it holds.
///
/// # Errors
/// [`ErrorKind::Invalid`] if it is of another kind or of another database; otherwise as the server says.
pub(super) async fn look(beside: &Beside, name: &str) -> Result<(Slot, Held), StoreError> {
    const SQL: &str = "SELECT s.plugin = 'pgoutput' AND s.database = current_database() AND NOT s.two_phase, \
        s.wal_status = 'lost' OR s.restart_lsn IS NULL, s.active_pid, \
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.restart_lsn)::bigint, \
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.confirmed_flush_lsn)::bigint \
        FROM pg_replication_slots AS s WHERE s.slot_name = $1";
    type Columns = (Option<bool>, bool, Option<i32>, Option<i64>, Option<i64>);
    let client = beside.connection().client().await?;
    let limit = client.limit();
    let statement = async {
        let row = client.query_typed_opt(SQL, &[(&name, Type::TEXT)]).await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?)))
            .transpose()
    };
    let found: Option<Columns> = limit.within(LOOKING, statement).await?;
    let Some((ours, lost, pid, whole, unconfirmed)) = found else { return Ok((Slot::Missing, Held::default())) };
    if ours != Some(true) {
        let message = format!(
            "the replication slot `{name}` is not one of pgoutput in this database: choose another name for ours, or run SELECT pg_drop_replication_slot({}); if nobody needs it",
            literal(name)
        );
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    let bytes = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    let held = Held { whole: bytes(whole), unconfirmed: bytes(unconfirmed) };
    let slot = match (lost, pid) {
        (true, _) => Slot::Lost,
        (false, Some(pid)) => Slot::Busy { pid },
        (false, None) => Slot::Ready,
    };
    Ok((slot, held))
}

/// The name that a slot has while it is being made.
pub(super) fn unfinished(name: &str) -> String {
    format!("{name}_new")
}

/// Makes slot `name`. Waits for every transaction that is under way to end, but not for a server that makes no slot any more:
/// that this session's connection is dead is noticed by nobody else, for the server says nothing while it waits.
///
/// # Errors
/// As the server says; [`ErrorKind::Unavailable`] if it does not make the slot.
pub(super) async fn make(beside: &Beside, session: &mut Replication, name: &str) -> Result<(), StoreError> {
    tokio::select! {
        made = make_in(session, name) => made,
        error = given_up(beside, name) => Err(error),
    }
}

/// Waits until the slot that is being made has not been there for a while.
async fn given_up(beside: &Beside, name: &str) -> StoreError {
    let mut missing = 0;
    while missing < PATIENCE {
        tokio::time::sleep(ROUND).await;
        let found = look(beside, &unfinished(name)).await;
        missing = if found.is_ok_and(|(slot, _)| slot != Slot::Missing) { 0 } else { missing + 1 };
    }
    let message =
        format!("making the replication slot `{name}`: the server does not do so any more; it is tried again");
    StoreError::new(ErrorKind::Unavailable, message)
}

/// The same, as long as the server takes.
///
/// What had committed before the slot's first place in the log is seen by every snapshot from then on: so reading in the
/// table up to any of them, and then from the slot, leaves nothing out. A commit is in the log a moment before it can be
/// seen, and for long where it waits for a standby; so the slot is not made before all of that is over.
///
/// # Errors
/// As the server says.
async fn make_in(session: &mut Replication, name: &str) -> Result<(), StoreError> {
    const WAIT: Duration = Duration::from_millis(20);
    let making = |error: StoreError| error.context(&format!("making the replication slot `{name}`"));
    // Gone when this session ends, however it ends.
    let first = unfinished(name);
    let begun = async {
        session.query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ").await?;
        let command =
            format!("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'use')", identifier(&first));
        session.query_patiently(&command).await?;
        let seen = snapshot(session).await?;
        session.query("COMMIT").await?;
        Ok(seen)
    };
    let committed = begun.await.map_err(making)?;
    while !snapshot(session).await.map_err(making)?.sees_all_of(&committed) {
        tokio::time::sleep(WAIT).await;
    }
    let sql = format!(
        "SELECT pg_copy_logical_replication_slot({}, {}, false)::text; SELECT pg_drop_replication_slot({})::text",
        literal(&first),
        literal(name),
        literal(&first)
    );
    session.query(&sql).await.map_err(making)?;
    Ok(())
}

async fn snapshot(session: &mut Replication) -> Result<Snapshot, StoreError> {
    let rows = session.query("SELECT pg_current_snapshot()::text").await?;
    let text = rows.into_iter().flatten().flatten().next().unwrap_or_default();
    read_snapshot(&text)
}

/// Drops slot `name`, if it is there.
///
/// # Errors
/// [`ErrorKind::Unavailable`] if somebody reads it; otherwise as the server says.
pub(super) async fn drop(beside: &Beside, name: &str) -> Result<(), StoreError> {
    const SQL: &str =
        "SELECT pg_drop_replication_slot(s.slot_name)::text FROM pg_replication_slots AS s WHERE s.slot_name = $1";
    let client = beside.connection().client().await?;
    let limit = client.limit();
    limit.within(DROPPING, client.query_typed(SQL, &[(&name, Type::TEXT)])).await?;
    Ok(())
}

/// The oldest transaction that is open, for which log is kept whatever is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its number.
    pub xid: u64,
    /// The session's process, if it is one.
    pub pid: Option<i32>,
    /// Its name, if it is a prepared transaction.
    pub gid: Option<String>,
}

/// As it is told: who it is, and what to run against it.
impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.gid, self.pid) {
            (Some(gid), _) => {
                let gid = literal(gid);
                write!(f, "the prepared transaction {gid} (COMMIT PREPARED {gid} or ROLLBACK PREPARED {gid} ends it)")
            }
            (None, Some(pid)) => {
                write!(
                    f,
                    "the open transaction {} of process {pid} (SELECT pg_terminate_backend({pid}) ends it)",
                    self.xid
                )
            }
            (None, None) => write!(f, "the open transaction {}", self.xid),
        }
    }
}

/// Who keeps the log from being let go of; `None` if no transaction is open.
///
/// # Errors
/// As the server says.
pub(super) async fn pin(beside: &Beside) -> Result<Option<Pin>, StoreError> {
    const SQL: &str = "SELECT x.oldest::text, \
        (SELECT l.pid FROM pg_locks AS l WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock' \
            AND l.transactionid = x.oldest::xid AND l.pid IS NOT NULL LIMIT 1), \
        (SELECT p.gid FROM pg_prepared_xacts AS p WHERE p.transaction = x.oldest::xid LIMIT 1) \
        FROM (SELECT pg_snapshot_xmin(s) AS oldest, pg_snapshot_xmax(s) AS next FROM pg_current_snapshot() AS s) AS x \
        WHERE x.oldest < x.next";
    let client = beside.connection().client().await?;
    let limit = client.limit();
    let statement = async {
        let row = client.query_typed_opt(SQL, &[]).await?;
        row.map(|row| Ok((row.try_get::<_, String>(0)?, row.try_get(1)?, row.try_get(2)?))).transpose()
    };
    let found = limit.within(LOOKING, statement).await?;
    Ok(found.map(|(xid, pid, gid)| Pin { xid: xid.parse().unwrap_or_default(), pid, gid }))
}

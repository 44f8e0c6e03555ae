//! Replication slots that nobody reads: for each the server keeps its log, until the disk is full.

use std::fmt;

use outbox::StoreError;
use tokio_postgres::types::Type;

use super::{WalSettings, replication::literal};
use crate::postgres::{
    connection::{ConnectOptions, connect},
    failure::store_error,
    schema,
};

/// A slot of this database that nobody reads just now, and that is none of a relay's with these settings: left behind where
/// the way of reading was changed, or the slot's name, or another program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadSlot {
    /// Its name.
    pub name: String,
    /// How many bytes of log the server keeps for it.
    pub held_bytes: u64,
}

/// As it is told, with what to run.
impl fmt::Display for UnreadSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, held_bytes } = self;
        write!(
            f,
            "nobody reads the replication slot `{name}`, for which the server keeps {held_bytes} bytes of log, and more until its \
             disk is full: unless another program is going to read it, run SELECT pg_drop_replication_slot({});",
            literal(name)
        )
    }
}

/// The slots that are read neither now nor by a relay with `settings`, which are `None` where it polls. It has no use for one:
/// whoever reads the log again makes another, and reads in the table what came before.
///
/// # Errors
/// As connecting gives them; otherwise as the server says.
pub async fn unread_slots(
    options: &ConnectOptions,
    settings: Option<&WalSettings>,
) -> Result<Vec<UnreadSlot>, StoreError> {
    const LOOKING: &str = "looking for replication slots that nobody reads";
    const SQL: &str = "SELECT s.slot_name::text, \
        coalesce(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.restart_lsn), 0)::bigint \
        FROM pg_replication_slots AS s WHERE s.database = current_database() AND s.plugin = 'pgoutput' \
        AND NOT s.active AND NOT s.temporary AND s.slot_name <> $1 ORDER BY 1";
    let client = connect(options).await?;
    let used = match settings {
        None => String::new(),
        Some(WalSettings { slot: Some(name), .. }) => name.clone(),
        Some(WalSettings { slot: None, .. }) => own_slot(&schema::check(&client).await?.store_id),
    };
    let rows = client.query_typed(SQL, &[(&used, Type::TEXT)]).await.map_err(store_error(LOOKING))?;
    let slot = |row: tokio_postgres::Row| {
        let held: i64 = row.try_get(1)?;
        Ok(UnreadSlot { name: row.try_get(0)?, held_bytes: held.unsigned_abs() })
    };
    rows.into_iter().map(slot).collect::<Result<_, tokio_postgres::Error>>().map_err(store_error(LOOKING))
}

/// The name of a store's slot, unless another one is chosen.
pub(super) fn own_slot(store_id: &str) -> String {
    format!("outbox_{store_id}")
}

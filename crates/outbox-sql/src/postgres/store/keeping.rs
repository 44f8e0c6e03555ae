//! Leaves are made ahead of need, and empty shells dropped when it is quiet, for as long as this process has the claim.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use outbox::StoreError;
use tokio_postgres::{Client, error::SqlState, types::Type};

use super::{Inner, locked};
use crate::postgres::{
    connection::{StatementLimit, query_read_committed},
    source::Param,
};

/// How often to look whether a leaf is needed.
const ROUND: Duration = Duration::from_secs(60);
/// Leaves that are made or dropped in one round at most.
const MOST: usize = 8;
const KEEPING: &str = "making leaves for new entries";

/// Begins to keep the leaves of `store`, unless somebody does. Ends with the store, or with its claim.
pub(super) fn begin(store: &Arc<Inner>) {
    if std::mem::replace(&mut *locked(&store.is_kept), true) {
        return;
    }
    let weak = Arc::downgrade(store);
    tokio::spawn(async move {
        while let Some(store) = Weak::upgrade(&weak) {
            match store.keep_leaves().await {
                Ok(true) => {}
                Ok(false) => {
                    *locked(&store.is_kept) = false;
                    return;
                }
                Err(error) => tracing::warn!(%error, "leaves for new entries could not be made; trying again later"),
            }
            drop(store);
            tokio::time::sleep(ROUND).await;
        }
    });
}

impl Inner {
    /// Makes the leaves that are needed, and drops some that are not. Tells whether the claim is still ours.
    async fn keep_leaves(&self) -> Result<bool, StoreError> {
        let Some(claim) = locked(&self.claimed).clone() else { return Ok(false) };
        let latest = self.identity().await?.claim;
        if latest.is_none_or(|latest| latest.nonce != claim.nonce) {
            return Ok(false);
        }
        let span = i64::try_from(self.settings.leaf_span.as_secs()).unwrap_or(i64::MAX);
        let make = "SELECT outbox.make_leaf(make_interval(secs => $1))";
        #[expect(clippy::cast_precision_loss, reason = "seconds, of which there are few")]
        let span = span as f64;
        let client = self.leaves.client().await?;
        // It may look through a default leaf that has grown large.
        let limit = client.limit().for_many_rows();
        while_done(&client, &limit, make, &[(&span, Type::FLOAT8)]).await?;
        while_done(&client, &limit, "SELECT outbox.drop_leaf()", &[]).await?;
        Ok(true)
    }
}

/// Calls a function until it gives no leaf's name.
async fn while_done(
    client: &Client,
    limit: &StatementLimit,
    sql: &str,
    params: &[Param<'_>],
) -> Result<(), StoreError> {
    for _ in 0..MOST {
        let call = async {
            match query_read_committed(client, sql, params).await {
                Ok(row) => row.try_get::<_, Option<String>>(0),
                // A writer has the table: it goes first.
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let Some(leaf) = limit.within(KEEPING, call).await? else { return Ok(()) };
        tracing::debug!(%leaf, "a leaf of the entries was made or dropped");
    }
    Ok(())
}

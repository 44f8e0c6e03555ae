//! Which lanes wait for their cause.

use outbox::{StoreError, inbox_store::LaneId};
use tokio_postgres::types::Type;

use super::{
    lanes,
    tx::{Param, PostgresTx},
};

pub(super) async fn begin(tx: &mut PostgresTx<'_>, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError> {
    let (cause_producer, producer) = (tx.producer(&cause.producer).await?, tx.producer(&waiter.producer).await?);
    tx.query(
        "noting that an event waits for its cause",
        "INSERT INTO outbox_inbox.waits (producer, lane, cause_producer, cause_lane) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (producer, lane) DO UPDATE \
         SET cause_producer = excluded.cause_producer, cause_lane = excluded.cause_lane",
        &[
            (&producer, Type::INT8),
            (&waiter.lane.to_text(), Type::TEXT),
            (&cause_producer, Type::INT8),
            (&cause.lane.to_text(), Type::TEXT),
        ],
    )
    .await
    .map(drop)
}

pub(super) async fn end(tx: &mut PostgresTx<'_>, waiter: &LaneId) -> Result<(), StoreError> {
    let producer = tx.producer(&waiter.producer).await?;
    let sql = "DELETE FROM outbox_inbox.waits WHERE producer = $1 AND lane = $2";
    let params: [Param<'_>; 2] = [(&producer, Type::INT8), (&waiter.lane.to_text(), Type::TEXT)];
    tx.query("noting that an event waits no longer", sql, &params).await.map(drop)
}

pub(super) async fn of_cause(tx: &mut PostgresTx<'_>, cause: &LaneId) -> Result<Vec<LaneId>, StoreError> {
    let producer = tx.producer(&cause.producer).await?;
    let mut waiters = lanes::read_lanes(
        tx,
        "SELECT p.producer, w.lane FROM outbox_inbox.waits w JOIN outbox_inbox.producers p ON p.id = w.producer \
         WHERE w.cause_producer = $1 AND w.cause_lane = $2",
        &[(&producer, Type::INT8), (&cause.lane.to_text(), Type::TEXT)],
    )
    .await?;
    waiters.sort();
    Ok(waiters)
}

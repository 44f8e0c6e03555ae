//! Which lanes wait for their cause.

use outbox::{StoreError, inbox_store::LaneId};
use tokio_postgres::types::Type;

use super::{driver::Driver, lanes, tx::PostgresTx, unsent::Later};

pub(super) async fn begin(
    tx: &mut PostgresTx<'_, impl Driver>,
    cause: &LaneId,
    waiter: &LaneId,
) -> Result<(), StoreError> {
    let (cause_producer, producer) = (tx.producer(&cause.producer).await?, tx.producer(&waiter.producer).await?);
    tx.unsent().later(Later {
        attempted: "noting that an event waits for its cause",
        sql: "INSERT INTO outbox_inbox.waits (producer, lane, cause_producer, cause_lane) VALUES ($1, $2, $3, $4) \
              ON CONFLICT (producer, lane) DO UPDATE \
              SET cause_producer = excluded.cause_producer, cause_lane = excluded.cause_lane",
        params: vec![
            (Box::new(producer), Type::INT8),
            (Box::new(waiter.lane.to_text()), Type::TEXT),
            (Box::new(cause_producer), Type::INT8),
            (Box::new(cause.lane.to_text()), Type::TEXT),
        ],
    });
    Ok(())
}

pub(super) async fn end(tx: &mut PostgresTx<'_, impl Driver>, waiter: &LaneId) -> Result<(), StoreError> {
    let producer = tx.producer(&waiter.producer).await?;
    tx.unsent().later(Later {
        attempted: "noting that an event waits no longer",
        sql: "DELETE FROM outbox_inbox.waits WHERE producer = $1 AND lane = $2",
        params: vec![(Box::new(producer), Type::INT8), (Box::new(waiter.lane.to_text()), Type::TEXT)],
    });
    Ok(())
}

pub(super) async fn of_causes(
    tx: &mut PostgresTx<'_, impl Driver>,
    causes: &[LaneId],
) -> Result<Vec<LaneId>, StoreError> {
    let mut producers = Vec::with_capacity(causes.len());
    for cause in causes {
        producers.push(tx.producer(&cause.producer).await?);
    }
    let lanes: Vec<_> = causes.iter().map(|cause| cause.lane.to_text()).collect();
    let mut waiters = lanes::read_lanes(
        tx,
        "SELECT p.producer, w.lane FROM unnest($1, $2) AS cause (producer, lane) \
         JOIN outbox_inbox.waits w ON w.cause_producer = cause.producer AND w.cause_lane = cause.lane \
         JOIN outbox_inbox.producers p ON p.id = w.producer",
        &[(&producers, Type::INT8_ARRAY), (&lanes, Type::TEXT_ARRAY)],
    )
    .await?;
    waiters.sort();
    Ok(waiters)
}

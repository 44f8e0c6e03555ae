//! Remembered ids of events, and whether their events are done with.

use std::collections::HashSet;

use jiff::Timestamp;
use outbox::{
    StoreError,
    inbox_store::{EventId, PurgedIds},
};
use tokio_postgres::types::Type;

use super::{
    driver::{Driver, column},
    tx::{PostgresTx, micros},
};

/// Says of each id whether it is new.
pub(super) async fn remember(
    tx: &mut PostgresTx<'_, impl Driver>,
    ids: &[EventId],
    expires: Timestamp,
    done: bool,
) -> Result<Vec<bool>, StoreError> {
    let mut producers = Vec::with_capacity(ids.len());
    for id in ids {
        producers.push(tx.producer(&id.producer).await?);
    }
    let texts: Vec<_> = ids.iter().map(|id| &*id.id).collect();
    // In an order that is everybody's: an id that another transaction remembers at this moment is waited for.
    let rows = tx
        .query(
            "remembering the ids of events",
            "INSERT INTO outbox_inbox.ids (producer, id, expires, done) \
             SELECT producer, id, $3, $4 FROM unnest($1, $2) AS come (producer, id) ORDER BY producer, id COLLATE \"C\" \
             ON CONFLICT DO NOTHING RETURNING producer, id",
            &[
                (&producers, Type::INT8_ARRAY),
                (&texts, Type::TEXT_ARRAY),
                (&micros(expires), Type::INT8),
                (&done, Type::BOOL),
            ],
        )
        .await?;
    let mut new = HashSet::with_capacity(rows.len());
    for row in &rows {
        new.insert((column::<i64>(row, 0)?, column::<&str>(row, 1)?));
    }
    // Of an id that comes twice in one batch the first is new.
    Ok(producers.into_iter().zip(texts).map(|id| new.remove(&id)).collect())
}

pub(super) async fn set_done(tx: &mut PostgresTx<'_, impl Driver>, id: &EventId, done: bool) -> Result<(), StoreError> {
    let producer = tx.producer(&id.producer).await?;
    tx.unsent().set_done(producer, &id.id, done);
    Ok(())
}

pub(super) async fn are_done(tx: &mut PostgresTx<'_, impl Driver>, ids: &[EventId]) -> Result<Vec<bool>, StoreError> {
    let mut producers = Vec::with_capacity(ids.len());
    for id in ids {
        producers.push(tx.producer(&id.producer).await?);
    }
    let texts: Vec<_> = ids.iter().map(|id| &*id.id).collect();
    let rows = tx
        .query(
            "looking for the ids of events",
            "SELECT outbox_inbox.are_done($1, $2)",
            &[(&producers, Type::INT8_ARRAY), (&texts, Type::TEXT_ARRAY)],
        )
        .await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

/// Forgets some that expired.
pub(super) async fn purge(
    tx: &mut PostgresTx<'_, impl Driver>,
    now: Timestamp,
    after: u64,
    most: i64,
) -> Result<PurgedIds, StoreError> {
    // By the numbers that ids were given as they came: no index on the expiry, which every event would have to pay for.
    let rows = tx
        .query(
            "forgetting ids that expired",
            "WITH looked AS (SELECT n FROM outbox_inbox.ids WHERE n > $1 ORDER BY n LIMIT $2), \
             gone AS (DELETE FROM outbox_inbox.ids WHERE n > $1 AND n <= (SELECT max(n) FROM looked) \
             AND done AND expires <= $3 RETURNING n) \
             SELECT (SELECT max(n) FROM looked), (SELECT count(*) FROM gone)",
            &[(&after.cast_signed(), Type::INT8), (&most, Type::INT8), (&micros(now), Type::INT8)],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(PurgedIds::default()) };
    let forgotten = column::<i64>(row, 1)?.cast_unsigned();
    Ok(PurgedIds { forgotten, after: column::<Option<i64>>(row, 0)?.map(i64::cast_unsigned) })
}

/// Forgets what is known of a producer, but for what is kept.
pub(super) async fn forget(tx: &mut PostgresTx<'_, impl Driver>, producer: &str) -> Result<u64, StoreError> {
    let producer = tx.producer(&producer.into()).await?;
    // A key that was only looked at has a row, too, which counts for nothing.
    let rows = tx
        .query(
            "forgetting a producer's marks",
            "WITH troubled AS (SELECT lane FROM outbox_inbox.troubles WHERE producer = $1), \
             marks AS (DELETE FROM outbox_inbox.marks WHERE producer = $1 \
             AND lane NOT IN (SELECT lane FROM troubled) RETURNING sequence, life), \
             held AS (UPDATE outbox_inbox.marks SET incarnation = 0, sequence = 0, idx = 0, life = 0 \
             WHERE producer = $1 AND sequence > 0 AND lane IN (SELECT lane FROM troubled) RETURNING 1), \
             ids AS (DELETE FROM outbox_inbox.ids WHERE producer = $1 AND done RETURNING 1) \
             SELECT (SELECT count(*) FROM marks WHERE sequence > 0 OR life > 0) + (SELECT count(*) FROM held) \
             + (SELECT count(*) FROM ids)",
            &[(&producer, Type::INT8)],
        )
        .await?;
    rows.first().map_or(Ok(0), |row| column::<i64>(row, 0).map(i64::cast_unsigned))
}

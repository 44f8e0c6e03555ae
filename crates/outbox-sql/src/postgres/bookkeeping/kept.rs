//! Lanes in trouble, and the events kept in them.
//!
//! A lane in trouble is one row with its count of kept events, and its lock is the lane's. Parking behind it and releasing it
//! exclude each other, so no event is stranded whichever comes first.

use outbox::{
    PartitionId, RouteName, StoreError,
    bookkeeping::{Apart, Keep, KeepOutcome, Kept, KeptCounts, Lane, Lease, SettleOutcome, Settlement, Trouble},
};
use tokio_postgres::types::Type;

use super::{
    books::{Books, column},
    codec::{self, Encoded, StoredFront, limit, number},
};

const READING: &str = "reading kept events";

pub(super) async fn keep(
    books: &Books,
    lease: &Lease,
    route: &RouteName,
    partition: &PartitionId,
    keep: &Keep,
) -> Result<KeepOutcome, StoreError> {
    let (events, front) = (Encoded::of(&keep.events), StoredFront::of(keep.front.as_ref()));
    let rows = books
        .fenced(
            "keeping events",
            lease,
            "SELECT outbox_relay.keep($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            &[
                (&route.as_str(), Type::TEXT),
                (&keep.lane.to_text(), Type::TEXT),
                (&partition.as_str(), Type::TEXT),
                (&front.state, Type::TEXT),
                (&front.due, Type::TEXT),
                (&front.discard_reason, Type::TEXT),
                (&front.attempts, Type::INT8),
                (&front.failed_since, Type::TEXT),
                (&front.reason, Type::TEXT),
                (&events.ids, Type::TEXT_ARRAY),
                (&events.positions, Type::TEXT_ARRAY),
                (&events.indexes, Type::INT8_ARRAY),
                (&events.keys, Type::TEXT_ARRAY),
                (&events.kinds, Type::TEXT_ARRAY),
                (&events.contents, Type::BYTEA_ARRAY),
                (&events.undecodables, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    let generation: Option<i64> = rows.first().map(|row| column(row, 0)).transpose()?.flatten();
    Ok(generation
        .map_or(KeepOutcome::KeyFree, |generation| KeepOutcome::Stored { generation: generation.unsigned_abs() }))
}

pub(super) async fn settle(
    books: &Books,
    lease: &Lease,
    route: &RouteName,
    settlement: &Settlement,
) -> Result<SettleOutcome, StoreError> {
    let front = StoredFront::of(settlement.front.as_ref());
    let apart = settlement.apart.as_ref().map(|apart| apart.lane.to_text());
    let dead = StoredFront::of(settlement.apart.as_ref().map(Apart::front).as_ref());
    let remove: Vec<_> = settlement.remove.iter().map(|id| number(id.0)).collect();
    let rows = books
        .fenced(
            "settling kept events",
            lease,
            "SELECT outbox_relay.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
             $16, $17, $18)",
            &[
                (&route.as_str(), Type::TEXT),
                (&settlement.lane.to_text(), Type::TEXT),
                (&number(settlement.generation), Type::INT8),
                (&remove, Type::INT8_ARRAY),
                (&settlement.discarded, Type::BOOL),
                (&front.state, Type::TEXT),
                (&front.due, Type::TEXT),
                (&front.discard_reason, Type::TEXT),
                (&front.attempts, Type::INT8),
                (&front.failed_since, Type::TEXT),
                (&front.reason, Type::TEXT),
                (&apart, Type::TEXT),
                (&dead.attempts, Type::INT8),
                (&dead.failed_since, Type::TEXT),
                (&dead.reason, Type::TEXT),
            ],
        )
        .await?;
    let left: Option<i64> = rows.first().map(|row| column(row, 0)).transpose()?.flatten();
    Ok(match left {
        None => SettleOutcome::Changed,
        Some(0) => SettleOutcome::Released,
        Some(left) => SettleOutcome::Left(left.unsigned_abs()),
    })
}

/// Lanes with a key first, each kind in the order of its text. Each kind is a range of the primary key of its own, so that a
/// page costs what is on it.
pub(super) async fn troubles(
    books: &Books,
    route: &RouteName,
    after: Option<&Lane>,
    most: usize,
) -> Result<Vec<Trouble>, StoreError> {
    // Every lane with a key lies between `k` and `k;`, every other between `e` and `e;`.
    let (keys, events) = match after {
        None => ("k".to_owned(), "e".to_owned()),
        Some(lane @ Lane::Key(_)) => (lane.to_text(), "e".to_owned()),
        Some(lane @ Lane::Event(_)) => ("k;".to_owned(), lane.to_text()),
    };
    let range = |after: &str, end: &str| {
        format!(
            "(SELECT {} FROM outbox_relay.troubles WHERE route = $1 AND lane > {after} AND lane < '{end}' \
             ORDER BY lane LIMIT $4)",
            codec::TROUBLE
        )
    };
    let sql = format!(
        "SELECT * FROM ({} UNION ALL {}) AS page ORDER BY lane < 'k', lane LIMIT $4",
        range("$2", "k;"),
        range("$3", "e;")
    );
    let rows = books
        .read(
            READING,
            &sql,
            &[(&route.as_str(), Type::TEXT), (&keys, Type::TEXT), (&events, Type::TEXT), (&limit(most), Type::INT8)],
        )
        .await?;
    rows.iter().map(codec::trouble).collect()
}

pub(super) async fn trouble(books: &Books, route: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
    let sql = format!("SELECT {} FROM outbox_relay.troubles WHERE route = $1 AND lane = $2", codec::TROUBLE);
    let params: [super::connection::Param<'_>; 2] = [(&route.as_str(), Type::TEXT), (&lane.to_text(), Type::TEXT)];
    books.read(READING, &sql, &params).await?.first().map(codec::trouble).transpose()
}

pub(super) async fn kept(books: &Books, route: &RouteName, lane: &Lane, most: usize) -> Result<Vec<Kept>, StoreError> {
    let sql =
        format!("SELECT {} FROM outbox_relay.kept WHERE route = $1 AND lane = $2 ORDER BY id LIMIT $3", codec::KEPT);
    let rows = books
        .read(
            READING,
            &sql,
            &[(&route.as_str(), Type::TEXT), (&lane.to_text(), Type::TEXT), (&limit(most), Type::INT8)],
        )
        .await?;
    rows.iter().map(|row| codec::kept(row, 0)).collect()
}

pub(super) async fn counts(books: &Books, route: &RouteName) -> Result<KeptCounts, StoreError> {
    let rows = books
        .read(
            "counting kept events",
            "SELECT count(*) FILTER (WHERE state = 'retrying'), count(*) FILTER (WHERE state = 'dead'), \
             coalesce(sum(kept - 1), 0)::bigint, count(*) FROM outbox_relay.troubles WHERE route = $1",
            &[(&route.as_str(), Type::TEXT)],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(KeptCounts::default()) };
    let count = |number| column::<i64>(row, number).map(i64::unsigned_abs);
    Ok(KeptCounts { retrying: count(0)?, dead: count(1)?, parked: count(2)?, lanes: count(3)? })
}

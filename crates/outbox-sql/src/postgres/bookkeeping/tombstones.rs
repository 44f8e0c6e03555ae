//! Discarded events that a restart may read again.

use outbox::{
    RouteName, StoreError,
    bookkeeping::{Lease, Tombstone},
};
use tokio_postgres::types::Type;

use super::{books::Books, codec};

pub(super) async fn of_route(books: &Books, route: &RouteName) -> Result<Vec<Tombstone>, StoreError> {
    let rows = books
        .read(
            "reading tombstones",
            "SELECT event_id, partition, position FROM outbox_relay.tombstones WHERE route = $1 ORDER BY event_id",
            &[(&route.as_str(), Type::TEXT)],
        )
        .await?;
    rows.iter().map(codec::tombstone).collect()
}

pub(super) async fn forget(
    books: &Books,
    lease: &Lease,
    route: &RouteName,
    passed: &[Tombstone],
) -> Result<(), StoreError> {
    let ids: Vec<&str> = passed.iter().map(|(id, ..)| &**id).collect();
    let partitions: Vec<_> = passed.iter().map(|(_, partition, _)| partition.as_str()).collect();
    let positions: Vec<_> = passed.iter().map(|(_, _, position)| position.as_str()).collect();
    books
        .fenced(
            "forgetting tombstones",
            lease,
            "SELECT outbox_relay.forget_tombstones($1, $2, $3, $4, $5, $6, $7)",
            &[
                (&route.as_str(), Type::TEXT),
                (&ids, Type::TEXT_ARRAY),
                (&partitions, Type::TEXT_ARRAY),
                (&positions, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map(drop)
}

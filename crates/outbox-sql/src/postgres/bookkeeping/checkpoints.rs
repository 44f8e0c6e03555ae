//! Checkpoints: how far each route is in each partition; and witnesses, what each route read, as proof of which history it
//! has seen.

use outbox::{
    CommitId, ErrorKind, PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Checkpoint, Lease},
    store::Witness,
};
use tokio_postgres::types::Type;

use super::books::{Books, column};

pub(super) async fn of_route(books: &Books, route: &RouteName) -> Result<Vec<Checkpoint>, StoreError> {
    let rows = books
        .read(
            "reading checkpoints",
            "SELECT partition, position, finished FROM outbox_relay.checkpoints WHERE route = $1 ORDER BY partition",
            &[(&route.as_str(), Type::TEXT)],
        )
        .await?;
    let checkpoint = |row| {
        Ok(Checkpoint {
            partition: PartitionId::new(column::<&str>(row, 0)?),
            position: Position::new(column::<&str>(row, 1)?),
            finished: column(row, 2)?,
        })
    };
    rows.iter().map(checkpoint).collect()
}

/// Every name that has one.
pub(super) async fn routes(books: &Books) -> Result<Vec<RouteName>, StoreError> {
    let rows = books
        .read(
            "reading whose checkpoints there are",
            "SELECT DISTINCT route FROM outbox_relay.checkpoints ORDER BY route",
            &[],
        )
        .await?;
    rows.iter().map(|row| Ok(RouteName::stored(column(row, 0)?))).collect()
}

pub(super) async fn store(
    books: &Books,
    lease: &Lease,
    route: &RouteName,
    checkpoint: &Checkpoint,
    witness: Option<&Witness>,
) -> Result<(), StoreError> {
    let witness_position = witness.map(|witness| witness.position.as_str());
    let witness_commit = witness.map(|witness| &witness.commit.0[..]);
    books
        .fenced(
            "storing a checkpoint",
            lease,
            "SELECT outbox_relay.checkpoint($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                (&route.as_str(), Type::TEXT),
                (&checkpoint.partition.as_str(), Type::TEXT),
                (&checkpoint.position.as_str(), Type::TEXT),
                (&checkpoint.finished, Type::BOOL),
                (&witness_position, Type::TEXT),
                (&witness_commit, Type::BYTEA),
            ],
        )
        .await
        .map(drop)
}

/// Sets a checkpoint whatever it was, and forgets what the route read behind it.
pub(super) async fn reset(books: &Books, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    books
        .change(
            "resetting a checkpoint",
            "SELECT outbox_relay.reset_checkpoint($1, $2, $3, $4)",
            &[
                (&route.as_str(), Type::TEXT),
                (&checkpoint.partition.as_str(), Type::TEXT),
                (&checkpoint.position.as_str(), Type::TEXT),
                (&checkpoint.finished, Type::BOOL),
            ],
        )
        .await
        .map(drop)
}

/// Forgets the route's checkpoints in `partitions`, and all that is only of use with them.
pub(super) async fn forget(
    books: &Books,
    lease: &Lease,
    route: &RouteName,
    partitions: &[PartitionId],
) -> Result<(), StoreError> {
    let partitions: Vec<_> = partitions.iter().map(PartitionId::as_str).collect();
    books
        .fenced(
            "forgetting checkpoints",
            lease,
            "SELECT outbox_relay.forget_checkpoints($1, $2, $3, $4, $5)",
            &[(&route.as_str(), Type::TEXT), (&partitions, Type::TEXT_ARRAY)],
        )
        .await
        .map(drop)
}

/// What all routes read of a partition, newest first, each once.
pub(super) async fn witnesses(books: &Books, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
    let rows = books
        .read(
            "reading witnesses",
            "SELECT position, commit_id FROM outbox_relay.witnesses WHERE partition = $1 \
             GROUP BY position, commit_id ORDER BY max(id) DESC",
            &[(&partition.as_str(), Type::TEXT)],
        )
        .await?;
    let witness = |row| {
        let commit = <[u8; 16]>::try_from(column::<&[u8]>(row, 1)?).map_err(|error| {
            let message = "a witness in the bookkeeping is damaged: restore it from a backup, then run `outbox adopt`";
            StoreError::new(ErrorKind::Invalid, message).because(error)
        })?;
        Ok(Witness { position: Position::new(column::<&str>(row, 0)?), commit: CommitId(commit) })
    };
    rows.iter().map(witness).collect()
}

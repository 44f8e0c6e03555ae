//! Claims of the business database, as noted before they were made.

use outbox::{StoreError, bookkeeping::Lease, store::Claim};
use tokio_postgres::types::Type;

use super::{
    books::{Books, column},
    codec::number,
};

pub(super) async fn noted(books: &Books, lease: &str) -> Result<Vec<Claim>, StoreError> {
    let rows = books
        .read(
            "reading the claims",
            "SELECT bookkeeping.id, claims.epoch, claims.nonce \
             FROM outbox_relay.claims CROSS JOIN outbox_relay.bookkeeping \
             WHERE claims.lease = $1 ORDER BY claims.epoch, claims.nonce",
            &[(&lease, Type::TEXT)],
        )
        .await?;
    let claim = |row| {
        let epoch = column::<i64>(row, 1)?.unsigned_abs();
        Ok(Claim { bookkeeping: column(row, 0)?, epoch, nonce: column(row, 2)? })
    };
    rows.iter().map(claim).collect()
}

pub(super) async fn note(books: &Books, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
    let epochs: Vec<_> = claims.iter().map(|claim| number(claim.epoch)).collect();
    let nonces: Vec<_> = claims.iter().map(|claim| claim.nonce.as_str()).collect();
    books
        .fenced(
            "noting a claim",
            lease,
            "SELECT outbox_relay.note_claims($1, $2, $3, $4, $5)",
            &[(&epochs, Type::INT8_ARRAY), (&nonces, Type::TEXT_ARRAY)],
        )
        .await
        .map(drop)
}

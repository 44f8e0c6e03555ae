//! Leases. The fence that every write of their holders passes is the function `fence` of the schema.

use std::time::Duration;

use outbox::{
    StoreError,
    bookkeeping::{Lease, LeaseView},
};
use tokio_postgres::types::Type;

use super::{
    books::{Books, column},
    codec::number,
};

pub(super) async fn view(books: &Books, name: &str) -> Result<LeaseView, StoreError> {
    let rows = books
        .read(
            "reading a lease",
            "SELECT epoch, beat, released, holder, duration_us FROM outbox_relay.leases WHERE name = $1",
            &[(&name, Type::TEXT)],
        )
        .await?;
    // One that nobody ever held can be taken at once.
    let Some(row) = rows.first() else {
        return Ok(LeaseView { epoch: 0, beat: 0, released: true, holder: String::new(), duration: Duration::ZERO });
    };
    Ok(LeaseView {
        epoch: column::<i64>(row, 0)?.unsigned_abs(),
        beat: column::<i64>(row, 1)?.unsigned_abs(),
        released: column(row, 2)?,
        holder: column(row, 3)?,
        duration: Duration::from_micros(column::<i64>(row, 4)?.unsigned_abs()),
    })
}

/// Takes the lease if it is as `seen`.
pub(super) async fn take(
    books: &Books,
    name: &str,
    seen: &LeaseView,
    holder: &str,
    duration: Duration,
) -> Result<Option<Lease>, StoreError> {
    let (epoch, beat) = (number(seen.epoch), number(seen.beat));
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let rows = books
        .beside(
            "taking a lease",
            "SELECT outbox_relay.take($1, $2, $3, $4, $5, $6)",
            &[
                (&name, Type::TEXT),
                (&epoch, Type::INT8),
                (&beat, Type::INT8),
                (&seen.released, Type::BOOL),
                (&holder, Type::TEXT),
                (&micros, Type::INT8),
            ],
        )
        .await?;
    let taken = rows.first().map(|row| column::<Option<i64>>(row, 0)).transpose()?.flatten();
    Ok(taken.map(|epoch| Lease { name: name.to_owned(), epoch: epoch.unsigned_abs() }))
}

pub(super) async fn renew(books: &Books, lease: &Lease) -> Result<(), StoreError> {
    let (name, epoch) = (lease.name.as_str(), number(lease.epoch));
    books
        .beside("renewing a lease", "SELECT outbox_relay.renew($1, $2)", &[(&name, Type::TEXT), (&epoch, Type::INT8)])
        .await
        .map(drop)
}

pub(super) async fn release(books: &Books, lease: &Lease) -> Result<(), StoreError> {
    let (name, epoch) = (lease.name.as_str(), number(lease.epoch));
    books
        .beside(
            "giving up a lease",
            "SELECT outbox_relay.release($1, $2)",
            &[(&name, Type::TEXT), (&epoch, Type::INT8)],
        )
        .await
        .map(drop)
}

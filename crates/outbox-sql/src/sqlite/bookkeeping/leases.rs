//! Leases, and the fence that every write of their holders passes.

use std::time::Duration;

use outbox::{
    ErrorKind, StoreError,
    bookkeeping::{Lease, LeaseView},
};
use rusqlite::Connection;

use crate::sqlite::{connection::query_optional, failure::store_error};

/// Refuses a write whose lease was taken or given up, in the write's own transaction.
pub(super) fn fence(connection: &Connection, lease: &Lease) -> Result<(), StoreError> {
    let view = view(connection, &lease.name)?;
    if view.epoch == lease.epoch && !view.released {
        return Ok(());
    }
    let message = if view.epoch == lease.epoch {
        format!("lease `{}` was given up under epoch {}: this relay stops writing", lease.name, lease.epoch)
    } else {
        format!(
            "lease `{}` was taken over by {} under epoch {}; this relay had epoch {} and stops writing",
            lease.name, view.holder, view.epoch, lease.epoch
        )
    };
    Err(StoreError::new(ErrorKind::Fenced, message))
}

pub(super) fn view(connection: &Connection, name: &str) -> Result<LeaseView, StoreError> {
    let view = query_optional(
        connection,
        "reading a lease",
        "SELECT epoch, beat, released, holder, duration_us FROM leases WHERE name = ?1",
        [name],
        |row| {
            Ok(LeaseView {
                epoch: row.get::<_, i64>(0)?.unsigned_abs(),
                beat: row.get::<_, i64>(1)?.unsigned_abs(),
                released: row.get(2)?,
                holder: row.get(3)?,
                duration: Duration::from_micros(row.get::<_, i64>(4)?.unsigned_abs()),
            })
        },
    )?;
    // One that nobody ever held can be taken at once.
    Ok(view.unwrap_or(LeaseView { epoch: 0, beat: 0, released: true, holder: String::new(), duration: Duration::ZERO }))
}

/// Takes the lease if it is as `seen`.
pub(super) fn take(
    connection: &Connection,
    name: &str,
    seen: &LeaseView,
    holder: &str,
    duration: Duration,
) -> Result<Option<Lease>, StoreError> {
    let now = view(connection, name)?;
    if (now.epoch, now.beat, now.released) != (seen.epoch, seen.beat, seen.released) {
        return Ok(None);
    }
    let lease = Lease { name: name.to_owned(), epoch: now.epoch + 1 };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO leases (name, epoch, beat, released, holder, duration_us) VALUES (?1, ?2, ?3, 0, ?4, ?5)",
        )
        .and_then(|mut statement| {
            let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
            statement.execute((name, number(lease.epoch), number(now.beat + 1), holder, micros))
        })
        .map_err(store_error("taking a lease"))?;
    Ok(Some(lease))
}

pub(super) fn renew(connection: &Connection, lease: &Lease) -> Result<(), StoreError> {
    fence(connection, lease)?;
    connection
        .prepare_cached("UPDATE leases SET beat = beat + 1 WHERE name = ?1")
        .and_then(|mut statement| statement.execute([&lease.name]))
        .map_err(store_error("renewing a lease"))?;
    Ok(())
}

pub(super) fn release(connection: &Connection, lease: &Lease) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE leases SET released = 1 WHERE name = ?1 AND epoch = ?2")
        .and_then(|mut statement| statement.execute((&lease.name, number(lease.epoch))))
        .map_err(store_error("giving up a lease"))?;
    Ok(())
}

/// As `SQLite` stores it.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

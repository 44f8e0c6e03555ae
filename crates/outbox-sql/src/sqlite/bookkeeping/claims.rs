//! Claims of the business database, as noted before they were made.

use outbox::{StoreError, bookkeeping::Lease, store::Claim};
use rusqlite::Connection;

use super::leases::{fence, number};
use crate::sqlite::failure::store_error;

pub(super) fn noted(connection: &Connection, lease: &str) -> Result<Vec<Claim>, StoreError> {
    let read = || -> rusqlite::Result<Vec<Claim>> {
        connection
            .prepare_cached(
                "SELECT bookkeeping.id, epoch, nonce FROM claims, bookkeeping WHERE lease = ?1 ORDER BY epoch, nonce",
            )?
            .query_map([lease], |row| {
                Ok(Claim { bookkeeping: row.get(0)?, epoch: row.get::<_, i64>(1)?.unsigned_abs(), nonce: row.get(2)? })
            })?
            .collect()
    };
    read().map_err(store_error("reading the claims"))
}

pub(super) fn note(connection: &Connection, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
    fence(connection, lease)?;
    let write = || -> rusqlite::Result<()> {
        connection.prepare_cached("DELETE FROM claims WHERE lease = ?1")?.execute([&lease.name])?;
        let mut insert =
            connection.prepare_cached("INSERT OR IGNORE INTO claims (lease, epoch, nonce) VALUES (?1, ?2, ?3)")?;
        for claim in claims {
            insert.execute((&lease.name, number(claim.epoch), &claim.nonce))?;
        }
        Ok(())
    };
    write().map_err(store_error("noting a claim"))
}

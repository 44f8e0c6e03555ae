//! What a relay does on SQLite: reading the service's database, and keeping its own books.

#![cfg(feature = "sqlite")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bookkeeping_fencing;
mod bookkeeping_kept;
mod bookkeeping_opening;
mod bookkeeping_routes;
mod conformance;
mod fixture;
mod foreign_writer;
mod source_history;
mod source_reading;
mod source_rubbish;
mod source_waking;
mod store_adoption;
mod store_claims;
mod store_purge;
mod store_routes;

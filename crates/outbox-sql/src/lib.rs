//! Outbox on SQL databases.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod decode;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod lane_state;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod row;

// The tests of this crate share the test server with the tests beside it.
#[cfg(all(test, feature = "postgres"))]
extern crate self as outbox_sql;

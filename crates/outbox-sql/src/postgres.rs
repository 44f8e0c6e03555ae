//! PostgreSQL: any language writes with one SQL call.
//!
//! The service's own database holds its entries in the schema `outbox`, written by the function `outbox.write` in the
//! service's transactions. A relay reads them there, and keeps its bookkeeping in a schema of its own.
//!
//! For PostgreSQL 15 or later.

mod bookkeeping;
mod connection;
mod decode;
mod failure;
mod history;
mod inbox_store;
mod mapping;
mod position;
pub mod schema;
mod source;
mod store;
pub mod wal;
mod writer;

pub use crate::row::{MAX_ATTRIBUTES_BYTES, MAX_ROW_BYTES};
pub use bookkeeping::{BookkeepingSchema, PostgresBookkeeping};
pub use connection::{ConnectOptions, PasswordSource, connect};
pub use inbox_store::{HandlerFn, PostgresInbox, PostgresTx, TokioPostgres, handler_fn};
#[cfg(feature = "sqlx-postgres")]
pub use inbox_store::{SqlxHandlerFn, SqlxPostgres, handler_fn_sqlx};
pub use mapping::{Layout, Mapping, NoLayout};
pub use schema::{Grants, InitOptions, Meta, check, init};
pub use store::{PostgresStore, StoreOptions};
#[cfg(feature = "sqlx-postgres")]
pub use writer::settle_sqlx;
pub use writer::{Writer, settle, write};

//! SQLite: the embedded default.
//!
//! The service's own file holds its entries, written in the service's transactions. A relay reads them there, and keeps
//! its own checkpoints in a file of its own, so that it never contends with the service's writer.

pub mod assertion;
mod blocking;
mod bookkeeping;
mod connection;
mod decode;
mod durable;
mod failure;
mod history;
mod inbox_store;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
#[expect(clippy::panic, reason = "a property that does not hold is told by a panic")]
pub mod properties;
pub mod schema;
mod source;
pub mod statement;
mod store;
mod wake;
mod writer;

use crate::row;
pub use crate::row::{MAX_ATTRIBUTES_BYTES, MAX_ROW_BYTES};
pub use bookkeeping::{BookkeepingOptions, SqliteBookkeeping};
pub use inbox_store::{HandlerFn, InboxOptions, SqliteInbox, SqliteTx, Synchronous, handler_fn};
pub use schema::{InitOptions, Meta, check, init};
pub use store::{SqliteStore, StoreOptions};
pub use wake::Waker;
#[cfg(feature = "sqlx-sqlite")]
pub use writer::settle_sqlx;
pub use writer::{Writer, settle, write};

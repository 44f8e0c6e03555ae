//! SQLite: the embedded default.
//!
//! The service's own file holds its entries, written in the service's transactions. A relay reads them there, and keeps
//! its own checkpoints in a file of its own, so that it never contends with the service's writer.

mod blocking;
mod bookkeeping;
mod connection;
mod decode;
mod durable;
mod failure;
mod history;
mod inbox_store;
mod source;
mod store;
mod wake;
pub mod schema;

pub use schema::{InitOptions, Meta, check, init};
pub use bookkeeping::{BookkeepingOptions, SqliteBookkeeping};
pub use inbox_store::{HandlerFn, InboxOptions, SqliteInbox, SqliteTx, Synchronous, handler_fn};
pub use store::{SqliteStore, StoreOptions};
pub use wake::Waker;

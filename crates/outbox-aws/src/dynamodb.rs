//! DynamoDB: a service's tables of entries and heads, the writer, and a relay's bookkeeping.
//!
//! `docs/dynamodb.md` describes the tables for writers in any language.

mod attribute;
pub mod bookkeeping;
mod calls;
mod connection;
mod entry;
mod failure;
mod inbox_store;
mod item;
mod mapping;
mod position;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod properties;
pub mod schema;
mod source;
mod store;
pub mod writer;

pub use attribute::{Attribute, Blob, TypedValue};
pub use bookkeeping::{BookkeepingOptions, DynamoBookkeeping, HandedIn, Loss, Redelivery, Seen, Watermark};
pub use connection::{connect, connect_streams};
pub use entry::{Change, ChangeKind, EntryReader, NotAnEntry};
pub use inbox_store::{DynamoInbox, DynamoTx, Effect, HandlerFn, InboxOptions, handler_fn};
pub use mapping::{Layout, Mapping, NoLayout};
pub use schema::{Identity, InitOptions, Tables};
pub use source::{Current, Reached, SourceOptions, StreamsSource, TableSource};
pub use store::{DynamoStore, StoreOptions};
pub use writer::{CommitError, Prepared, Transaction, Writer};

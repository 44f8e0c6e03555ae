//! DynamoDB: a service's tables of entries and heads, the writer, and a relay's bookkeeping.
//!
//! `docs/dynamodb.md` describes the tables for writers in any language.

pub mod bookkeeping;
mod calls;
mod connection;
mod entry;
mod failure;
mod item;
pub mod schema;
pub mod writer;

pub use bookkeeping::{BookkeepingOptions, DynamoBookkeeping};
pub use connection::connect;
pub use entry::{EntryReader, NotAnEntry};
pub use schema::{Identity, InitOptions, Tables};
pub use writer::{CommitError, Prepared, Transaction, Writer};

//! Outbox on AWS: a feature for each service.
//!
//! | feature | what |
//! |---|---|
//! | `dynamodb` | DynamoDB: tables, writer, bookkeeping |
//!
//! Credentials come from the SDK's default chain; region, endpoint and role can be given ([`Settings`]). TLS is rustls with
//! aws-lc-rs.

mod connection;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;

pub use connection::Settings;

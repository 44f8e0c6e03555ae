//! Outbox on AWS: a feature for each service.
//!
//! | feature | what |
//! |---|---|
//! | `dynamodb` | DynamoDB: tables, writer, bookkeeping |
//! | `eventbridge` | a sink: events on an EventBridge bus |
//! | `s3` | the same sink leaves in S3 what an entry does not take |
//! | `rds` | passwords of PostgreSQL on RDS, made of AWS credentials |
//! | `lambda` | what the event source mapping of a function has to be |
//! | `testing` | servers for tests that do what no emulator does |
//!
//! Credentials come from the SDK's default chain; region, endpoint and role can be given ([`Settings`]). TLS is rustls with
//! aws-lc-rs.

mod connection;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(feature = "lambda")]
pub mod event_source_mapping;
#[cfg(feature = "eventbridge")]
pub mod eventbridge;
pub mod iam;
#[cfg(feature = "rds")]
pub mod rds;
#[cfg(any(feature = "dynamodb", feature = "eventbridge", feature = "lambda"))]
mod said;
#[cfg(feature = "testing")]
pub mod testing;

pub use connection::Settings;

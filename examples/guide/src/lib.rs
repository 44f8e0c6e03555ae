//! Compiles the Rust examples of the README, the guide and the pages on PostgreSQL and DynamoDB, so that they cannot go stale.

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
mod guide {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/postgresql.md")]
mod postgresql {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/dynamodb.md")]
mod dynamodb {}

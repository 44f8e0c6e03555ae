//! For those who test what they built on AWS: servers that do what no emulator does. Behind the feature `testing`, for
//! `[dev-dependencies]`.
//!
//! - [`proxy`]: stands before an emulator, or alone, and throttles, loses answers, turns entries away, holds calls back.
//! - [`streams`]: a table's stream whose shards split, end, and are trimmed.

mod http;
pub mod proxy;
pub mod streams;

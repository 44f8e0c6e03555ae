//! How others lost, doubled or reordered events, where it is SQLite that has to hold: `docs/field-defects.md` says who, and
//! which tests elsewhere guard the rest.

#![cfg(feature = "sqlite")]
#![allow(missing_docs, clippy::unwrap_used, reason = "what supports a test fails it")]

#[path = "field_defects/consumer.rs"]
mod consumer;
#[path = "field_defects/log.rs"]
mod log;

//! Outbox on SQL databases.

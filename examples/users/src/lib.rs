//! A users service on PostgreSQL, with the table that it has always had for its events, or with Outbox's.
//!
//! What matters is `users.rs`: a user's row and the event about it are written in **one transaction**, the user's row first.
//! The event is a row of `Outbox(Id, EventType, Payload, Status, CreatedAt)`, which a relay reads by a mapping of one line; or
//! a call of `outbox.write`. Nothing is published here, no status is set, and nothing is polled.
//!
//! ```text
//! POST /users            {"userId", "name"}   → 201, or 200 if there is such a user already
//! PUT  /users/{id}/name  {"name"}             → 200
//! GET  /users/{id}                            → {"userId", "name", "version"}
//! ```

mod api;
mod users;

pub use api::router;
pub use users::{EventTable, User, Users, UsersError};

//! An orders service: the example to copy.
//!
//! The whole point is `place` in `sqlite.rs`, and in `postgres.rs`: an order's row and the event about it are written in
//! **one transaction**, so that either both exist or neither. Nothing is published here; a relay (`outbox relay`) reads the
//! entries from the same database and publishes them, in order per customer, for certain.
//!
//! ```text
//! POST /orders            {"order_id", "customer", "date", "quantity", "amount"}   → 201, or 200 if it was placed before
//! GET  /orders/{id}       the order
//! GET  /customers/{id}    the customer's orders, units and total
//! GET  /health
//! ```
//!
//! A client that got no answer sends the same order again, with the same `order_id`: it is placed once. What is wrong
//! with a request is said as problem details (RFC 9457).

mod api;
mod money;
mod order;
mod postgres;
mod problem;
mod service;
mod sqlite;

pub use api::router;
pub use money::{Cents, NotAnAmount};
pub use order::{Complaint, NewOrder, ORDER_PLACED, Order};
pub use problem::Problem;
pub use service::{CustomerTotals, OrdersError, Placed, Service};

//! A shopping-cart service on DynamoDB: each change of a cart commits together with the event about it.
//!
//! The whole point is `commit` in `carts.rs`: the cart's item and the entry of its event are written by **one
//! `TransactWriteItems`**, on the condition that the cart is still as it was read. Nothing is published here: a relay, or a
//! function on the table's stream, reads the entries and publishes them, in order per cart, for certain.
//!
//! ```text
//! POST /cart                   {"customer", "currency"}                        → 201, the cart
//! PUT  /cart/{id}/add-items    {"items": [{"sku", "quantity", "unit_price"}]}  → 200, the cart
//! PUT  /cart/{id}/checkout                                                     → 200, the cart
//! GET  /cart/{id}                                                              → 200, the cart
//! GET  /health
//! ```
//!
//! [`answer`] is the router: a function from a request to a response, which knows neither sockets nor Lambda. Two shells call
//! it: [`local`], a server, and [`lambda`], a function behind API Gateway. [`totals`] is a consumer, with the inbox.

mod cart;
mod carts;
mod problem;
mod request;
mod router;
mod tables;

#[cfg(feature = "lambda")]
pub mod lambda;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "local")]
pub mod totals;

pub use cart::{Cart, Change, Item, NewCart, Refused, Status};
pub use carts::{Carts, CartsError, Done, Repeat, Stored, Version};
pub use problem::{Complaint, Problem};
pub use router::{MAX_BODY_BYTES, answer};
pub use tables::{Names, make_tables};

/// The CloudEvents `source` of this service's events.
pub const PRODUCER: &str = "/carts";

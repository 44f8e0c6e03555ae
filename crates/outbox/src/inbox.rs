//! The consumer's side: what has been applied, and what is applied once, in order, after its cause.
//!
//! A consumer chooses how much order it needs ([`Mode`]). It writes a [`Handler`], whose effect goes through the
//! transaction of an [`InboxStore`](crate::InboxStore), and puts an [`InboxLayer`] around it. What comes out is a
//! [`tower::Service`]: it takes events as they arrive (doubled, early, of keys in trouble), and answers for each what has
//! been made durable ([`Applied`]). Only then may an event be acknowledged.
//!
//! | mode | keeps | a duplicate | an early one |
//! |---|---|---|---|
//! | [`Mode::Once`] | ids, for a stated time | is acknowledged | – |
//! | [`Mode::Latest`] | the mark of each producer and key | is acknowledged, as is an older one | is applied: it supersedes |
//! | [`Mode::InOrder`] | the mark | is acknowledged | is parked, and applied when its turn comes |
//! | [`Mode::AfterCause`] | the mark; ids for events without one | is acknowledged | waits for its cause too |
//!
//! A handler's failure is the event's: it is tried again on schedule, and in the end it is a dead letter of the
//! consumer. Meanwhile its key waits behind it, and nothing else does. In mode `latest` nothing waits: a newer event
//! takes the place of the one that failed.
//!
//! Where an effect cannot share the store's transaction (a payment, a mail), [`InboxLayer::claim`] gives a handler
//! that runs outside of it, under a claim that expires and is fenced.

mod applied;
mod cause;
mod claims;
mod core;
mod decision;
mod handler;
mod jobs;
mod layer;
pub mod memory;
pub mod metric;
mod operator;
mod pass;
mod raw;
#[cfg(feature = "receiver")]
pub mod receiver;
mod service;
mod settings;
mod sweeper;

pub use applied::{Applied, Waits};
pub use claims::{ClaimHandler, ClaimLayer, ClaimService, ClaimSettings, Claimed};
pub use handler::{Answer, Handler};
pub use layer::InboxLayer;
pub use operator::{Chosen, InboxOperator};
pub use raw::RawMessage;
pub use service::{AppliedFuture, InboxService, Incoming, Seed, SeedLeft, Seeded, Swept};
pub use settings::{InboxRetry, InboxSettings, Join, Kinds, Mode, SettingsError};

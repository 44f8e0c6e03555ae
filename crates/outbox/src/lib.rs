//! Write once, and every consumer hears of it, in order, once.
//!
//! A service that saves to its database and then tells others about it can fail between the two. Outbox closes that
//! gap: business data and events commit in one transaction; a relay publishes the events, in order per key, for certain;
//! an inbox on the other side applies each one once, after its cause.
//!
//! An event's way is one direction: writer → entry → source → pipeline → sink, and inbox → handler. This crate holds the
//! words ([`Event`], [`Place`], [`Entry`](entry)), the contracts that backends fulfil ([`Source`], [`Sink`],
//! [`BusinessStore`], [`Bookkeeping`]), the two state machines that decide everything, and the shells that run them.

mod backoff;
pub mod bookkeeping;
pub mod clock;
pub mod cloudevents;
pub mod entry;
mod error;
pub mod event;
pub mod filter;
#[cfg(feature = "inbox")]
pub mod inbox;
#[cfg(feature = "inbox")]
pub mod inbox_store;
pub mod keeper;
pub mod memory;
pub mod pipeline;
mod place;
#[cfg(feature = "relay")]
pub mod relay;
pub mod route;
#[cfg(any(feature = "webhook", feature = "receiver"))]
pub mod signature;
pub mod sink;
pub mod sinks;
pub mod source;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod writer;

pub use bookkeeping::{Bookkeeping, Lane, Operator};
pub use clock::{Clock, Entropy, Moment, System};
pub use entry::{CommitId, Content, EventRef, Events, Position, Record, Undecodable};
pub use error::{ErrorKind, StoreError};
pub use event::{AttributeError, AttributeValue, Event, Key, NewEvent, TypedError, TypedEvent};
pub use filter::Filter;
#[cfg(feature = "inbox")]
pub use inbox_store::{InboxStore, InboxTx};
pub use place::{Place, PlaceError, Placing};
#[cfg(feature = "relay")]
pub use relay::Relay;
pub use route::{RouteName, RouteSettings, Start};
pub use sink::{Batch, Fault, Outcome, Sink, SinkError, SinkLimits};
pub use source::{KeyOrder, Page, Partition, PartitionId, Recovery, Source};
pub use store::BusinessStore;
pub use writer::{Expected, Receipt, WriteError};

#[cfg(test)]
pub(crate) use event::testing_event;

//! For those who write a backend, and those who test what they built on one: conformance suites, faults, and death
//! between any two I/Os. Behind the feature `testing`, for `[dev-dependencies]`.
//!
//! - [`conformance`]: one suite per trait. A backend that passes behaves as the relay expects.
//! - [`faults`]: wrappers around sinks and stores, with what goes wrong as data.
//! - [`StepGate`]: stops a relay before or after any of its I/Os, for good or until told to go on.
//! - `crashes` (with the feature `relay`): kills a relay at each step of a scenario on a backend of yours, and looks
//!   whether the contract was kept.
//!
//! The in-memory backends in [`memory`](crate::memory) pass all suites, and their source is the shortest example of each
//! trait.
//!
//! # A sink of your own
//!
//! A sink declares what it takes, publishes a batch, and answers for **each** event. What matters:
//!
//! - [`Accepted`](crate::Outcome::Accepted) only once the other side has the event for good. The relay forgets it then.
//! - An event that the other side does not want is [`Refused`](crate::Outcome::Refused): it holds back its own key. An
//!   error of the whole call is a [`SinkError`](crate::SinkError), and its [`Fault`](crate::Fault) decides what the
//!   relay does; map each of your errors in one exhaustive `match`.
//! - Say [`ordered_calls`](crate::SinkLimits::ordered_calls) only if events of one key take effect in their order, and
//!   if none of them takes effect behind one that was not accepted: answer those `Throttled`.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use async_trait::async_trait;
//! use outbox::{Batch, Event, Fault, Outcome, Sink, SinkError, SinkLimits};
//! use outbox::testing::{Delivery, SinkUnderTest, conformance};
//!
//! /// Publishes to a queue that takes one text at a time, and may be closed.
//! #[derive(Clone)]
//! struct Queue(Arc<Mutex<Option<Vec<Delivery>>>>);
//!
//! #[async_trait]
//! impl Sink for Queue {
//!     fn limits(&self) -> SinkLimits {
//!         SinkLimits { ordered_calls: true, max_events: 10, max_bytes: 65_536, max_event_bytes: 8_192, max_calls: 4 }
//!     }
//!
//!     fn size(&self, event: &Event) -> usize {
//!         event.data().map_or(0, |data| data.len())
//!     }
//!
//!     async fn check(&self) -> Result<(), SinkError> {
//!         let queue = self.0.lock().unwrap();
//!         queue.as_ref().map(|_| ()).ok_or_else(|| SinkError::new(Fault::Sink, "the queue is closed: open it"))
//!     }
//!
//!     async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
//!         let mut queue = self.0.lock().unwrap();
//!         let queue = queue.as_mut().ok_or_else(|| SinkError::new(Fault::Sink, "the queue is closed: open it"))?;
//!         for event in &batch.events {
//!             queue.push(Delivery::surrounded(event, batch.envelope()));
//!         }
//!         Ok(vec![Outcome::Accepted; batch.events.len()])
//!     }
//! }
//!
//! // Its test: the suite sees the sink, and the other side.
//! #[async_trait]
//! impl SinkUnderTest for Queue {
//!     fn sink(&self) -> Arc<dyn Sink> {
//!         Arc::new(self.clone())
//!     }
//!
//!     async fn delivered(&self) -> Vec<Delivery> {
//!         self.0.lock().unwrap().clone().unwrap_or_default()
//!     }
//!
//!     async fn take_away(&self) -> bool {
//!         self.0.lock().unwrap().take().is_some()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! conformance::sink::all(async || Queue(Arc::new(Mutex::new(Some(Vec::new()))))).await;
//! # });
//! ```
//!
//! # A store of your own
//!
//! Implement [`Source`](crate::Source) and [`BusinessStore`](crate::BusinessStore), and for the suites a
//! [`StoreUnderTest`]: it runs a transaction as the suite asks for, opens the store as another process would, and puts a
//! backup in its place. A writer that has transactions of its own kind needs only a [`WriterUnderTest`]. A
//! [`Bookkeeping`](crate::Bookkeeping) needs a [`BookkeepingUnderTest`], which opens it as often as it is asked to.

#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a suite is a test: what it does not expect it panics about, as the module says"
)]
pub mod conformance;
#[cfg(feature = "relay")]
#[expect(clippy::expect_used, reason = "a scenario is a test: what it does not expect it panics about")]
pub mod crashes;
pub mod faults;
mod hold;
mod hooked;
mod io;
#[doc(hidden)]
#[expect(clippy::panic, reason = "a property that does not hold is told by a panic")]
pub mod properties;
#[expect(clippy::expect_used, reason = "samples are valid, and part of tests")]
mod sample;
#[cfg(all(feature = "relay", feature = "inbox"))]
pub mod simulator;
mod step_gate;
mod subject;

pub use hooked::{Call, Hook, Hooked, InWords};
pub use io::{Doer, Io, UnknownIo};
pub use step_gate::{Side, Step, StepGate};
pub use subject::{
    BookkeepingUnderTest, Delivery, End, Opened, SinkUnderTest, StoreUnderTest, Transaction, Write, WriterUnderTest,
};

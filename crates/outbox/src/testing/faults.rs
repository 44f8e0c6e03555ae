//! Faults as data: what goes wrong is scripted by a test and then happens, exactly there and exactly so often.
//!
//! [`SinkFaults`] is the script of a [`FaultySink`], [`StoreFaults`] that of a [`FaultyBookkeeping`], [`FaultySource`]
//! or [`FaultyStore`]. A script is a handle: clone it, give one clone to the wrapper, and go on scripting with the other
//! while a relay runs.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::sync::Arc;
//! use outbox::{
//!     Bookkeeping, ErrorKind, memory::{MemoryBookkeeping, SeededEntropy},
//!     testing::{Io, faults::{FaultyBookkeeping, StoreFault, StoreFaults}},
//! };
//!
//! let faults = StoreFaults::default();
//! let inner = Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1)));
//! let bookkeeping = FaultyBookkeeping::new(inner, faults.clone());
//! faults.once(Io::Id, StoreFault::Fail(ErrorKind::Unavailable));
//! assert_eq!(bookkeeping.id().await.unwrap_err().kind(), ErrorKind::Unavailable);
//! assert!(bookkeeping.id().await.is_ok());
//! # }
//! ```

mod sink;
mod store;

pub use sink::{FaultySink, SinkFault, SinkFaults};
pub use store::{FaultyBookkeeping, FaultySource, FaultyStore, StoreFault, StoreFaults};

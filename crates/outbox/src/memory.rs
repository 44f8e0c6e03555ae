//! Every trait in memory: for the tests of services that use Outbox, and the measure that other backends are held to.
//!
//! [`MemoryStore`] is a business store with its writer, source and retention; [`MemoryBookkeeping`] a relay's state;
//! [`MemorySink`] remembers what it accepted; [`MemoryStream`] hands out a store's commits as a change stream with shards. They pass the same conformance suites as every other backend and lose
//! everything when they are dropped. [`ManualClock`] and [`SeededEntropy`] make a test's time and randomness its own.
//!
//! ```
//! use std::sync::Arc;
//! use outbox::{NewEvent, memory::{ManualClock, MemoryStore, SeededEntropy}};
//!
//! let store = MemoryStore::new("/orders", Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1)))?;
//! let mut transaction = store.transaction();
//! transaction.write([NewEvent::builder("order.placed").key("order/7").json(&3).build()?])?;
//! assert_eq!(store.len(), 0); // nothing is there before the commit
//! transaction.commit()?;
//! assert_eq!(store.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

mod bookkeeping;
mod business_store;
mod sink;
mod source;
mod store;
mod stream;
mod time;
mod transaction;

pub use bookkeeping::MemoryBookkeeping;
pub use sink::{Accepted, MemorySink};
pub use store::{MemoryStore, PARTITION, Snapshot};
pub use stream::{Habits, MemoryStream, StreamSettings};
pub use time::{ManualClock, SeededEntropy, TokioClock};
pub use transaction::MemoryTransaction;

/// Locks what a panicking test may have left locked: each change here is made whole before the lock is released.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One suite per trait, which every backend passes.
//!
//! Each suite is a list of checks, one rule each, that get a fresh backend and panic with the rule that is broken. Run
//! them all by `all`, in a test of its own on tokio's multi-threaded runtime, without pausing its time:
//!
//! ```
//! use std::sync::Arc;
//! use outbox::{memory::{MemoryBookkeeping, SeededEntropy}, testing::conformance};
//!
//! # stringify!(
//! #[tokio::test(flavor = "multi_thread")]
//! # );
//! async fn my_bookkeeping_conforms() {
//!     conformance::bookkeeping::all(async || MemoryBookkeeping::new(&SeededEntropy::new(1))).await;
//! }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(my_bookkeeping_conforms());
//! ```
//!
//! | trait | suite | works on |
//! |---|---|---|
//! | a writer | [`writer`] | [`WriterUnderTest`](super::WriterUnderTest) |
//! | [`Source`](crate::Source) | [`source`] | [`StoreUnderTest`](super::StoreUnderTest) |
//! | [`BusinessStore`](crate::BusinessStore) | [`business_store`] | [`StoreUnderTest`](super::StoreUnderTest) |
//! | [`Bookkeeping`](crate::Bookkeeping) | [`bookkeeping`] | a bookkeeping |
//! | [`Operator`](crate::Operator) | [`operator`] | a bookkeeping that an operator can work on |
//! | [`Sink`](crate::Sink) | [`sink`] | [`SinkUnderTest`](super::SinkUnderTest) |
//! | `InboxStore` (feature `inbox`) | `inbox` | `inbox::InboxUnderTest` |

use std::{future::Future, time::Duration};

pub mod bookkeeping;
pub mod business_store;
#[cfg(feature = "inbox")]
pub mod inbox;
pub mod operator;
pub mod sink;
pub mod source;
pub mod writer;

/// How long a backend may take for what has to happen in bounded time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a race is run.
const RACES: usize = 50;

/// Panics with `rule` if `future` takes longer than any backend may.
async fn in_time<T>(rule: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(late) => panic!("{rule}: nothing happened within {PATIENCE:?}: {late}"),
    }
}

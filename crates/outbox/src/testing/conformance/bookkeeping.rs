//! What every bookkeeping promises a relay.
//!
//! Implement [`BookkeepingUnderTest`], which opens the bookkeeping as often as it is asked to; run [`operator`](super::operator)
//! besides. The checks are in rooms of their own: [`leases`], [`fencing`], [`checkpoints`], [`keeping`], [`settling`] and
//! [`handles`].
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use outbox::{
//!     Operator,
//!     memory::{MemoryBookkeeping, SeededEntropy},
//!     testing::{BookkeepingUnderTest, conformance},
//! };
//!
//! /// For a database: its address, and a schema of its own for each check.
//! struct Books(Arc<MemoryBookkeeping>);
//!
//! #[async_trait]
//! impl BookkeepingUnderTest for Books {
//!     async fn open(&self) -> Arc<dyn Operator> {
//!         self.0.clone()
//!     }
//! }
//!
//! # fn fresh() -> Books {
//! #     Books(Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1))))
//! # }
//! # stringify!(
//! #[tokio::test(flavor = "multi_thread")]
//! # );
//! async fn my_bookkeeping_conforms() {
//!     conformance::bookkeeping::all(async || fresh()).await;
//!     conformance::operator::all(async || fresh()).await;
//! }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(my_bookkeeping_conforms());
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    bookkeeping::{Bookkeeping, Operator},
    testing::BookkeepingUnderTest,
};

pub mod checkpoints;
pub mod fencing;
pub mod handles;
pub mod keeping;
pub mod leases;
pub mod settling;

/// Runs every check, each on a fresh bookkeeping.
pub async fn all<S: BookkeepingUnderTest>(fresh: impl AsyncFn() -> S) {
    let subjects = Subjects::default();
    let opened = async || {
        let opened: Arc<dyn Bookkeeping> = subjects.open(fresh().await).await;
        opened
    };
    leases::all(&opened).await;
    fencing::all(&opened).await;
    checkpoints::all(&opened).await;
    keeping::all(&opened).await;
    settling::all(&opened).await;
    handles::all(&fresh).await;
}

/// What was opened for checks: a subject may remove its files when it is dropped.
pub(super) struct Subjects<S>(Mutex<Vec<Arc<S>>>);

impl<S> Default for Subjects<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: BookkeepingUnderTest> Subjects<S> {
    pub(super) async fn open(&self, subject: S) -> Arc<dyn Operator> {
        let subject = Arc::new(subject);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(subject.clone());
        subject.open().await
    }
}

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
    testing::{
        BookkeepingUnderTest,
        sample::{partition, route},
    },
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
    let operated = async || subjects.open(fresh().await).await;
    let opened = async || {
        let opened: Arc<dyn Bookkeeping> = operated().await;
        opened
    };
    leases::all(&opened).await;
    fencing::all(&operated).await;
    checkpoints::all(&opened).await;
    keeping::all(&opened).await;
    settling::all(&opened).await;
    handles::all(&fresh).await;
}

/// Everything that a bookkeeping holds of the routes, lanes and leases that the suite works with, as read.
async fn state(books: &dyn Operator) -> Vec<String> {
    let route = route("a");
    let troubles = books.troubles(&route, None, 100).await.expect("troubles can be read");
    let mut state = vec![
        format!("{:?}", books.id().await.expect("a bookkeeping has an id")),
        format!("{:?}", books.checkpoints(&route).await.expect("checkpoints can be read")),
        format!("{:?}", books.witnesses(&partition()).await.expect("witnesses can be read")),
        format!("{troubles:?}"),
        format!("{:?}", books.kept_counts(&route).await.expect("kept events can be counted")),
        format!("{:?}", books.tombstones(&route).await.expect("tombstones can be read")),
        format!("{:?}", books.health(&route).await.expect("health can be read")),
        format!("{:?}", books.paused().await.expect("paused routes can be listed")),
        format!("{:?}", books.replays().await.expect("replays can be listed")),
        format!("{:?}", books.routes().await.expect("routes can be listed")),
        format!("{:?}", books.operator_changes().await.expect("changes are counted")),
    ];
    for name in ["relay", "another"] {
        state.push(format!("{:?}", books.lease(name).await.expect("a lease can be looked at")));
        state.push(format!("{:?}", books.claims(name).await.expect("noted claims can be read")));
    }
    for trouble in troubles {
        let kept = books.kept(&route, &trouble.lane, 100).await.expect("kept events can be read");
        state.push(format!("{:?} {kept:?}", trouble.lane));
    }
    state
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

//! What every bookkeeping promises a relay.
//!
//! The checks are in rooms of their own: [`leases`], [`fencing`], [`checkpoints`], [`keeping`] and [`settling`].

use std::sync::Arc;

use crate::bookkeeping::Bookkeeping;

pub mod checkpoints;
pub mod fencing;
pub mod keeping;
pub mod leases;
pub mod settling;

/// Runs every check, each on a fresh bookkeeping.
pub async fn all<B: Bookkeeping + 'static>(fresh: impl AsyncFn() -> B) {
    let fresh = async || {
        let fresh: Arc<dyn Bookkeeping> = Arc::new(fresh().await);
        fresh
    };
    leases::all(&fresh).await;
    fencing::all(&fresh).await;
    checkpoints::all(&fresh).await;
    keeping::all(&fresh).await;
    settling::all(&fresh).await;
}

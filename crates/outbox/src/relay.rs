//! The relay: the tokio shell around pipelines and keepers.
//!
//! One relay owns a source at a time, by a lease; others stand by. The owner reads the source once for all routes,
//! carries out what the state machines want, and brings the results back to them. A relay can be embedded in a service,
//! or run by the `outbox` command.

use std::{future::Future, sync::Arc};

use futures_util::future::maybe_done;

pub mod adoption;
mod builder;
mod claim;
mod lease;
mod limiter;
mod listing;
pub mod metric;
mod owner;
mod reader;
mod readers;
mod retention;
mod route;
mod status;
mod wake;
mod watch;

pub use builder::{RelayBuilder, RelayError};
pub use retention::{RetentionPolicy, passed_by_all};
pub use status::{PartitionState, PartitionStatus, RelayHandle, RelayStatus, RouteState, RouteStatus};

use builder::Parts;
use lease::Acquired;
use owner::Ended;

/// The pause before another try at what may pass.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Publishes what a business store holds to its routes, for as long as it owns the source.
pub struct Relay {
    parts: Arc<Parts>,
}

impl Relay {
    /// Starts a relay's definition.
    pub fn builder() -> RelayBuilder {
        RelayBuilder::default()
    }

    /// A view of the relay while it runs.
    pub fn handle(&self) -> RelayHandle {
        RelayHandle::new(self.parts.status.clone())
    }

    /// Runs until `shutdown` is ready, then drains: no new calls, answers awaited up to the drain limit, a last
    /// checkpoint, the lease released. While another relay owns the source it stands by. *Cancellation*: dropping the
    /// future is like a crash: nothing is lost, at most a window of events is published again.
    ///
    /// # Errors
    /// [`RelayError`] if it cannot go on: another history, another owner of the store, tables of another version.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RelayError> {
        self.parts.status.stand_by();
        let ended = self.own_again_and_again(shutdown).await;
        if let Err(error) = &ended {
            self.parts.status.stop(&error.to_string());
        }
        ended
    }

    async fn own_again_and_again(&self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RelayError> {
        // Asked again and again, also after it came: stopping may fail at first.
        let mut shutdown = std::pin::pin!(maybe_done(shutdown));
        loop {
            let acquired = lease::acquire(&self.parts, shutdown.as_mut()).await?;
            let Some(Acquired { guard, renewal }) = acquired else { return Ok(()) };
            tracing::info!(relay = %self.parts.name, epoch = guard.lease().epoch, "this relay owns the source");
            let owning = self.parts.status.own(guard.lease().epoch);
            let ended = owner::run(&self.parts, &guard, renewal, shutdown.as_mut()).await;
            drop(owning);
            match ended {
                Ok(Ended::Drained) => {
                    lease::release(&self.parts, &guard).await;
                    return Ok(());
                }
                Ok(Ended::LeaseLost) => {
                    tracing::warn!(relay = %self.parts.name, "this relay no longer owns the source; standing by");
                }
                Err(error) if error.kind().retry() => {
                    tracing::warn!(%error, "the relay cannot go on now; trying again");
                    lease::release(&self.parts, &guard).await;
                    tokio::select! {
                        biased;
                        () = &mut shutdown => return Ok(()),
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
                Err(error) => {
                    owner::note_stop(&self.parts, &guard, &error).await;
                    lease::release(&self.parts, &guard).await;
                    return Err(error.into());
                }
            }
        }
    }
}

//! Doing what no relay may run beside.

use std::time::Duration;

use outbox::{
    Clock as _, StoreError, System,
    bookkeeping::{Lease, LeaseView},
};

use crate::{config::Config, exit::Failure, output::Output, wiring::Stores};

/// Does `work` under the relay's lease, which `command` takes and gives up again, whatever comes of the work: a relay
/// that is started meanwhile waits.
///
/// # Errors
/// [`Failure`] if a relay runs, or takes the lease away, or what `work` gave.
pub(super) async fn without_relay<T>(
    config: &Config,
    stores: &Stores,
    out: Output,
    command: &str,
    work: impl AsyncFnOnce(&Lease) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let name = &config.relay.name;
    let seen = unrenewed(stores, name, out).await?;
    let duration = config.relay.failover;
    let taken = stores.bookkeeping.take(name, &seen, command, duration).await?;
    let Some(lease) = taken else { return Err(running(&stores.bookkeeping.lease(name).await?)) };
    let done = tokio::select! {
        biased;
        done = work(&lease) => done,
        lost = renewing(stores, &lease, duration / 4) => Err(Failure::from(lost)),
    };
    if let Err(error) = stores.bookkeeping.release(&lease).await {
        tracing::warn!(%error, "the lease was not given up: the next relay waits for its failover time");
    }
    done
}

/// Watches the lease for its failover time, unless it was given up; gives it as it stands.
async fn unrenewed(stores: &Stores, name: &str, out: Output) -> Result<LeaseView, Failure> {
    let first = stores.bookkeeping.lease(name).await?;
    if first.released || first.epoch == 0 {
        return Ok(first);
    }
    let patience = first.duration.max(Duration::from_secs(1));
    let bar = out.waiting("making sure that no relay runs");
    let since = System.moment();
    let seen = loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = stores.bookkeeping.lease(name).await?;
        let is_renewed = (now.epoch, now.beat) != (first.epoch, first.beat);
        if is_renewed && !now.released {
            bar.finish_and_clear();
            return Err(running(&now));
        }
        if now.released || System.moment().since(since) >= patience {
            break now;
        }
    };
    bar.finish_and_clear();
    Ok(seen)
}

fn running(lease: &LeaseView) -> Failure {
    Failure::new(format!("a relay is running ({})", lease.holder)).help("stop it first; it drains and ends")
}

/// Renews the lease until that is refused.
async fn renewing(stores: &Stores, lease: &Lease, every: Duration) -> StoreError {
    loop {
        tokio::time::sleep(every).await;
        match stores.bookkeeping.renew(lease).await {
            Ok(()) => {}
            Err(error) if error.kind().retry() => {
                tracing::warn!(%error, "the lease could not be renewed; trying again");
            }
            Err(error) => return error,
        }
    }
}

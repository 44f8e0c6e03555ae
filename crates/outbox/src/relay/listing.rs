//! Which partitions there are: looked at every now and then, and at once when one was read to its end.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};

use super::{builder::Parts, watch};
use crate::{error::StoreError, source::Partition};

/// What the source listed last, by name.
pub(super) type Listing = Arc<[Partition]>;

/// The pause before the second look after a partition ended; doubled with each further one. What follows it may not be
/// listed yet.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The listing as route tasks see it.
#[derive(Clone)]
pub(super) struct Listed {
    pub(super) listing: watch::Receiver<Listing>,
    /// To be told when a partition was read to its end.
    pub(super) ended: Arc<Notify>,
}

/// Whether the source has, and always had, a single partition: no lineage to keep.
pub(super) fn is_lone(listing: &[Partition]) -> bool {
    matches!(listing, [only] if only.parents.is_empty())
}

/// Looks once.
pub(super) async fn look(parts: &Parts) -> Result<Listing, StoreError> {
    let mut partitions = parts.source.partitions().await?;
    partitions.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(partitions.into())
}

/// Looks for as long as it is let, and tells those who listen what there is.
pub(super) async fn run(
    parts: Arc<Parts>,
    listing: watch::Sender<Listing>,
    ended: Arc<Notify>,
) -> Result<(), StoreError> {
    let mut soon: Option<Duration> = None;
    loop {
        tokio::select! {
            biased;
            () = ended.notified() => soon = Some(FIRST_PAUSE),
            () = sleep(soon.unwrap_or(parts.partitions_every).min(parts.partitions_every)) => {
                soon = soon.map(|pause| pause * 2).filter(|pause| *pause < parts.partitions_every);
            }
        }
        match look(&parts).await {
            // Told unchanged, too: a route may go by an older one, which it looked up while it ended a recovery.
            Ok(now) => listing.send_modify(|known| *known = now),
            Err(error) if error.kind().retry() => {
                tracing::warn!(%error, "the source's partitions cannot be listed now; trying again");
            }
            Err(error) => return Err(error.context("listing the source's partitions")),
        }
    }
}

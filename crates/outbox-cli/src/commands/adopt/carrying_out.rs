//! Doing what was planned, so that it can be done again after a crash anywhere in it.

use outbox::{
    Clock as _, CommitId, Entropy as _, Start, System,
    bookkeeping::{Checkpoint, Lease},
    relay::adoption,
    store::{Claim, Registration},
};

use super::{Args, Entries, findings::Findings};
use crate::{exit::Failure, wiring::Stores};

/// Does it, under the lease.
///
/// # Errors
/// As the stores gave them.
pub(super) async fn carry_out(stores: &Stores, lease: &Lease, findings: &Findings, args: &Args) -> Result<(), Failure> {
    let (source, business, bookkeeping) = (&*stores.source, &*stores.business, &*stores.bookkeeping);
    // By what is numbered as it was, and so before a raise; but what was lost is set back first.
    let is_lost = findings.losses.iter().any(|loss| loss.lost.is_some());
    if !is_lost {
        adoption::anchor(source, business, bookkeeping).await?;
    }
    for loss in &findings.losses {
        let renumber = args.entries == Some(Entries::Renumber);
        adoption::settle(source, business, bookkeeping, loss, renumber).await?;
    }
    if is_lost {
        adoption::anchor(source, business, bookkeeping).await?;
    }
    if findings.disown {
        if args.from_now {
            for registration in &findings.fresh {
                skip_to_end(stores, registration).await?;
            }
        }
        take_over(stores, lease).await?;
    }
    Ok(())
}

/// Lets a route begin behind everything that is there now.
async fn skip_to_end(stores: &Stores, registration: &Registration) -> Result<(), Failure> {
    // Now, not when it was registered.
    let registered = System.wall();
    let now = Registration { start: Start::Now, start_position: None, registered, ..registration.clone() };
    for partition in stores.source.partitions().await? {
        let position = stores.source.start(&partition.id, &now).await?;
        let checkpoint = Checkpoint { partition: partition.id, position, finished: false };
        stores.bookkeeping.reset_checkpoint(&registration.route, &checkpoint).await?;
    }
    Ok(())
}

/// Claims the database for this bookkeeping under a new id: whatever a copy of it knows of earlier claims, by the old id
/// it is another bookkeeping from now on.
async fn take_over(stores: &Stores, lease: &Lease) -> Result<(), Failure> {
    let fresh = || CommitId(System.sixteen()).to_string();
    let held = stores.business.identity().await?.claim;
    let claim = Claim { bookkeeping: fresh(), epoch: lease.epoch, nonce: fresh() };
    stores.bookkeeping.renew_id(&claim.bookkeeping).await?;
    // As a relay does: a claim that was not noted would be a copy's.
    stores.bookkeeping.note_claims(lease, std::slice::from_ref(&claim)).await?;
    if stores.business.claim(&claim, held.as_ref()).await? {
        return Ok(());
    }
    Err(Failure::new("a relay with another bookkeeping took the database over at the same moment")
        .help("stop every relay that reads it, then run `outbox adopt` again"))
}

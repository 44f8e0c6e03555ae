//! Doing what was planned, so that it can be done again after a crash anywhere in it.

use outbox::{
    CommitId, Entropy as _, Position, Start, System,
    bookkeeping::{Checkpoint, Lease, Replay},
    store::{Claim, Registration},
};

use super::{
    Args, Entries,
    findings::{Findings, Loss, beginning},
};
use crate::{exit::Failure, wiring::Stores};

/// Does it, under the lease.
///
/// # Errors
/// As the stores gave them.
pub(super) async fn carry_out(stores: &Stores, lease: &Lease, findings: &Findings, args: &Args) -> Result<(), Failure> {
    // First the checkpoints, for a route that stands behind the loss could skip what is written next. Raising twice,
    // after a crash in between, does no harm; it only skips a number.
    for loss in &findings.losses {
        if loss.seen {
            set_back(stores, loss).await?;
        }
        stores.business.raise_incarnation(loss.agreed.as_ref(), args.entries == Some(Entries::Renumber)).await?;
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

/// Sets every route and replay that is further than the last agreement back to it, and forgets what was seen behind it.
///
/// Those of the bookkeeping, not of the database: an older copy does not know a route that is newer than itself, or has it
/// under the name it had then.
async fn set_back(stores: &Stores, loss: &Loss) -> Result<(), Failure> {
    let target = match &loss.agreed {
        Some(agreed) => agreed.clone(),
        None => beginning(stores, &loss.partition).await?,
    };
    let beyond = |position: &Position| stores.source.order(position, &target).is_gt();
    for route in stores.bookkeeping.routes().await? {
        for checkpoint in stores.bookkeeping.checkpoints(&route).await? {
            if checkpoint.partition != loss.partition {
                continue;
            }
            // Those that are not further, too: it makes the bookkeeping forget what it saw of the lost history.
            let position = if beyond(&checkpoint.position) { target.clone() } else { checkpoint.position.clone() };
            let checkpoint = Checkpoint { partition: checkpoint.partition, position, finished: false };
            stores.bookkeeping.reset_checkpoint(&route, &checkpoint).await?;
        }
    }
    for replay in stores.bookkeeping.replays().await? {
        // One that was to go further ends, for that history is gone.
        let cut_off = replay.ends.iter().any(|(partition, end)| *partition == loss.partition && beyond(end));
        if cut_off && !replay.finished {
            stores.bookkeeping.put_replay(&Replay { finished: true, ..replay }).await?;
        }
    }
    Ok(())
}

/// Lets a route begin behind everything that is there now.
async fn skip_to_end(stores: &Stores, registration: &Registration) -> Result<(), Failure> {
    let now = Registration { start: Start::Now, start_position: None, ..registration.clone() };
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

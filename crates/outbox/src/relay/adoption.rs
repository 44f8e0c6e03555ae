//! Going on after a business store's history went backwards, as after a restored backup.
//!
//! What `outbox adopt` does, for those who embed a relay. No relay and no writer may run meanwhile: take the relay's
//! lease first. Doing it again, after a crash in the middle of it, does no harm; it only skips an incarnation.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    bookkeeping::{Checkpoint, Operator, Replay},
    entry::Position,
    error::StoreError,
    filter::Filter,
    route::{RouteName, Start},
    source::{PartitionId, Source},
    store::{Agreement, BusinessStore, Registration},
};

/// History that is gone from a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The partition.
    pub partition: PartitionId,
    /// Up to where the store agrees with what was read; `None` if at no position that is still kept.
    pub agreed: Option<Position>,
    /// Where something was read that is not there any more; `None` if nobody has seen that anything is gone.
    pub lost: Option<Position>,
    /// Entries in the store behind `agreed`: older than the loss, or written since.
    pub behind: u64,
}

/// What the bookkeeping has read that the store does not have any more.
///
/// # Errors
/// As the stores gave them.
pub async fn losses(
    source: &dyn Source,
    store: &dyn BusinessStore,
    bookkeeping: &dyn Operator,
) -> Result<Vec<Loss>, StoreError> {
    let mut losses = Vec::new();
    for partition in read_partitions(source, bookkeeping).await? {
        let witnesses = bookkeeping.witnesses(&partition).await?;
        if let Agreement::Lost { agreed, lost, behind } = store.agreement(&witnesses).await? {
            losses.push(Loss { partition, agreed, lost: Some(lost), behind });
        }
    }
    Ok(losses)
}

/// Those that there are, and those that there were when they were read: a stream that was made anew has others.
async fn read_partitions(source: &dyn Source, bookkeeping: &dyn Operator) -> Result<BTreeSet<PartitionId>, StoreError> {
    let mut partitions = listed(source).await?;
    for route in bookkeeping.routes().await? {
        let checkpoints = bookkeeping.checkpoints(&route).await?;
        partitions.extend(checkpoints.into_iter().map(|checkpoint| checkpoint.partition));
    }
    Ok(partitions)
}

async fn listed(source: &dyn Source) -> Result<BTreeSet<PartitionId>, StoreError> {
    Ok(source.partitions().await?.into_iter().map(|partition| partition.id).collect())
}

/// What is gone if somebody says that history went backwards, and nothing shows it: everything behind what the
/// bookkeeping has seen last. So it is where store and bookkeeping were put back together, or where the relay died
/// between a publication and its checkpoint. A restored table has a stream of its own: what was seen last of the former one
/// counts then.
///
/// # Errors
/// As the stores gave them.
pub async fn unseen_losses(
    source: &dyn Source,
    store: &dyn BusinessStore,
    bookkeeping: &dyn Operator,
) -> Result<Vec<Loss>, StoreError> {
    let listed = listed(source).await?;
    let mut seen = Vec::new();
    for partition in read_partitions(source, bookkeeping).await? {
        let positions = bookkeeping.witnesses(&partition).await?.into_iter().map(|witness| witness.position);
        seen.push((partition, positions.max_by(|one, other| source.order(one, other))));
    }
    let known = seen.iter().filter_map(|(partition, agreed)| Some((partition, agreed.as_ref()?)));
    let latest = known.max_by(|(one, at), (other, and)| {
        other.is_recovery().cmp(&one.is_recovery()).then_with(|| source.order(at, and))
    });
    let former = latest.map(|(partition, _)| partition.clone()).filter(|partition| !listed.contains(partition));
    seen.retain(|(partition, _)| {
        former.as_ref().map_or_else(|| listed.contains(partition), |former| partition == former)
    });
    let mut losses = Vec::new();
    for (partition, agreed) in seen {
        let behind = behind(source, store, &partition, agreed.as_ref()).await?;
        losses.push(Loss { partition, agreed, lost: None, behind });
    }
    Ok(losses)
}

/// The checkpoints behind which the store refuses to read, whatever it holds; and the starts of registered routes that have
/// none yet.
///
/// # Errors
/// As the stores gave them.
pub async fn refused(
    source: &dyn Source,
    store: &dyn BusinessStore,
    bookkeeping: &dyn Operator,
) -> Result<Vec<(RouteName, Checkpoint)>, StoreError> {
    let mut all = Vec::new();
    for route in bookkeeping.routes().await? {
        let checkpoints = bookkeeping.checkpoints(&route).await?;
        all.extend(checkpoints.into_iter().filter(|known| !known.finished).map(|known| (route.clone(), known)));
    }
    for Registration { route, start_position, .. } in store.routes().await? {
        let Some(start) = start_position.filter(|_| all.iter().all(|(known, _)| *known != route)) else { continue };
        let at_start = |partition| Checkpoint { partition, position: Position::new(&start), finished: false };
        all.extend(listed(source).await?.into_iter().map(|partition| (route.clone(), at_start(partition))));
    }
    let mut refused = Vec::new();
    for (route, checkpoint) in all {
        if store.is_refused(&checkpoint.position).await? {
            refused.push((route, checkpoint));
        }
    }
    Ok(refused)
}

/// Puts the [`refused`] checkpoints anew. A replay that was to go to such a place ends, for nobody can tell where that is now.
///
/// # Errors
/// As the stores gave them.
pub async fn anchor(
    source: &dyn Source,
    store: &dyn BusinessStore,
    bookkeeping: &dyn Operator,
) -> Result<(), StoreError> {
    let refused = refused(source, store, bookkeeping).await?;
    for replay in bookkeeping.replays().await? {
        let mut is_cut_off = false;
        for (_, end) in &replay.ends {
            is_cut_off |= store.is_refused(end).await?;
        }
        if is_cut_off && !replay.finished {
            bookkeeping.put_replay(&Replay { finished: true, ..replay }).await?;
        }
    }
    let partitions: BTreeSet<_> = refused.iter().map(|(_, checkpoint)| checkpoint.partition.clone()).collect();
    for partition in partitions {
        let witnesses = bookkeeping.witnesses(&partition).await?;
        let here: Vec<_> = refused.iter().filter(|(_, checkpoint)| checkpoint.partition == partition).collect();
        let positions: Vec<_> = here.iter().map(|(_, checkpoint)| checkpoint.position.clone()).collect();
        for ((route, checkpoint), position) in here.into_iter().zip(store.anchored(&positions, &witnesses).await?) {
            bookkeeping.reset_checkpoint(route, &Checkpoint { position, ..checkpoint.clone() }).await?;
        }
    }
    Ok(())
}

/// How many entries lie behind an agreement, as the store says, or the source.
async fn behind(
    source: &dyn Source,
    store: &dyn BusinessStore,
    partition: &PartitionId,
    agreed: Option<&Position>,
) -> Result<u64, StoreError> {
    if let Some(entries) = store.entries_behind(agreed).await? {
        return Ok(entries);
    }
    let from = match agreed {
        Some(agreed) => agreed.clone(),
        None => beginning(source, partition).await?,
    };
    Ok(source.backlog(partition, &from).await?.entries)
}

/// Sets back what stands behind the loss, and raises the incarnation; `restamp` moves the entries behind the agreement
/// into the new one.
///
/// # Errors
/// As the stores gave them.
pub async fn settle(
    source: &dyn Source,
    store: &dyn BusinessStore,
    bookkeeping: &dyn Operator,
    loss: &Loss,
    restamp: bool,
) -> Result<u32, StoreError> {
    // First the checkpoints, for a route that stands behind the loss could skip what is written next.
    leave_former(source, bookkeeping).await?;
    if loss.lost.is_some() {
        set_back(source, bookkeeping, loss).await?;
    }
    store.raise_incarnation(loss.agreed.as_ref(), restamp).await
}

/// Is done with all partitions that are there no more. A stream that was made anew has others, and what the former one still
/// shows is the history that was lost.
async fn leave_former(source: &dyn Source, bookkeeping: &dyn Operator) -> Result<(), StoreError> {
    let listed = listed(source).await?;
    for route in bookkeeping.routes().await? {
        for checkpoint in bookkeeping.checkpoints(&route).await? {
            let is_there = checkpoint.partition.is_recovery() || listed.contains(&checkpoint.partition);
            if !is_there && !checkpoint.finished {
                bookkeeping.reset_checkpoint(&route, &Checkpoint { finished: true, ..checkpoint }).await?;
            }
        }
    }
    Ok(())
}

/// Sets every route and replay that is further than the last agreement back to it, and forgets what was seen behind it.
///
/// Those of the bookkeeping, not of the store: an older copy does not know a route that is newer than itself, or has it
/// under the name it had then.
async fn set_back(source: &dyn Source, bookkeeping: &dyn Operator, loss: &Loss) -> Result<(), StoreError> {
    // A stream that was made anew has other partitions. What the former one shows behind the agreement is the history that
    // was lost: it is done with there, and the route reads the table instead.
    let is_former = !listed(source).await?.contains(&loss.partition);
    let target = match (&loss.agreed, &loss.lost) {
        (Some(agreed), _) => agreed.clone(),
        (None, Some(unseen)) if is_former => unseen.behind_no_record(),
        (None, _) => beginning(source, &loss.partition).await?,
    };
    let beyond = |position: &Position| source.order(position, &target).is_gt();
    for route in bookkeeping.routes().await? {
        for checkpoint in bookkeeping.checkpoints(&route).await? {
            if checkpoint.partition != loss.partition {
                continue;
            }
            // Those that are not further, too: it makes the bookkeeping forget what it saw of the lost history.
            let position = source.after_loss(&checkpoint.position, &target);
            let checkpoint = Checkpoint { partition: checkpoint.partition, position, finished: is_former };
            bookkeeping.reset_checkpoint(&route, &checkpoint).await?;
        }
    }
    for replay in bookkeeping.replays().await? {
        // One that was to go further ends, for that history is gone.
        let cut_off = replay.ends.iter().any(|(partition, end)| *partition == loss.partition && beyond(end));
        if cut_off && !replay.finished {
            bookkeeping.put_replay(&Replay { finished: true, ..replay }).await?;
        }
    }
    Ok(())
}

/// The position before everything that is retained.
async fn beginning(source: &dyn Source, partition: &PartitionId) -> Result<Position, StoreError> {
    let registration = Registration {
        route: RouteName::stored("adopt"),
        filter: Filter::default(),
        start: Start::Beginning,
        start_position: None,
        max_event_bytes: 0,
        gapless: true,
        registered: Timestamp::UNIX_EPOCH,
    };
    source.start(partition, &registration).await
}

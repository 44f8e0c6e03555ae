//! Which partitions a route may read when: parents first, and before all others the table, where the stream does not
//! remember what comes next. Decided by what is stored, so that a restart decides the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bookkeeping::Checkpoint,
    clock::Moment,
    entry::Position,
    relay::listing::Listing,
    source::{Partition, PartitionId},
};

/// Where a route begins in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BeginAt {
    /// At its checkpoint.
    Checkpoint(Position),
    /// At the partition's beginning: all its parents were read.
    First,
    /// Where the route starts.
    Start,
}

/// A partition that waits for one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) parent: PartitionId,
    pub(super) since: Moment,
}

/// What a route knows of the source's partitions.
pub(super) struct Lineage {
    listing: Listing,
    /// The parents of what is not listed any more, as far as they are known.
    parents: BTreeMap<PartitionId, Vec<PartitionId>>,
    checkpoints: BTreeMap<PartitionId, Checkpoint>,
    /// A replay reads only those partitions for which an end was fixed.
    only: Option<BTreeSet<PartitionId>>,
    /// Partitions that are read, or about to be.
    active: BTreeSet<PartitionId>,
    waiting: BTreeMap<PartitionId, Waiting>,
    /// Since when partitions with a finished checkpoint are not listed any more.
    unlisted: BTreeMap<PartitionId, Moment>,
}

impl Lineage {
    pub(super) fn new(listing: Listing, only: Option<BTreeSet<PartitionId>>) -> Self {
        Self {
            listing,
            parents: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            only,
            active: BTreeSet::new(),
            waiting: BTreeMap::new(),
            unlisted: BTreeMap::new(),
        }
    }

    pub(super) fn list(&mut self, listing: Listing) {
        let before = std::mem::replace(&mut self.listing, listing);
        self.parents.retain(|partition, _| self.checkpoints.contains_key(partition));
        let begun = before.iter().filter(|listed| self.checkpoints.contains_key(&listed.id));
        self.parents.extend(begun.map(|listed| (listed.id.clone(), listed.parents.clone())));
    }

    pub(super) fn listing(&self) -> &[Partition] {
        &self.listing
    }

    /// Puts what is stored in the place of what was known.
    pub(super) fn know(&mut self, checkpoints: Vec<Checkpoint>) {
        self.checkpoints = checkpoints.into_iter().map(|known| (known.partition.clone(), known)).collect();
    }

    /// A checkpoint was stored.
    pub(super) fn note(&mut self, checkpoint: Checkpoint) {
        self.checkpoints.insert(checkpoint.partition.clone(), checkpoint);
    }

    pub(super) fn forget(&mut self, partitions: &[PartitionId]) {
        for partition in partitions {
            self.checkpoints.remove(partition);
            self.unlisted.remove(partition);
        }
    }

    pub(super) fn is_finished(&self, partition: &PartitionId) -> bool {
        self.checkpoints.get(partition).is_some_and(|checkpoint| checkpoint.finished)
    }

    /// The recovery that is not done yet: the parent of every other partition.
    pub(super) fn recovery(&self) -> Option<&Checkpoint> {
        self.checkpoints.values().rfind(|known| known.partition.is_recovery() && !known.finished)
    }

    /// Whether every partition of a replay has been read.
    pub(super) fn is_replayed(&self) -> bool {
        let all = |only: &BTreeSet<PartitionId>| only.iter().all(|partition| self.is_finished(partition));
        self.recovery().is_none() && self.only.as_ref().is_some_and(all)
    }

    /// Whether some listed partition follows this one: then it is closed.
    pub(super) fn is_closed(&self, partition: &PartitionId) -> bool {
        self.listing.iter().any(|listed| listed.parents.contains(partition))
    }

    /// All that may have to be read, each with its parents: what is listed, and what was begun and is not listed any
    /// more. The source itself says of the latter whether it still can be read.
    fn candidates(&self) -> BTreeMap<&PartitionId, &[PartitionId]> {
        let is_wanted = |partition: &PartitionId| self.only.as_ref().is_none_or(|only| only.contains(partition));
        let begun = self.checkpoints.values().filter(|known| !known.finished).map(|known| &known.partition);
        let only = self.only.iter().flatten();
        let known = |partition| self.parents.get(partition).map_or([].as_slice(), Vec::as_slice);
        let unlisted = begun.chain(only).map(|partition| (partition, known(partition)));
        let listed = self.listing.iter().map(|listed| (&listed.id, listed.parents.as_slice()));
        unlisted.chain(listed).filter(|(partition, _)| is_wanted(partition) && !partition.is_recovery()).collect()
    }

    /// The partitions that may be begun now, and where; notes which of the others wait since when. They count as begun
    /// until [`leave`](Self::leave) says otherwise.
    pub(super) fn begin(&mut self, now: Moment) -> Vec<(PartitionId, BeginAt)> {
        let recovery = self.recovery().map(|known| (known.partition.clone(), known.position.clone()));
        let candidates = self.candidates();
        let mut due = Vec::new();
        let mut waiting = BTreeMap::new();
        let is_open = |parent: &&PartitionId| candidates.contains_key(parent) && !self.is_finished(parent);
        for (&partition, parents) in &candidates {
            if self.is_finished(partition) || self.active.contains(partition) {
                continue;
            }
            let behind = recovery.as_ref().map(|(partition, _)| partition);
            if let Some(parent) = behind.or_else(|| parents.iter().find(is_open)) {
                let known = self.waiting.get(partition).filter(|waiting| waiting.parent == *parent);
                let since = known.map_or(now, |waiting| waiting.since);
                waiting.insert(partition.clone(), Waiting { parent: parent.clone(), since });
                continue;
            }
            let read_parents = !parents.is_empty() && parents.iter().all(|parent| self.is_finished(parent));
            let from = match self.checkpoints.get(partition) {
                Some(checkpoint) => BeginAt::Checkpoint(checkpoint.position.clone()),
                None if read_parents => BeginAt::First,
                None => BeginAt::Start,
            };
            due.push((partition.clone(), from));
        }
        if let Some((recovery, position)) = recovery.filter(|(partition, _)| !self.active.contains(partition)) {
            due.push((recovery, BeginAt::Checkpoint(position)));
        }
        self.waiting = waiting;
        self.active.extend(due.iter().map(|(partition, _)| partition.clone()));
        due
    }

    /// The partition is not read any more, or could not be begun.
    pub(super) fn leave(&mut self, partition: &PartitionId) {
        self.active.remove(partition);
    }

    /// Whether nothing is read or about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.active.is_empty()
    }

    /// Partitions that wait for others.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&PartitionId, &Waiting)> {
        self.waiting.iter()
    }

    /// Partitions with a finished checkpoint that is of no use any more: for `long` they were not listed, and every
    /// partition that follows them was begun. One that is listed again within that time was not gone.
    pub(super) fn forgettable(&mut self, now: Moment, long: std::time::Duration) -> Vec<PartitionId> {
        let (listing, checkpoints) = (&self.listing, &self.checkpoints);
        let is_listed = |partition: &PartitionId| listing.iter().any(|listed| listed.id == *partition);
        let finished = checkpoints.values().filter(|known| known.finished && !is_listed(&known.partition));
        let gone: BTreeSet<&PartitionId> = finished.map(|known| &known.partition).collect();
        self.unlisted.retain(|partition, _| gone.contains(partition));
        for partition in &gone {
            self.unlisted.entry((*partition).clone()).or_insert(now);
        }
        let is_needed = |partition: &PartitionId| {
            let mut followers = listing.iter().filter(|listed| listed.parents.contains(partition));
            followers.any(|follower| !checkpoints.contains_key(&follower.id))
        };
        let old = self.unlisted.iter().filter(|(_, since)| now.since(**since) >= long).map(|(partition, _)| partition);
        old.filter(|partition| !is_needed(partition)).cloned().collect()
    }
}

#[cfg(test)]
mod tests;

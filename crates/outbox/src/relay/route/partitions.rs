//! The partitions that a route reads now, each with its pipeline.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::{PartitionId, Pipeline, Position};
use crate::{clock::Moment, relay::reader::Request};

/// One partition of the source, as this route reads it.
pub(super) struct Progress {
    pub(super) partition: PartitionId,
    pub(super) pipeline: Pipeline,
    /// Its reader, which lives as long as anybody can ask it.
    pub(super) reader: mpsc::UnboundedSender<Request>,
    /// Where it asks for records next.
    pub(super) after: Position,
    /// When that was last another position, or a checkpoint was stored.
    pub(super) moved: Moment,
    /// The last stored checkpoint, or where the route began.
    pub(super) stored: Position,
    /// Where a replay ends.
    pub(super) end: Option<Position>,
    pub(super) wake: Option<Moment>,
    /// Nothing more comes of its pipeline.
    pub(super) finished: bool,
    /// Whether that is because the partition is closed and done, and stored as such.
    pub(super) read_out: bool,
}

/// Those that are read now. Each has a number of its own, which is never given again: what comes for one that is gone
/// belongs to nobody.
#[derive(Default)]
pub(super) struct Partitions {
    reading: BTreeMap<usize, Progress>,
    next: usize,
}

impl Partitions {
    pub(super) fn add(&mut self, progress: Progress) -> usize {
        let number = self.next;
        self.next += 1;
        self.reading.insert(number, progress);
        number
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<Progress> {
        self.reading.remove(&number)
    }

    pub(super) fn get(&self, number: usize) -> Option<&Progress> {
        self.reading.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Progress> {
        self.reading.get_mut(&number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reading.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Progress> {
        self.reading.values()
    }

    /// Their numbers as they are now: feeding one of them may end it.
    pub(super) fn numbers(&self) -> Vec<usize> {
        self.reading.keys().copied().collect()
    }
}

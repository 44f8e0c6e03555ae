//! A lineage that does not get on, which would otherwise be an idle route that loses data in silence.

use std::collections::BTreeSet;

use super::{PartitionId, Task};
use crate::{pipeline::Health, relay::metric};

impl Task {
    /// Tells of partitions that are closed and do not get on, though nothing holds them up that is told of elsewhere,
    /// and of those that wait too long for one before them. Each once.
    pub(super) fn look_for_stalls(&mut self) {
        let (now, limit) = (self.parts.clock.moment(), self.parts.stalled_after);
        let mut stalled = BTreeSet::<PartitionId>::new();
        for number in self.partitions.numbers() {
            let Some(progress) = self.partitions.get(number) else { continue };
            let is_held_up = self.paused || self.health.pipelines.get(&number).is_some_and(|h| *h != Health::Flowing);
            let stands = now.since(progress.moved) >= limit && !is_held_up;
            if !stands || !self.lineage.is_closed(&progress.partition) {
                continue;
            }
            if !self.stalled.contains(&progress.partition) {
                tracing::warn!(
                    route = %self.name, partition = %progress.partition, position = %progress.after, ?limit,
                    "a partition is closed, for others follow it, and was not read to its end nor anything more of it \
                     for this long: its source may have lost track; those behind it wait"
                );
            }
            stalled.insert(progress.partition.clone());
        }
        for (partition, waiting) in self.lineage.waiting().filter(|(_, waiting)| now.since(waiting.since) >= limit) {
            if !self.stalled.contains(partition) {
                tracing::warn!(
                    route = %self.name, %partition, parent = %waiting.parent, ?limit,
                    "a partition waits for one before it for longer than this"
                );
            }
            stalled.insert(partition.clone());
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few partitions")]
        metrics::gauge!(metric::STALLED, "route" => self.name.to_string()).set(stalled.len() as f64);
        self.stalled = stalled;
    }
}

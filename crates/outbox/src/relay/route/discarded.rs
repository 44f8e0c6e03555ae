//! Telling the pipelines what was discarded, so that what they read again of it does not go out.

use std::time::Duration;

use super::Task;
use crate::{
    bookkeeping::{Bookkeeping, Checkpoint, Tombstone},
    clock::Moment,
    error::StoreError,
    keeper, pipeline,
    relay::lease::Guard,
    route::RouteName,
    source::{KeyOrder, Source},
};

/// The pause before another try to read tombstones.
const AGAIN: Duration = Duration::from_millis(200);

/// For how long a checkpoint must have been past a tombstone where records may come doubled: the second copy comes behind
/// the checkpoint, and a relay that has begun since knows nothing of the first.
const DOUBLED_WITHIN: Duration = Duration::from_secs(3600);

/// Tombstones that a checkpoint is past.
pub(super) struct Passed {
    /// Where every record comes once, all are forgotten at once.
    once: bool,
    since: Vec<(Tombstone, Moment)>,
}

impl Passed {
    pub(super) fn of(source: &dyn Source) -> Self {
        Self { once: source.key_order() == KeyOrder::Promised, since: Vec::new() }
    }

    /// Whether a tombstone that a checkpoint is past can be forgotten `now`.
    pub(super) fn ripe(&self, now: Moment) -> impl Fn(&Tombstone) -> bool + Send + 'static {
        let once = self.once;
        let long = self.since.iter().filter(|(_, since)| now.since(*since) >= DOUBLED_WITHIN);
        let long: Vec<_> = long.map(|(tombstone, _)| tombstone.clone()).collect();
        move |tombstone| once || long.contains(tombstone)
    }

    /// A checkpoint was stored of a partition, and these tombstones that it is past are still there.
    pub(super) fn left(&mut self, checkpoint: &Checkpoint, left: Vec<Tombstone>, now: Moment) {
        self.since.retain(|(known, _)| known.1 != checkpoint.partition || left.contains(known));
        for tombstone in left {
            if !self.since.iter().any(|(known, _)| *known == tombstone) {
                self.since.push((tombstone, now));
            }
        }
    }
}

/// The route's tombstones, however long the store takes to answer; none once the lease is lost.
pub(super) async fn tombstones(
    bookkeeping: &dyn Bookkeeping,
    guard: &Guard,
    route: &RouteName,
) -> Result<Vec<Tombstone>, StoreError> {
    while guard.holds() {
        match bookkeeping.tombstones(route).await {
            Err(error) if error.kind().retry() => tokio::time::sleep(AGAIN).await,
            result => return result,
        }
    }
    Ok(Vec::new())
}

impl Task {
    /// Notes what the store knows of discarded events. Where a record may come twice, another copy may be kept behind the
    /// one that was discarded.
    pub(super) fn know_of_discarded(&mut self, tombstones: &[Tombstone]) -> Result<(), StoreError> {
        self.tombstones |= !tombstones.is_empty();
        if tombstones.is_empty() || self.settings.observed.is_none() {
            return Ok(());
        }
        let ids = tombstones.iter().map(|(id, _, _)| id.clone()).collect();
        self.keeper_input(keeper::Input::Discarded { ids })
    }

    /// Before their lanes are released, every pipeline knows what was discarded: one may have begun before it.
    pub(super) fn tell_of_discarded(&mut self, buried: Vec<Tombstone>) -> Result<(), StoreError> {
        if buried.is_empty() {
            return Ok(());
        }
        for index in self.partitions.numbers() {
            let Some(progress) = self.partitions.get(index) else { continue };
            let here = buried.iter().filter(|(_, partition, _)| *partition == progress.partition);
            let tombstones = here.map(|(id, _, position)| (id.clone(), position.clone())).collect();
            self.pipeline_input(index, pipeline::Input::Discarded { tombstones })?;
        }
        self.know_of_discarded(&buried)?;
        self.buried = buried;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        memory::{Habits, ManualClock, MemoryStore, MemoryStream, SeededEntropy, StreamSettings},
        relay::route::Position,
        source::PartitionId,
    };

    fn tombstone() -> Tombstone {
        ("order-1".into(), PartitionId::new("shard"), Position::new("7"))
    }

    /// Whether a tombstone that a checkpoint passed at the beginning is forgotten so much later.
    fn is_forgotten(reordering: bool, later: Duration) -> bool {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1)));
        let store = MemoryStore::new("/tests", clock, entropy).unwrap();
        let habits = Habits { reordering, ..Habits::default() };
        let stream = MemoryStream::new(&store, StreamSettings { habits, ..StreamSettings::default() });
        let mut passed = Passed::of(&stream);
        let (partition, position) = (PartitionId::new("shard"), Position::new("9"));
        let checkpoint = Checkpoint { partition, position, finished: false };
        passed.left(&checkpoint, vec![tombstone()], Moment::default());
        passed.ripe(Moment::default() + later)(&tombstone())
    }

    #[test]
    fn where_a_record_comes_once_its_tombstone_is_forgotten_once_a_checkpoint_is_past_it() {
        assert!(is_forgotten(false, Duration::ZERO));
    }

    #[test]
    fn where_a_record_may_come_twice_its_tombstone_stays_for_an_hour() {
        assert!(!is_forgotten(true, Duration::from_mins(59)));
        assert!(is_forgotten(true, DOUBLED_WITHIN));
    }
}

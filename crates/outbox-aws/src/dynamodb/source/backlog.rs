//! What lies behind a position: a look at the next page, remembered for a while.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{Moment, PartitionId, Position, StoreError, source::Backlog};

use super::{
    Inner,
    iterator::Asked,
    line::Line,
    place::{InScan, InShard},
};

/// For how long a look holds. When the oldest entry was recorded does not change.
const FRESH: Duration = Duration::from_mins(1);

/// What was seen behind a place.
#[derive(Clone, Debug)]
pub(super) struct Peeked {
    place: InShard,
    seen: Moment,
    entries: u64,
    oldest: Option<Timestamp>,
}

impl Peeked {
    pub(super) fn nothing(place: &InShard, now: Moment) -> Self {
        Self { place: place.clone(), seen: now, entries: 0, oldest: None }
    }

    pub(super) fn of(place: &InShard, line: &Line, now: Moment) -> Self {
        let oldest = line.buffer.front().map(|(_, record)| record.recorded);
        Self { place: place.clone(), seen: now, entries: line.buffer.len() as u64, oldest }
    }

    /// Whether it still holds for `place`. Where nothing was, something may be at any time.
    pub(super) fn is_of(&self, place: &InShard, now: Moment) -> bool {
        self.place.is_at(place) && self.entries > 0 && now.since(self.seen) < FRESH
    }

    fn backlog(&self) -> Backlog {
        Backlog { entries: self.entries, exact: false, oldest: self.oldest }
    }
}

impl Inner {
    /// The entries of the next page: no service says how many there are behind it.
    pub(super) async fn backlog_of_shard(
        &self,
        partition: &PartitionId,
        after: &Position,
    ) -> Result<Backlog, StoreError> {
        let place = InShard::parse(after)?;
        let shard = self.shards.of(partition, self.calls.clock.moment());
        if let Some(peeked) = shard.peeked(&place, self.calls.clock.moment()) {
            return Ok(peeked.backlog());
        }
        let asked = Asked::of(self, partition).await?;
        let (line, keep) = shard.fill(&place, &asked).await?;
        let peeked = Peeked::of(&place, &line, self.calls.clock.moment());
        keep.put(line);
        shard.note_peeked(peeked.clone());
        Ok(peeked.backlog())
    }

    /// The rows that the table is said to have, less those that were passed.
    pub(super) async fn backlog_of_table(&self, after: &Position) -> Result<Backlog, StoreError> {
        let place = InScan::parse(after)?;
        let items = self.capacity().await?.items;
        let oldest = Timestamp::from_millisecond(place.begin).ok().filter(|begin| *begin > Timestamp::UNIX_EPOCH);
        Ok(Backlog { entries: items.saturating_sub(place.rows).max(1), exact: false, oldest })
    }
}

//! Reading shards: where a route starts, what comes behind a position, and where it goes on after a recovery.

use jiff::Timestamp;

use super::{
    super::{
        invalid,
        position::{InScan, InShard},
        scan, trimmed,
    },
    Forgotten, Item, Shard, Shards,
};
use crate::{
    bookkeeping::Checkpoint,
    entry::Position,
    error::{ErrorKind, StoreError},
    memory::store::Cursor,
    route::Start,
    source::{Backlog, Limit, Page, PartitionId},
    store::Registration,
};

impl Shards {
    /// What is forgotten of a shard and of all those before it.
    fn forgotten(&self, number: u64) -> Forgotten {
        let Some(shard) = self.all.get(&number) else { return Forgotten::NOTHING };
        shard.parents.iter().fold(shard.forgotten, |all, parent| all.and(self.forgotten(*parent)))
    }

    fn shard(&self, id: &PartitionId) -> Result<&Shard, StoreError> {
        let number = id.as_str().strip_prefix("shard-").and_then(|number| number.parse().ok());
        let shard = number.and_then(|number: u64| self.all.get(&number));
        let shard = shard.ok_or_else(|| invalid(format!("there never was a partition `{id}`")))?;
        if shard.gone {
            return Err(trimmed(format!("the stream does not have `{id}` any more")));
        }
        Ok(shard)
    }

    pub(in crate::memory::stream) fn start(
        &self,
        id: &PartitionId,
        registration: &Registration,
    ) -> Result<Position, StoreError> {
        let shard = self.shard(id)?;
        let row = match (&registration.start_position, registration.start) {
            (Some(fixed), _) => {
                let fixed = Position::new(fixed);
                Cursor::parse(&fixed).ok_or_else(|| invalid(format!("`{fixed}` is not a position of the store")))?.row
            }
            (None, Start::Beginning) => 0,
            (None, Start::Now) => self.row,
            (None, Start::Time(time)) => return self.start_at(shard, time.as_millisecond()),
        };
        if self.forgotten(shard.number).row > row {
            return Err(trimmed(format!("the stream does not remember in `{id}` what came behind row {row}")));
        }
        Ok(Self::before(shard, |item| item.row > row))
    }

    fn start_at(&self, shard: &Shard, time: i64) -> Result<Position, StoreError> {
        if self.forgotten(shard.number).recorded >= time {
            return Err(trimmed(format!("the stream does not remember in `{}` what was recorded then", shard.id())));
        }
        Ok(Self::before(shard, |item| item.recorded() >= time))
    }

    /// The position before the first record that is `wanted`, or behind all.
    fn before(shard: &Shard, wanted: impl Fn(&Item) -> bool) -> Position {
        let last = shard.items.iter().take_while(|item| !wanted(item)).last();
        let beginning =
            || InShard { sequence: shard.forgotten.sequence, ..InShard::beginning(shard.number, shard.opened) };
        last.map_or_else(|| beginning().position(), |item| item.record.position.clone())
    }

    pub(in crate::memory::stream) fn beginning(&self, id: &PartitionId) -> Result<Position, StoreError> {
        let shard = self.shard(id)?;
        Ok(InShard::beginning(shard.number, shard.opened).position())
    }

    /// The shard of `after`, which is one of its positions that is still remembered.
    fn at(&self, id: &PartitionId, after: &InShard) -> Result<&Shard, StoreError> {
        let shard = self.shard(id)?;
        if after.shard != shard.number {
            return Err(invalid(format!("`{}` is not a position of `{id}`", after.position())));
        }
        let commit = Cursor::parse(&Position::new(&after.row)).and_then(|cursor| cursor.commit);
        if commit.is_some_and(|commit| self.lost.contains(&commit)) {
            return Err(StoreError::new(
                ErrorKind::HistoryChanged,
                format!(
                    "the store has no entry at {}: it went back to an older copy; run `outbox adopt`",
                    after.position()
                ),
            ));
        }
        let passed_over = after.skip.is_some_and(|skip| shard.forgotten.recorded < skip);
        if after.sequence < shard.forgotten.sequence && !passed_over {
            return Err(trimmed(format!(
                "the stream does not remember in `{id}` what comes behind {}",
                after.position()
            )));
        }
        Ok(shard)
    }

    pub(in crate::memory::stream) fn read(
        &self,
        id: &PartitionId,
        after: &InShard,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let shard = self.at(id, after)?;
        let mut page = Page { records: Vec::new(), next: after.position(), more: false, end: false };
        let mut behind = shard.items.iter().filter(|item| item.sequence > after.sequence).peekable();
        if behind.peek().is_some() && !after.past_empty && self.settings.habits.is_empty_first(after.sequence) {
            let next = InShard { past_empty: true, ..after.clone() };
            return Ok(Page { next: next.position(), more: true, ..page });
        }
        let (mut events, mut bytes) = (0, 0);
        while let Some(item) = behind.peek() {
            if after.skip.is_some_and(|skip| item.recorded() < skip) {
                if page.records.is_empty() {
                    let (sequence, past_empty) = (item.sequence, false);
                    page.next = InShard { sequence, past_empty, ..after.clone() }.position();
                }
                behind.next();
                continue;
            }
            events += item.record.len();
            bytes += item.record.weight();
            if !page.records.is_empty() && (events > limit.events || bytes > limit.bytes) {
                page.more = true;
                return Ok(page);
            }
            page.next = item.record.position.clone();
            page.records.push(item.record.clone());
            behind.next();
        }
        page.end = shard.closed.is_some();
        Ok(page)
    }

    pub(in crate::memory::stream) fn backlog(&self, id: &PartitionId, after: &InShard) -> Result<Backlog, StoreError> {
        let shard = self.at(id, after)?;
        let behind = shard
            .items
            .iter()
            .filter(|item| item.sequence > after.sequence && after.skip.is_none_or(|skip| item.recorded() >= skip));
        let recorded: Vec<Timestamp> = behind.map(|item| item.record.recorded).collect();
        Ok(Backlog { entries: recorded.len() as u64, exact: true, oldest: recorded.first().copied() })
    }

    /// The time up to which a route has everything that the stream does not remember: of its checkpoints those count
    /// that are behind, and where it has none, its start.
    pub(in crate::memory::stream) fn recovers_from(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<i64, StoreError> {
        let mut times = Vec::new();
        for checkpoint in checkpoints {
            if checkpoint.partition.is_recovery() {
                let started = scan::started(&checkpoint.partition)?;
                let begin = InScan::parse(&checkpoint.position)?.begin;
                times.push(if checkpoint.finished { started } else { begin });
                continue;
            }
            let cursor = InShard::parse(&checkpoint.position)?;
            let is_behind = match self.at(&checkpoint.partition, &cursor) {
                _ if checkpoint.finished => self.has_unread_child(cursor.shard, checkpoints),
                Ok(_) => false,
                Err(error) if error.kind() == ErrorKind::Trimmed => true,
                Err(error) => return Err(error),
            };
            if is_behind {
                times.push(cursor.skip.map_or(cursor.recorded, |skip| skip.max(cursor.recorded)));
            }
        }
        let from_start = match registration.start {
            Start::Beginning => i64::MIN,
            Start::Now => registration.registered.as_millisecond(),
            Start::Time(time) => time.as_millisecond(),
        };
        Ok(times.into_iter().min().unwrap_or(from_start))
    }

    fn has_unread_child(&self, number: u64, checkpoints: &[Checkpoint]) -> bool {
        let mut children = self.all.values().filter(|shard| shard.parents.contains(&number));
        children.any(|child| checkpoints.iter().all(|checkpoint| checkpoint.partition != child.id()))
    }

    pub(in crate::memory::stream) fn after_recovery(
        &self,
        id: &PartitionId,
        skip: i64,
    ) -> Result<Position, StoreError> {
        let shard = self.shard(id)?;
        if self.forgotten(shard.number).recorded >= skip {
            return Err(trimmed(format!(
                "the recovery took longer than the stream remembers: of `{id}` it has forgotten what was committed since"
            )));
        }
        let cursor = InShard::beginning(shard.number, skip.max(shard.opened));
        Ok(InShard { sequence: shard.forgotten.sequence, skip: Some(skip), ..cursor }.position())
    }
}

//! Marks and troubles of lanes.

use jiff::Timestamp;
use outbox::{
    ErrorKind, StoreError,
    inbox_store::{KeptLane, LaneChange, LaneId, LaneRecord, LaneStep},
};

use super::{
    items::{self, ReadLane},
    table::{Range, name_of},
    tx::{DynamoTx, Loaded},
};
use crate::dynamodb::item::number_of;

const READING: &str = "reading the marks of keys";

impl DynamoTx<'_> {
    /// Reads those of `lanes` that are not loaded.
    pub(super) async fn load_lanes(&mut self, lanes: &[LaneId]) -> Result<(), StoreError> {
        let missing: Vec<_> = lanes.iter().filter(|lane| !self.lanes.contains_key(lane)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if missing.iter().any(|lane| self.advanced.contains_key(lane)) {
            // It moves on without having been read: another call of the same transaction wants to know more of it.
            self.clashes = true;
            let message = "two calls need transactions of their own";
            return Err(StoreError::new(ErrorKind::Unavailable, message));
        }
        let keys = missing.iter().map(|lane| self.table.names.record(lane)).collect();
        let mut found = self.table.items(keys, READING).await?;
        for lane in missing {
            let item = found.remove(&name_of(&self.table.names.record(lane)));
            let read = item.as_ref().map_or_else(|| Ok(ReadLane::default()), items::read_lane)?;
            let (now, awaited) = (read.record.clone(), read.awaited);
            self.lanes.insert(lane.clone(), Loaded { read, now, awaited, touched: false, checked: false });
        }
        Ok(())
    }

    pub(super) async fn load_records(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError> {
        self.load_lanes(lanes).await?;
        let record = |lane| self.lanes.get(lane).map(|loaded| loaded.now.clone()).unwrap_or_default();
        Ok(lanes.iter().map(record).collect())
    }

    pub(super) async fn save_lanes(&mut self, changes: &[LaneChange]) -> Result<(), StoreError> {
        for change in changes {
            self.lane(&change.lane).await?.now = change.now.clone();
        }
        Ok(())
    }

    /// Takes it that each lane stands where its step begins; the commit finds out.
    pub(super) fn advance_lanes(&mut self, steps: &[LaneStep<'_>]) -> Vec<bool> {
        if self.hints.reads_marks {
            return vec![false; steps.len()];
        }
        let mut moved = Vec::with_capacity(steps.len());
        for LaneStep { lane, from, to } in steps {
            let follows = match self.advanced.get_mut(*lane) {
                _ if self.lanes.contains_key(*lane) => false,
                Some((_, end)) if *end == *from => {
                    *end = *to;
                    true
                }
                Some(_) => false,
                None => {
                    self.advanced.insert((*lane).clone(), (*from, *to));
                    true
                }
            };
            moved.push(follows);
        }
        moved
    }

    /// Lanes in trouble that are due, the earliest first. Reads every lane in trouble.
    pub(super) async fn due_lanes(&mut self, now: Timestamp, limit: usize) -> Result<Vec<LaneId>, StoreError> {
        let range = Range { id: self.table.names.troubles(), prefix: "", after: None, limit: None };
        let found = self.table.query(range, "looking for events that are due").await?;
        let mut due = Vec::new();
        for item in &found {
            let at: Option<i64> = number_of(item, "due");
            if let Some(at) = at.filter(|at| *at <= now.as_microsecond()) {
                due.push((at, items::lane_of(item)?));
            }
        }
        due.sort();
        due.truncate(limit);
        Ok(due.into_iter().map(|(_, lane)| lane).collect())
    }

    pub(super) async fn troubled_lanes(
        &mut self,
        after: Option<&LaneId>,
        limit: usize,
    ) -> Result<Vec<KeptLane>, StoreError> {
        let mut after = after.cloned();
        let mut troubled = Vec::new();
        // Some may be released while they are read. Fewer than were asked for would be taken for the last.
        while troubled.len() < limit {
            let more = limit - troubled.len();
            let range = Range {
                id: self.table.names.troubles(),
                prefix: "",
                after: after.as_ref().map(items::trouble_part),
                limit: Some(more),
            };
            let found = self.table.query(range, "reading lanes in trouble").await?;
            let lanes = found.iter().map(items::lane_of).collect::<Result<Vec<_>, _>>()?;
            let is_end = lanes.len() < more;
            after = lanes.last().cloned().or(after);
            let records = self.load_records(&lanes).await?;
            for (lane, record) in lanes.into_iter().zip(records).filter(|(_, record)| record.trouble.is_some()) {
                if let Some(first) = self.first_kept(&lane).await? {
                    troubled.push(KeptLane { lane, record, first });
                }
            }
            if is_end {
                break;
            }
        }
        Ok(troubled)
    }
}

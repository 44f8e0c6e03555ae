//! What one transaction in memory does.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{MemoryTx, other_mode};
use crate::{
    bookkeeping::{KeptId, Lane},
    error::StoreError,
    inbox_store::{
        EventId, InboxCounts, InboxKept, InboxTotals, InboxTx, KeptLane, KeptMessage, LaneChange, LaneId, LaneRecord,
        LaneStep, PurgedIds,
    },
    place::Place,
};

impl<S: Clone + Send + 'static> InboxTx for MemoryTx<'_, S> {
    async fn bind(&mut self, mode: &'static str) -> Result<(), StoreError> {
        let known = *self.inner.mode.get_or_insert(mode);
        if (known == "once") != (mode == "once") {
            return Err(other_mode(known, mode));
        }
        self.inner.mode = Some(mode);
        Ok(())
    }

    async fn load(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError> {
        Ok(lanes.iter().map(|lane| self.inner.lanes.get(lane).cloned().unwrap_or_default()).collect())
    }

    async fn save(&mut self, changes: &[LaneChange]) -> Result<(), StoreError> {
        for LaneChange { lane, now, .. } in changes {
            let record = (*now != LaneRecord::default()).then(|| now.clone());
            self.inner.lanes.set(lane.clone(), record);
        }
        Ok(())
    }

    async fn advance(&mut self, steps: &[LaneStep<'_>]) -> Result<Vec<bool>, StoreError> {
        let mut moved = Vec::with_capacity(steps.len());
        for LaneStep { lane, from, to } in steps {
            let before = self.inner.lanes.get(lane).cloned().unwrap_or_default();
            let stands = before.mark == *from && before.trouble.is_none();
            if stands {
                self.inner.lanes.set((*lane).clone(), Some(LaneRecord { mark: *to, ..before }));
            }
            moved.push(stands);
        }
        Ok(moved)
    }

    async fn remember(&mut self, ids: &[EventId], expires: Timestamp, done: bool) -> Result<Vec<bool>, StoreError> {
        let mut new = Vec::with_capacity(ids.len());
        for id in ids {
            let known = self.inner.ids.get(id).is_some();
            if !known {
                self.inner.ids.set(id.clone(), Some((expires, done)));
            }
            new.push(!known);
        }
        Ok(new)
    }

    async fn set_done(&mut self, id: &EventId, done: bool) -> Result<(), StoreError> {
        if let Some(&(expires, _)) = self.inner.ids.get(id) {
            self.inner.ids.set(id.clone(), Some((expires, done)));
        }
        Ok(())
    }

    async fn are_done(&mut self, ids: &[EventId]) -> Result<Vec<bool>, StoreError> {
        Ok(ids.iter().map(|id| self.inner.ids.get(id).is_some_and(|&(_, done)| done)).collect())
    }

    async fn keep(
        &mut self,
        lane: &LaneId,
        place: Place,
        message: &KeptMessage,
        now: Timestamp,
    ) -> Result<Option<KeptId>, StoreError> {
        let slot = (lane.clone(), place);
        if self.inner.kept.get(&slot).is_some() {
            return Ok(None);
        }
        self.inner.last_kept += 1;
        let id = KeptId(self.inner.last_kept);
        self.inner.kept.set(slot, Some(InboxKept { id, place, arrived: now, message: message.clone() }));
        Ok(Some(id))
    }

    async fn first(&mut self, lane: &LaneId) -> Result<Option<InboxKept>, StoreError> {
        let of_lane = self.inner.kept.range((lane.clone(), Place::ORIGIN)..);
        Ok(of_lane.take_while(|((kept_lane, _), _)| kept_lane == lane).map(|(_, kept)| kept.clone()).next())
    }

    async fn remove(&mut self, id: KeptId) -> Result<(), StoreError> {
        let slot = self.inner.kept.iter().find(|(_, kept)| kept.id == id).map(|(slot, _)| slot.clone());
        if let Some(slot) = slot {
            self.inner.kept.set(slot, None);
        }
        Ok(())
    }

    async fn wait_for(&mut self, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError> {
        self.inner.waits.set(waiter.clone(), Some(cause.clone()));
        Ok(())
    }

    async fn stop_waiting(&mut self, waiter: &LaneId) -> Result<(), StoreError> {
        self.inner.waits.set(waiter.clone(), None);
        Ok(())
    }

    async fn waiters(&mut self, causes: &[LaneId]) -> Result<Vec<LaneId>, StoreError> {
        let waits = self.inner.waits.iter();
        Ok(waits.filter(|(_, awaited)| causes.contains(*awaited)).map(|(waiter, _)| waiter.clone()).collect())
    }

    async fn count(&mut self, counts: &InboxCounts) -> Result<(), StoreError> {
        self.inner.counts.add(counts);
        Ok(())
    }

    async fn guard(&mut self) -> Result<(), StoreError> {
        self.guard = Some((self.inner.point(), self.inner.state.clone()));
        Ok(())
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        if let Some((point, state)) = self.guard.take() {
            self.inner.back_to(&point);
            self.inner.state = state;
        }
        Ok(())
    }

    async fn accept(&mut self) -> Result<Option<String>, StoreError> {
        self.guard = None;
        Ok(None)
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<LaneId>, StoreError> {
        let due =
            |record: &LaneRecord| record.trouble.as_ref().and_then(|trouble| trouble.due).filter(|due| *due <= now);
        let lanes = self.inner.lanes.iter();
        let mut lanes: Vec<_> = lanes.filter_map(|(lane, record)| Some((due(record)?, lane.clone()))).collect();
        lanes.sort();
        Ok(lanes.into_iter().take(limit).map(|(_, lane)| lane).collect())
    }

    async fn troubled(&mut self, after: Option<&LaneId>, limit: usize) -> Result<Vec<KeptLane>, StoreError> {
        let lanes: Vec<_> = self
            .inner
            .lanes
            .iter()
            .filter(|(lane, record)| record.trouble.is_some() && after.is_none_or(|after| *lane > after))
            .map(|(lane, record)| (lane.clone(), record.clone()))
            .take(limit)
            .collect();
        let mut troubled = Vec::with_capacity(lanes.len());
        for (lane, record) in lanes {
            if let Some(first) = self.first(&lane).await? {
                troubled.push(KeptLane { lane, record, first });
            }
        }
        Ok(troubled)
    }

    async fn purge_ids(&mut self, now: Timestamp, after: u64, limit: usize) -> Result<PurgedIds, StoreError> {
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        let looked = self.inner.ids.iter().skip(skip).take(limit).count();
        let expired: Vec<_> = self
            .inner
            .ids
            .iter()
            .skip(skip)
            .take(limit)
            .filter(|(_, (expires, done))| *done && *expires <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &expired {
            self.inner.ids.set(id.clone(), None);
        }
        let left = after + (looked - expired.len()) as u64;
        Ok(PurgedIds { forgotten: expired.len() as u64, after: (left < self.inner.ids.len()).then_some(left) })
    }

    async fn totals(&mut self) -> Result<InboxTotals, StoreError> {
        let mut totals = InboxTotals { counts: self.inner.counts, ids: self.inner.ids.len(), ..InboxTotals::default() };
        for (lane, record) in self.inner.lanes.iter() {
            totals.marks += u64::from(matches!(lane.lane, Lane::Key(_)) && record.mark != Place::ORIGIN);
            record.trouble.iter().for_each(|trouble| totals.count(trouble));
        }
        Ok(totals)
    }

    async fn find(&mut self, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
        let found = self.inner.kept.iter().find(|(_, kept)| kept.id == id);
        Ok(found.map(|((lane, _), kept)| (lane.clone(), kept.clone())))
    }

    async fn forget(&mut self, producer: &str) -> Result<u64, StoreError> {
        let of_producer = |lane: &LaneId| &*lane.producer == producer && matches!(lane.lane, Lane::Key(_));
        let lanes: BTreeMap<_, _> = self
            .inner
            .lanes
            .iter()
            .filter(|(lane, _)| of_producer(lane))
            .map(|(lane, record)| (lane.clone(), record.clone()))
            .collect();
        let ids: BTreeSet<_> = self
            .inner
            .ids
            .iter()
            .filter(|(id, (_, done))| &*id.producer == producer && *done)
            .map(|(id, _)| id.clone())
            .collect();
        let forgotten = lanes.values().filter(|record| record.mark != Place::ORIGIN).count() + ids.len();
        for (lane, record) in lanes {
            let left =
                record.trouble.is_some().then(|| LaneRecord { trouble: record.trouble, ..LaneRecord::default() });
            self.inner.lanes.set(lane, left);
        }
        for id in ids {
            self.inner.ids.set(id, None);
        }
        Ok(forgotten as u64)
    }
}

//! What an inbox asks of a transaction of the small database.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use outbox::{
    Lane, Place, StoreError,
    bookkeeping::KeptId,
    inbox::memory::other_mode,
    inbox_store::{
        EventId, InboxCounts, InboxKept, InboxTotals, InboxTx, KeptLane, KeptMessage, LaneChange, LaneId, LaneRecord,
        LaneStep, PurgedIds,
    },
};

use super::database::{Defect, Row, State, Tx};

/// The name by which the database finds a lane or an id.
fn name(tx: &Tx, text: &str) -> String {
    if tx.has(Defect::FoldsCase) { text.to_lowercase() } else { text.to_owned() }
}

fn found(tx: &Tx, lane: &LaneId) -> LaneId {
    let named = match &lane.lane {
        Lane::Key(key) => Lane::Key(outbox::Key::new(name(tx, key.as_str())).unwrap()),
        Lane::Event(id) => Lane::Event(name(tx, id).into()),
    };
    LaneId { producer: lane.producer.clone(), lane: named }
}

fn found_id(tx: &Tx, id: &EventId) -> EventId {
    let producer = if tx.has(Defect::TakesAnyProducer) { "".into() } else { id.producer.clone() };
    EventId { producer, id: name(tx, &id.id).into() }
}

/// What is kept of a lane, by place.
fn kept_of<'s>(state: &'s State, lane: &'s LaneId) -> impl DoubleEndedIterator<Item = &'s InboxKept> {
    state.kept.iter().filter(move |((of, _, _), _)| of == lane).map(|(_, kept)| kept)
}

impl InboxTx for Tx {
    async fn bind(&mut self, mode: &'static str) -> Result<(), StoreError> {
        let known = self.seen().mode.unwrap_or(mode);
        if (known == "once") != (mode == "once") && !self.has(Defect::TakesAnyMode) {
            return Err(other_mode(known, mode));
        }
        self.change(move |state| state.mode = Some(mode));
        Ok(())
    }

    async fn load(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError> {
        let lanes: Vec<_> = lanes.iter().map(|lane| found(self, lane)).collect();
        let locked = match self.database.defect {
            Defect::LocksNoLane => 0,
            Defect::LocksTheFirstLaneOnly => 1,
            _ => lanes.len(),
        };
        for lane in lanes.iter().take(locked) {
            self.lock(Row::Lane(lane.clone())).await?;
        }
        let seen = self.seen();
        if locked < lanes.len() {
            self.leave_a_gap().await;
        }
        Ok(lanes.iter().map(|lane| seen.lanes.get(lane).cloned().unwrap_or_default()).collect())
    }

    async fn save(&mut self, changes: &[LaneChange]) -> Result<(), StoreError> {
        for LaneChange { lane, before, now } in changes {
            let (lane, mut now) = (found(self, lane), now.clone());
            if let Some(trouble) = &mut now.trouble {
                trouble.epoch = if self.has(Defect::ForgetsEpochs) { 1 } else { trouble.epoch };
                trouble.attempts = if self.has(Defect::ForgetsAttempts) { 0 } else { trouble.attempts };
                let first = before.trouble.as_ref().filter(|_| self.has(Defect::KeepsTheFirstSince));
                trouble.since = first.map_or(trouble.since, |first| first.since);
            }
            self.change(move |state| {
                state.lanes.insert(lane.clone(), now.clone());
            });
        }
        Ok(())
    }

    async fn advance(&mut self, steps: &[LaneStep<'_>]) -> Result<Vec<bool>, StoreError> {
        if !self.has(Defect::AdvancesMarksElsewhere) {
            return Ok(vec![false; steps.len()]);
        }
        let mut moved = Vec::new();
        for LaneStep { lane, from, to } in steps {
            self.database.slip(|state| {
                let record = state.lanes.entry((*lane).clone()).or_default();
                let stands = record.mark == *from && record.trouble.is_none();
                record.mark = if stands { *to } else { record.mark };
                moved.push(stands);
            });
        }
        Ok(moved)
    }

    async fn remember(&mut self, ids: &[EventId], expires: Timestamp, done: bool) -> Result<Vec<bool>, StoreError> {
        let mut new = Vec::new();
        for id in ids {
            let id = found_id(self, id);
            self.lock(Row::Id(id.clone())).await?;
            new.push(!self.seen().ids.contains_key(&id));
            self.change(move |state| {
                state.ids.entry(id.clone()).or_insert((expires, done));
            });
        }
        Ok(new)
    }

    async fn set_done(&mut self, id: &EventId, done: bool) -> Result<(), StoreError> {
        let id = found_id(self, id);
        self.lock(Row::Id(id.clone())).await?;
        self.change(move |state| {
            state.ids.entry(id.clone()).and_modify(|(_, is_done)| *is_done = done);
        });
        Ok(())
    }

    async fn are_done(&mut self, ids: &[EventId]) -> Result<Vec<bool>, StoreError> {
        let ids: Vec<_> = ids.iter().map(|id| found_id(self, id)).collect();
        let locks = !self.has(Defect::LocksNoId);
        for id in ids.iter().filter(|_| locks) {
            self.lock(Row::Id(id.clone())).await?;
        }
        let seen = self.seen();
        if !locks {
            self.leave_a_gap().await;
        }
        Ok(ids.iter().map(|id| seen.ids.get(id).is_some_and(|(_, done)| *done)).collect())
    }

    async fn keep(
        &mut self,
        lane: &LaneId,
        place: Place,
        message: &KeptMessage,
        now: Timestamp,
    ) -> Result<Option<KeptId>, StoreError> {
        let lane = found(self, lane);
        let known = kept_of(&self.seen(), &lane).any(|kept| kept.place == place);
        if known && !self.has(Defect::KeepsAPlaceTwice) {
            return Ok(None);
        }
        let id = KeptId(self.database.last_kept.fetch_add(1, Ordering::Relaxed) + 1);
        let kept = InboxKept { id, place, arrived: now, message: message.clone() };
        self.change(move |state| {
            state.kept.insert((lane.clone(), place, id), kept.clone());
        });
        Ok(Some(id))
    }

    async fn first(&mut self, lane: &LaneId) -> Result<Option<InboxKept>, StoreError> {
        let (seen, lane) = (self.seen(), found(self, lane));
        let mut kept = kept_of(&seen, &lane);
        let first = if self.has(Defect::GivesTheLastKept) { kept.next_back() } else { kept.next() };
        Ok(first.cloned())
    }

    async fn remove(&mut self, id: KeptId) -> Result<(), StoreError> {
        let Some((lane, _)) = self.find(id).await? else { return Ok(()) };
        let all = self.has(Defect::RemovesAllOfALane);
        self.change(move |state| state.kept.retain(|(of, _, kept), _| *kept != id && !(all && *of == lane)));
        Ok(())
    }

    async fn wait_for(&mut self, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError> {
        let (cause, waiter) = (found(self, cause), found(self, waiter));
        if !self.has(Defect::LosesWaits) {
            self.change(move |state| {
                state.waits.insert(waiter.clone(), cause.clone());
            });
        }
        Ok(())
    }

    async fn stop_waiting(&mut self, waiter: &LaneId) -> Result<(), StoreError> {
        let waiter = found(self, waiter);
        self.change(move |state| {
            state.waits.remove(&waiter);
        });
        Ok(())
    }

    async fn waiters(&mut self, causes: &[LaneId]) -> Result<Vec<LaneId>, StoreError> {
        let causes: Vec<_> = causes.iter().map(|cause| found(self, cause)).collect();
        let waits = self.seen().waits.into_iter().filter(|(_, cause)| causes.contains(cause));
        let most = if self.has(Defect::WakesOne) { 1 } else { usize::MAX };
        Ok(waits.map(|(waiter, _)| waiter).take(most).collect())
    }

    async fn count(&mut self, counts: &InboxCounts) -> Result<(), StoreError> {
        let counts = *counts;
        self.change(move |state| state.counts.add(&counts));
        Ok(())
    }

    async fn guard(&mut self) -> Result<(), StoreError> {
        self.point();
        Ok(())
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.back_to_point();
        Ok(())
    }

    async fn accept(&mut self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<LaneId>, StoreError> {
        let due = |record: LaneRecord| record.trouble?.due.filter(|due| *due <= now);
        let lanes = self.seen().lanes.into_iter().filter_map(|(lane, record)| Some((due(record)?, lane)));
        let mut lanes: Vec<_> = lanes.collect();
        lanes.sort();
        Ok(lanes.into_iter().take(limit).map(|(_, lane)| lane).collect())
    }

    async fn troubled(&mut self, after: Option<&LaneId>, limit: usize) -> Result<Vec<KeptLane>, StoreError> {
        let seen = self.seen();
        let first = |lane: &LaneId| kept_of(&seen, lane).next().cloned();
        let lanes = seen
            .lanes
            .iter()
            .filter(|(lane, record)| record.trouble.is_some() && after.is_none_or(|after| *lane > after));
        let kept = lanes.filter_map(|(lane, record)| {
            Some(KeptLane { lane: lane.clone(), record: record.clone(), first: first(lane)? })
        });
        Ok(kept.take(limit).collect())
    }

    async fn purge_ids(&mut self, now: Timestamp, _: u64, _: usize) -> Result<PurgedIds, StoreError> {
        let (early, any) = (self.has(Defect::PurgesWhatHasNotExpired), self.has(Defect::PurgesWhatIsNotDone));
        let before = self.seen().ids.len();
        self.change(move |state| {
            state.ids.retain(|_, (expires, done)| !((*expires <= now || early) && (*done || any)));
        });
        Ok(PurgedIds { forgotten: (before - self.seen().ids.len()) as u64, after: None })
    }

    async fn totals(&mut self) -> Result<InboxTotals, StoreError> {
        let seen = self.seen();
        let marks = seen.lanes.values().filter(|record| record.mark != Place::ORIGIN).count() as u64;
        let (ids, counts) = (seen.ids.len() as u64, seen.counts);
        let mut totals = InboxTotals { marks, ids, counts, ..InboxTotals::default() };
        seen.lanes.values().filter_map(|record| record.trouble.as_ref()).for_each(|trouble| totals.count(trouble));
        Ok(totals)
    }

    async fn find(&mut self, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
        let found = self.seen().kept.into_iter().find(|((_, _, kept), _)| *kept == id);
        Ok(found.map(|((lane, _, _), kept)| (lane, kept)))
    }

    async fn forget(&mut self, producer: &str) -> Result<u64, StoreError> {
        let (producer, every) = (producer.to_owned(), self.has(Defect::ForgetsEveryProducer));
        let known = |state: &State| {
            state.lanes.values().filter(|record| record.mark != Place::ORIGIN).count() + state.ids.len()
        };
        let before = known(&self.seen());
        self.change(move |state| {
            let of = |name: &str| every || name == producer;
            for (lane, record) in &mut state.lanes {
                let trouble = record.trouble.take();
                *record = if of(&lane.producer) { LaneRecord::default() } else { record.clone() };
                record.trouble = trouble;
            }
            state.ids.retain(|id, (_, done)| !(of(&id.producer) && *done));
        });
        Ok((before - known(&self.seen())) as u64)
    }
}

//! What an inbox asks of its transaction.

use jiff::Timestamp;
use outbox::{
    Place, StoreError,
    bookkeeping::KeptId,
    inbox::memory::other_mode,
    inbox_store::{
        EventId, InboxCounts, InboxKept, InboxTotals, InboxTx, KeptLane, KeptMessage, LaneChange, LaneId, LaneRecord,
        LaneStep, PurgedIds,
    },
};

use super::tx::DynamoTx;
use crate::dynamodb::item::text_of;

impl InboxTx for DynamoTx<'_> {
    async fn bind(&mut self, mode: &'static str) -> Result<(), StoreError> {
        let found = self.table.consumer().await?;
        let known = text_of(&found, "mode");
        if let Some(known) = known.filter(|known| (*known == "once") != (mode == "once")) {
            return Err(other_mode(known, mode));
        }
        self.mode = (known != Some(mode)).then(|| (known.map(str::to_owned), mode));
        Ok(())
    }

    async fn load(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError> {
        self.load_records(lanes).await
    }

    async fn save(&mut self, changes: &[LaneChange]) -> Result<(), StoreError> {
        self.save_lanes(changes).await
    }

    async fn advance(&mut self, steps: &[LaneStep<'_>]) -> Result<Vec<bool>, StoreError> {
        Ok(self.advance_lanes(steps))
    }

    async fn remember(&mut self, ids: &[EventId], expires: Timestamp, done: bool) -> Result<Vec<bool>, StoreError> {
        self.remember_ids(ids, expires, done).await
    }

    async fn set_done(&mut self, id: &EventId, done: bool) -> Result<(), StoreError> {
        self.set_id_done(id, done).await
    }

    async fn are_done(&mut self, ids: &[EventId]) -> Result<Vec<bool>, StoreError> {
        self.ids_done(ids).await
    }

    async fn keep(
        &mut self,
        lane: &LaneId,
        place: Place,
        message: &KeptMessage,
        now: Timestamp,
    ) -> Result<Option<KeptId>, StoreError> {
        self.keep_message(lane, place, message, now).await
    }

    async fn first(&mut self, lane: &LaneId) -> Result<Option<InboxKept>, StoreError> {
        self.first_kept(lane).await
    }

    async fn remove(&mut self, id: KeptId) -> Result<(), StoreError> {
        self.remove_kept(id).await
    }

    async fn wait_for(&mut self, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError> {
        self.begin_waiting(cause, waiter).await
    }

    async fn stop_waiting(&mut self, waiter: &LaneId) -> Result<(), StoreError> {
        self.end_waiting(waiter).await
    }

    async fn waiters(&mut self, causes: &[LaneId]) -> Result<Vec<LaneId>, StoreError> {
        self.lanes_waiting(causes).await
    }

    async fn count(&mut self, counts: &InboxCounts) -> Result<(), StoreError> {
        self.counted.add(counts);
        Ok(())
    }

    async fn guard(&mut self) -> Result<(), StoreError> {
        self.effect.next();
        self.guarded = self.effect.len();
        Ok(())
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.effect.truncate(self.guarded);
        Ok(())
    }

    async fn accept(&mut self) -> Result<Option<String>, StoreError> {
        let does_something = self.effect.len() > self.guarded;
        let known = self.hints.refused.get(self.effect.doer()).or(self.hints.refuses_all.as_ref());
        Ok(known.filter(|_| does_something).cloned())
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<LaneId>, StoreError> {
        self.due_lanes(now, limit).await
    }

    async fn troubled(&mut self, after: Option<&LaneId>, limit: usize) -> Result<Vec<KeptLane>, StoreError> {
        self.troubled_lanes(after, limit).await
    }

    /// Deletes nothing, for DynamoDB does, up to two days late: from now on, what has expired by `now` counts as forgotten.
    async fn purge_ids(&mut self, now: Timestamp, _: u64, _: usize) -> Result<PurgedIds, StoreError> {
        self.table.forget_until(now);
        Ok(PurgedIds::default())
    }

    async fn totals(&mut self) -> Result<InboxTotals, StoreError> {
        self.table.totals().await
    }

    async fn find(&mut self, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
        self.find_kept(id).await
    }

    /// Not in the transaction: it may be more than one takes. What is forgotten is so at once.
    async fn forget(&mut self, producer: &str) -> Result<u64, StoreError> {
        self.table.forget(producer).await
    }
}

//! Which lanes wait for their cause.
//!
//! A lane that begins to wait writes the item of the lane that it waits for: whoever applies something there meanwhile, and
//! has looked for lanes that wait, finds that it changed, and looks again. The other way round, what was applied there first
//! shows in that item, where the lane has a key; where it is an event without one, in the item of its id.

use outbox::{
    Lane, StoreError,
    inbox_store::{EventId, LaneId, TroubleState},
};

use super::{
    items::{self, WAITER},
    table::Range,
    tx::{DynamoTx, Waits},
};

impl DynamoTx<'_> {
    pub(super) async fn begin_waiting(&mut self, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError> {
        if let Lane::Event(id) = &cause.lane {
            self.check_id(EventId { producer: cause.producer.clone(), id: id.clone() }).await?;
        }
        let awaited = self.lane(cause).await?;
        (awaited.touched, awaited.awaited) = (true, true);
        self.waiting(waiter).await?.now = Some(cause.clone());
        Ok(())
    }

    pub(super) async fn end_waiting(&mut self, waiter: &LaneId) -> Result<(), StoreError> {
        self.waiting(waiter).await?.now = None;
        Ok(())
    }

    /// What a lane waits for, read unless its trouble says that it waits for nothing.
    async fn waiting(&mut self, waiter: &LaneId) -> Result<&mut Waits, StoreError> {
        if !self.waits.contains_key(waiter) {
            let waits = |state| state == TroubleState::Cause;
            let waits =
                self.lane(waiter).await?.read.record.trouble.as_ref().is_some_and(|trouble| waits(trouble.state));
            let before = if waits {
                let found = self.table.item(self.table.names.wait(waiter), "reading what a key waits for").await?;
                found.as_ref().map(items::lane_of).transpose()?
            } else {
                None
            };
            self.waits.insert(waiter.clone(), Waits { now: before.clone(), before });
        }
        Ok(self.waits.entry(waiter.clone()).or_insert(Waits { before: None, now: None }))
    }

    pub(super) async fn lanes_waiting(&mut self, causes: &[LaneId]) -> Result<Vec<LaneId>, StoreError> {
        self.load_lanes(causes).await?;
        let mut waiters = Vec::new();
        for cause in causes {
            let loaded = self.lane(cause).await?;
            loaded.checked = true;
            if loaded.read.awaited {
                let range = Range { id: self.table.names.lane(cause), prefix: WAITER, after: None, limit: None };
                let found = self.table.query(range, "looking for keys that wait").await?;
                for item in &found {
                    let waiter = items::lane_of(item)?;
                    // This transaction may know better.
                    if self.waits.get(&waiter).is_none_or(|waits| waits.now.as_ref() == Some(cause)) {
                        waiters.push(waiter);
                    }
                }
                if found.is_empty() && !self.lane(cause).await?.touched {
                    self.lane(cause).await?.awaited = false;
                }
            }
            let here = self.waits.iter().filter(|(_, waits)| waits.now.as_ref() == Some(cause));
            waiters.extend(here.map(|(waiter, _)| waiter.clone()));
        }
        waiters.sort();
        waiters.dedup();
        Ok(waiters)
    }
}

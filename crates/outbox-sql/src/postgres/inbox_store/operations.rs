//! What an inbox asks of its transaction.

use jiff::Timestamp;
use outbox::{
    Place, StoreError,
    bookkeeping::KeptId,
    inbox::memory::other_mode,
    inbox_store::{
        EventId, InboxCounts, InboxKept, InboxTotals, InboxTx, KeptLane, KeptMessage, LaneChange, LaneId, LaneRecord,
        PurgedIds,
    },
};
use tokio_postgres::types::Type;

use super::{
    driver::{Driver, Param, column},
    ids, kept, lanes,
    tx::{PostgresTx, micros},
    unsent::Unsent,
    waits,
};

impl<D: Driver> InboxTx for PostgresTx<'_, D> {
    async fn bind(&mut self, mode: &'static str) -> Result<(), StoreError> {
        let consumer = self.consumer();
        let consumer: Param<'_> = (&consumer, Type::TEXT);
        let sql = "SELECT mode FROM outbox_inbox.consumers WHERE name = $1 FOR UPDATE";
        let rows = self.query("noting the mode of the inbox", sql, std::slice::from_ref(&consumer)).await?;
        let known: Option<String> = rows.first().map(|row| column(row, 0)).transpose()?.flatten();
        if let Some(known) = known.filter(|known| (known == "once") != (mode == "once")) {
            return Err(other_mode(&known, mode));
        }
        let sql = "UPDATE outbox_inbox.consumers SET mode = $2 WHERE name = $1 AND mode IS DISTINCT FROM $2";
        self.query("noting the mode of the inbox", sql, &[consumer, (&mode, Type::TEXT)]).await.map(drop)
    }

    async fn load(&mut self, wanted: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError> {
        lanes::load(self, wanted).await
    }

    async fn save(&mut self, changes: &[LaneChange]) -> Result<(), StoreError> {
        let changes = lanes::Changes::of(self, changes).await?;
        self.unsent().save(changes);
        Ok(())
    }

    async fn remember(&mut self, ids: &[EventId], expires: Timestamp, done: bool) -> Result<Vec<bool>, StoreError> {
        ids::remember(self, ids, expires, done).await
    }

    async fn set_done(&mut self, id: &EventId, done: bool) -> Result<(), StoreError> {
        ids::set_done(self, id, done).await
    }

    async fn are_done(&mut self, ids: &[EventId]) -> Result<Vec<bool>, StoreError> {
        ids::are_done(self, ids).await
    }

    async fn keep(
        &mut self,
        lane: &LaneId,
        place: Place,
        message: &KeptMessage,
        now: Timestamp,
    ) -> Result<Option<KeptId>, StoreError> {
        kept::keep(self, lane, place, message, now).await
    }

    async fn first(&mut self, lane: &LaneId) -> Result<Option<InboxKept>, StoreError> {
        kept::first(self, lane).await
    }

    async fn remove(&mut self, id: KeptId) -> Result<(), StoreError> {
        self.unsent().remove(id);
        Ok(())
    }

    async fn wait_for(&mut self, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError> {
        waits::begin(self, cause, waiter).await
    }

    async fn stop_waiting(&mut self, waiter: &LaneId) -> Result<(), StoreError> {
        waits::end(self, waiter).await
    }

    async fn waiters(&mut self, causes: &[LaneId]) -> Result<Vec<LaneId>, StoreError> {
        waits::of_causes(self, causes).await
    }

    async fn count(&mut self, counts: &InboxCounts) -> Result<(), StoreError> {
        self.add(counts);
        Ok(())
    }

    async fn guard(&mut self) -> Result<(), StoreError> {
        self.point(&["SAVEPOINT outbox_effect"]).await
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        // What was not sent is of after the point.
        *self.unsent() = Unsent::default();
        self.point(&["ROLLBACK TO SAVEPOINT outbox_effect", "RELEASE SAVEPOINT outbox_effect"]).await
    }

    async fn accept(&mut self) -> Result<Option<String>, StoreError> {
        // Constraints that are deferred are checked now, and again by the commit: going back makes them what they were.
        let checking = ["SAVEPOINT outbox_check", "SET CONSTRAINTS ALL IMMEDIATE"];
        if let Err(refused) = self.try_point(&checking).await? {
            return Ok(Some(refused));
        }
        let accepting =
            ["ROLLBACK TO SAVEPOINT outbox_check", "RELEASE SAVEPOINT outbox_check", "RELEASE SAVEPOINT outbox_effect"];
        self.point(&accepting).await.map(|()| None)
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<LaneId>, StoreError> {
        let consumer = self.consumer();
        lanes::read_lanes(
            self,
            "SELECT p.producer, t.lane FROM outbox_inbox.troubles t JOIN outbox_inbox.producers p ON p.id = t.producer \
             WHERE t.due <= $1 AND p.consumer = $2 ORDER BY t.due LIMIT $3",
            &[(&micros(now), Type::INT8), (&consumer, Type::TEXT), (&most(limit), Type::INT8)],
        )
        .await
    }

    async fn troubled(&mut self, after: Option<&LaneId>, limit: usize) -> Result<Vec<KeptLane>, StoreError> {
        lanes::troubled(self, after, most(limit)).await
    }

    async fn purge_ids(&mut self, now: Timestamp, after: u64, limit: usize) -> Result<PurgedIds, StoreError> {
        ids::purge(self, now, after, most(limit)).await
    }

    async fn totals(&mut self) -> Result<InboxTotals, StoreError> {
        lanes::totals(self).await
    }

    async fn find(&mut self, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
        kept::find(self, id).await
    }

    async fn forget(&mut self, producer: &str) -> Result<u64, StoreError> {
        ids::forget(self, producer).await
    }
}

/// A `LIMIT`.
fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

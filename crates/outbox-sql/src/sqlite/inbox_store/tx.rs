//! One transaction of the inbox.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use outbox::{
    ErrorKind, Lane, Place, StoreError,
    bookkeeping::KeptId,
    inbox::memory::other_mode,
    inbox_store::{
        EventId, InboxCounts, InboxKept, InboxTotals, InboxTx, KeptLane, KeptMessage, LaneChange, LaneId, LaneRecord,
        LaneStep, PurgedIds,
    },
};
use rusqlite::{CachedStatement, OptionalExtension, Transaction};

use super::{super::failure::store_error, kept, lanes};

/// The numbers of this consumer's producers, as far as they were needed.
#[derive(Default)]
pub(super) struct Producers {
    all: HashMap<Arc<str>, i64>,
    /// The one asked for last: most often the next is the same.
    last: Option<(Arc<str>, i64)>,
}

impl Producers {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.last = None;
    }

    fn get(&mut self, producer: &Arc<str>) -> Option<i64> {
        if let Some((last, id)) = &self.last
            && last == producer
        {
            return Some(*id);
        }
        let id = *self.all.get(producer)?;
        self.last = Some((producer.clone(), id));
        Some(id)
    }
}

/// One transaction of a [`SqliteInbox`](super::SqliteInbox): what a handler writes through it commits together with the
/// record that it was done.
pub struct SqliteTx<'t> {
    transaction: &'t Transaction<'t>,
    consumer: &'t str,
    producers: &'t mut Producers,
}

impl<'t> SqliteTx<'t> {
    pub(super) fn new(transaction: &'t Transaction<'t>, consumer: &'t str, producers: &'t mut Producers) -> Self {
        Self { transaction, consumer, producers }
    }

    /// The transaction itself. It must not be committed or rolled back.
    pub fn transaction(&self) -> &'t Transaction<'t> {
        self.transaction
    }

    pub(super) fn consumer(&self) -> &'t str {
        self.consumer
    }

    /// A statement, compiled once for the connection.
    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'t>, StoreError> {
        self.transaction.prepare_cached(sql).map_err(store_error("preparing a statement of the inbox"))
    }

    /// The number of `producer`, given now if it has none.
    pub(super) fn producer(&mut self, producer: &Arc<str>) -> Result<i64, StoreError> {
        if let Some(id) = self.producers.get(producer) {
            return Ok(id);
        }
        let attempted = "numbering a producer";
        let known = self
            .prepare("SELECT id FROM outbox_inbox_producers WHERE consumer = ?1 AND producer = ?2")?
            .query_row((self.consumer, &**producer), |row| row.get(0))
            .optional()
            .map_err(store_error(attempted))?;
        let id = match known {
            Some(id) => id,
            None => self
                .prepare("INSERT INTO outbox_inbox_producers (consumer, producer) VALUES (?1, ?2)")?
                .insert((self.consumer, &**producer))
                .map_err(store_error(attempted))?,
        };
        self.producers.all.insert(producer.clone(), id);
        Ok(id)
    }

    /// Whether the transaction is still open: a full disk ends it, and so does a handler that commits it.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.transaction.is_autocommit() {
            let message =
                "the transaction ended before its commit: the disk is full, or a handler ended it, which it must not";
            return Err(StoreError::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    fn point(&self, sql: &str) -> Result<(), StoreError> {
        self.check_open()?;
        self.prepare(sql)?.execute([]).map_err(store_error("setting a handler's effect apart"))?;
        Ok(())
    }
}

pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A `LIMIT`.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl InboxTx for SqliteTx<'_> {
    async fn bind(&mut self, mode: &'static str) -> Result<(), StoreError> {
        let attempted = "noting the mode of the inbox";
        let known: Option<String> = self
            .prepare("SELECT mode FROM outbox_inbox_consumers WHERE name = ?1")?
            .query_row([self.consumer], |row| row.get(0))
            .map_err(store_error(attempted))?;
        if let Some(known) = known.filter(|known| (known == "once") != (mode == "once")) {
            return Err(other_mode(&known, mode));
        }
        self.prepare("UPDATE outbox_inbox_consumers SET mode = ?2 WHERE name = ?1 AND mode IS NOT ?2")?
            .execute([self.consumer, mode])
            .map_err(store_error(attempted))?;
        Ok(())
    }

    async fn load(&mut self, wanted: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError> {
        lanes::load(self, wanted)
    }

    async fn advance(&mut self, steps: &[LaneStep<'_>]) -> Result<Vec<bool>, StoreError> {
        lanes::advance(self, steps)
    }

    async fn save(&mut self, changes: &[LaneChange]) -> Result<(), StoreError> {
        lanes::save(self, changes)
    }

    async fn remember(&mut self, ids: &[EventId], expires: Timestamp, done: bool) -> Result<Vec<bool>, StoreError> {
        let mut insert = self.prepare(
            "INSERT INTO outbox_inbox_ids (producer, id, expires, done) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?;
        let expires = micros(expires);
        let mut new = Vec::with_capacity(ids.len());
        for EventId { producer, id } in ids {
            let producer = self.producer(producer)?;
            let inserted =
                insert.execute((producer, &**id, expires, done)).map_err(store_error("remembering an event's id"))?;
            new.push(inserted == 1);
        }
        Ok(new)
    }

    async fn set_done(&mut self, id: &EventId, done: bool) -> Result<(), StoreError> {
        let producer = self.producer(&id.producer)?;
        self.prepare("UPDATE outbox_inbox_ids SET done = ?3 WHERE producer = ?1 AND id = ?2")?
            .execute((producer, &*id.id, done))
            .map_err(store_error("noting whether an event is done with"))?;
        Ok(())
    }

    async fn are_done(&mut self, ids: &[EventId]) -> Result<Vec<bool>, StoreError> {
        let mut find = self.prepare("SELECT 1 FROM outbox_inbox_ids WHERE producer = ?1 AND id = ?2 AND done")?;
        let mut done = Vec::with_capacity(ids.len());
        for EventId { producer, id } in ids {
            let producer = self.producer(producer)?;
            done.push(find.exists((producer, &**id)).map_err(store_error("looking for an event's id"))?);
        }
        Ok(done)
    }

    async fn keep(
        &mut self,
        lane: &LaneId,
        place: Place,
        message: &KeptMessage,
        now: Timestamp,
    ) -> Result<Option<KeptId>, StoreError> {
        kept::keep(self, lane, place, message, now)
    }

    async fn first(&mut self, lane: &LaneId) -> Result<Option<InboxKept>, StoreError> {
        kept::first(self, lane)
    }

    async fn remove(&mut self, id: KeptId) -> Result<(), StoreError> {
        self.prepare("DELETE FROM outbox_inbox_kept WHERE id = ?1")?
            .execute([id.0.cast_signed()])
            .map_err(store_error("removing a kept event"))?;
        Ok(())
    }

    async fn wait_for(&mut self, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError> {
        let (cause_producer, producer) = (self.producer(&cause.producer)?, self.producer(&waiter.producer)?);
        self.prepare(
            "INSERT OR REPLACE INTO outbox_inbox_waits (producer, lane, cause_producer, cause_lane) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((producer, waiter.lane.to_text(), cause_producer, cause.lane.to_text()))
        .map_err(store_error("noting that an event waits for its cause"))?;
        Ok(())
    }

    async fn stop_waiting(&mut self, waiter: &LaneId) -> Result<(), StoreError> {
        let producer = self.producer(&waiter.producer)?;
        self.prepare("DELETE FROM outbox_inbox_waits WHERE producer = ?1 AND lane = ?2")?
            .execute((producer, waiter.lane.to_text()))
            .map_err(store_error("noting that an event waits no longer"))?;
        Ok(())
    }

    async fn waiters(&mut self, causes: &[LaneId]) -> Result<Vec<LaneId>, StoreError> {
        let mut waiters = Vec::new();
        for cause in causes {
            let producer = self.producer(&cause.producer)?;
            waiters.extend(lanes::read_lanes(
                self,
                "SELECT p.producer, w.lane FROM outbox_inbox_waits w \
                 JOIN outbox_inbox_producers p ON p.id = w.producer \
                 WHERE w.cause_producer = ?1 AND w.cause_lane = ?2",
                (producer, cause.lane.to_text()),
            )?);
        }
        waiters.sort();
        Ok(waiters)
    }

    async fn count(&mut self, counts: &InboxCounts) -> Result<(), StoreError> {
        let number = u64::cast_signed;
        self.prepare(
            "UPDATE outbox_inbox_consumers SET applied = applied + ?2, duplicates = duplicates + ?3, \
             superseded = superseded + ?4, ignored = ignored + ?5, early = early + ?6, \
             history_back = history_back + ?7 WHERE name = ?1",
        )?
        .execute((
            self.consumer,
            number(counts.applied),
            number(counts.duplicates),
            number(counts.superseded),
            number(counts.ignored),
            number(counts.early),
            number(counts.history_back),
        ))
        .map_err(store_error("counting what the inbox did"))?;
        Ok(())
    }

    async fn guard(&mut self) -> Result<(), StoreError> {
        self.point("SAVEPOINT outbox_effect")
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.point("ROLLBACK TO outbox_effect")?;
        self.point("RELEASE outbox_effect")
    }

    async fn accept(&mut self) -> Result<Option<String>, StoreError> {
        self.point("RELEASE outbox_effect").map(|()| None)
    }

    async fn still_open(&mut self) -> Result<(), StoreError> {
        self.check_open()
    }

    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<LaneId>, StoreError> {
        lanes::read_lanes(
            self,
            "SELECT p.producer, t.lane FROM outbox_inbox_troubles t JOIN outbox_inbox_producers p ON p.id = t.producer \
             WHERE t.due <= ?1 AND p.consumer = ?2 ORDER BY t.due LIMIT ?3",
            (micros(now), self.consumer, rows(limit)),
        )
    }

    async fn troubled(&mut self, after: Option<&LaneId>, limit: usize) -> Result<Vec<KeptLane>, StoreError> {
        let (producer, lane) = after.map_or_else(Default::default, |after| (&*after.producer, after.lane.to_text()));
        let found = lanes::read_lanes(
            self,
            "SELECT p.producer, t.lane FROM outbox_inbox_troubles t JOIN outbox_inbox_producers p ON p.id = t.producer \
             WHERE p.consumer = ?1 AND (p.producer, t.lane) > (?2, ?3) ORDER BY p.producer, t.lane LIMIT ?4",
            (self.consumer, producer, lane, rows(limit)),
        )?;
        let records = lanes::load(self, &found)?;
        let mut troubled = Vec::with_capacity(found.len());
        for (lane, record) in found.into_iter().zip(records) {
            if let Some(first) = kept::first(self, &lane)? {
                troubled.push(KeptLane { lane, record, first });
            }
        }
        Ok(troubled)
    }

    async fn purge_ids(&mut self, now: Timestamp, after: u64, limit: usize) -> Result<PurgedIds, StoreError> {
        // By the numbers that ids were given as they came: no index on the expiry, which every event would have to pay for.
        let after = after.cast_signed();
        let attempted = store_error("forgetting ids that expired");
        let last: Option<i64> = self
            .prepare("SELECT max(n) FROM (SELECT n FROM outbox_inbox_ids WHERE n > ?1 ORDER BY n LIMIT ?2)")?
            .query_row((after, rows(limit)), |row| row.get(0))
            .map_err(&attempted)?;
        let Some(last) = last else { return Ok(PurgedIds::default()) };
        let forgotten = self
            .prepare("DELETE FROM outbox_inbox_ids WHERE n > ?1 AND n <= ?2 AND done AND expires <= ?3")?
            .execute((after, last, micros(now)))
            .map_err(&attempted)?;
        Ok(PurgedIds { forgotten: forgotten as u64, after: Some(last.cast_unsigned()) })
    }

    async fn totals(&mut self) -> Result<InboxTotals, StoreError> {
        lanes::totals(self)
    }

    async fn find(&mut self, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
        kept::find(self, id)
    }

    async fn forget(&mut self, producer: &str) -> Result<u64, StoreError> {
        let producer = self.producer(&producer.into())?;
        let attempted = store_error("forgetting a producer's marks");
        let run = |sql| self.prepare(sql)?.execute([producer]).map_err(&attempted);
        let marks = run("DELETE FROM outbox_inbox_marks WHERE producer = ?1 AND NOT troubled")?;
        let troubled = run("UPDATE outbox_inbox_marks SET incarnation = 0, sequence = 0, idx = 0, life = 0 \
             WHERE producer = ?1 AND sequence > 0")?;
        let ids = run("DELETE FROM outbox_inbox_ids WHERE producer = ?1 AND done")?;
        Ok((marks + troubled + ids) as u64)
    }
}

/// The lane that a row's text names.
pub(super) fn lane_of(producer: &str, text: &str) -> Result<LaneId, StoreError> {
    let unreadable = || {
        let message = format!("the inbox's tables name a lane `{text}`, which is none: restore them from a backup");
        StoreError::new(ErrorKind::Invalid, message)
    };
    Ok(LaneId { producer: producer.into(), lane: Lane::from_text(text).ok_or_else(unreadable)? })
}

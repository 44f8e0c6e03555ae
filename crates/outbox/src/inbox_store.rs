//! Inbox stores: where a consumer remembers what it has applied, and keeps what it cannot apply yet.
//!
//! Everything that an inbox decides, it decides in one place ([`inbox`](crate::inbox)) over the operations of
//! [`InboxTx`], one transaction of a store. The handler's effect is written through the same transaction, so the
//! record and the effect commit together or not at all.
//!
//! The futures are not `Send`, so that a transaction that is bound to a thread (SQLite's) fits as well as one that
//! waits for a network. A store whose transactions wait runs its jobs on a thread of its own, or a local task set. What
//! a batch needs to know is asked for at once ([`InboxTx::load`]) and what changed is handed over at once
//! ([`InboxTx::save`]): a database over a network needs one round trip for each, and a store without interactive
//! transactions collects the writes and makes them one conditional write.

use std::future::Future;

use jiff::Timestamp;

use crate::{bookkeeping::KeptId, error::StoreError, place::Place};

mod job;
mod record;

pub use job::{Abort, Isolation, Job};
pub use record::{
    EventId, InboxCounts, InboxKept, InboxTotals, KeptLane, KeptMessage, LaneChange, LaneId, LaneRecord, LaneStep,
    Life, PurgedIds, Trouble, TroubleState,
};

/// One transaction of an inbox store. All that is done through it, the handler's effect included, commits together.
///
/// *Isolation*: a lane that was loaded changes by nobody else until the transaction ends, and neither does whether an event is
/// done with that was asked for ([`are_done`](Self::are_done)), remembered yet or not: [`set_done`](Self::set_done) waits, or
/// one of the two does not commit. Else an event could begin to wait for its cause just while that is done with, and nobody
/// would wake it. A store without a lock on the whole makes the lane's row and locks it, and locks an id, which may have no row,
/// by its name. *Cancellation*: the transaction is rolled back.
#[expect(async_fn_in_trait, reason = "futures need not be Send: a transaction stays on the thread of its store")]
pub trait InboxTx {
    /// Makes sure that the store's records can be used by mode `mode`; notes the mode the first time.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if what is recorded belongs to a mode that records otherwise.
    async fn bind(&mut self, mode: &'static str) -> Result<(), StoreError>;

    /// What is known of `lanes`, which are sorted, in their order; the default for a lane that is not known.
    ///
    /// # Errors
    /// As the store gave it.
    async fn load(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError>;

    /// Writes lanes that were loaded as `before` and are `now`.
    ///
    /// # Errors
    /// As the store gave it.
    async fn save(&mut self, changes: &[LaneChange]) -> Result<(), StoreError>;

    /// Moves on, without their being loaded, those of the lanes that keep nothing and stand where their step begins;
    /// says of each step whether it did, one after the other. A store that cannot tell at once moves none, as does one
    /// that locks lanes one by one: the others are loaded afterwards, and two passes could wait for each other.
    ///
    /// # Errors
    /// As the store gave it.
    async fn advance(&mut self, steps: &[LaneStep<'_>]) -> Result<Vec<bool>, StoreError> {
        Ok(vec![false; steps.len()])
    }

    /// Remembers `ids` until `expires` at least, `done` with or not, and says of each whether it was new.
    ///
    /// # Errors
    /// As the store gave it.
    async fn remember(&mut self, ids: &[EventId], expires: Timestamp, done: bool) -> Result<Vec<bool>, StoreError>;

    /// Notes whether a remembered id's event is done with. While it is not, the id does not expire and counts as a
    /// cause for nobody.
    ///
    /// # Errors
    /// As the store gave it.
    async fn set_done(&mut self, id: &EventId, done: bool) -> Result<(), StoreError>;

    /// Says of each of `ids`, which are sorted, whether it is remembered and its event done with.
    ///
    /// # Errors
    /// As the store gave it.
    async fn are_done(&mut self, ids: &[EventId]) -> Result<Vec<bool>, StoreError>;

    /// Keeps a message in its lane; `None` if the lane keeps one of the same place already.
    ///
    /// # Errors
    /// As the store gave it.
    async fn keep(
        &mut self,
        lane: &LaneId,
        place: Place,
        message: &KeptMessage,
        now: Timestamp,
    ) -> Result<Option<KeptId>, StoreError>;

    /// The kept message with the lowest place.
    ///
    /// # Errors
    /// As the store gave it.
    async fn first(&mut self, lane: &LaneId) -> Result<Option<InboxKept>, StoreError>;

    /// Removes a kept message.
    ///
    /// # Errors
    /// As the store gave it.
    async fn remove(&mut self, id: KeptId) -> Result<(), StoreError>;

    /// Notes that `waiter`'s first event waits for something in `cause`. A lane waits for one thing at a time.
    ///
    /// # Errors
    /// As the store gave it.
    async fn wait_for(&mut self, cause: &LaneId, waiter: &LaneId) -> Result<(), StoreError>;

    /// Notes that `waiter` waits no longer.
    ///
    /// # Errors
    /// As the store gave it.
    async fn stop_waiting(&mut self, waiter: &LaneId) -> Result<(), StoreError>;

    /// The lanes that wait for something in one of `causes`, sorted.
    ///
    /// # Errors
    /// As the store gave it.
    async fn waiters(&mut self, causes: &[LaneId]) -> Result<Vec<LaneId>, StoreError>;

    /// Adds to the durable counts.
    ///
    /// # Errors
    /// As the store gave it.
    async fn count(&mut self, counts: &InboxCounts) -> Result<(), StoreError>;

    /// Marks a point that [`undo`](Self::undo) goes back to. Points do not nest.
    ///
    /// # Errors
    /// As the store gave it.
    async fn guard(&mut self) -> Result<(), StoreError>;

    /// Takes back everything since [`guard`](Self::guard), the handler's effect above all.
    ///
    /// # Errors
    /// As the store gave it.
    async fn undo(&mut self) -> Result<(), StoreError>;

    /// Accepts everything since [`guard`](Self::guard), unless the commit would be refused for its sake: gives then why,
    /// without values of rows, and it has to be taken back by [`undo`](Self::undo).
    ///
    /// # Errors
    /// As the store gave it.
    async fn accept(&mut self) -> Result<Option<String>, StoreError>;

    /// Makes sure that a handler that had the transaction left it open: what came after would commit by itself.
    ///
    /// # Errors
    /// As the store gave it.
    async fn still_open(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Lanes in trouble whose `due` is `now` or earlier, the earliest first, `limit` at most.
    ///
    /// # Errors
    /// As the store gave it.
    async fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<LaneId>, StoreError>;

    /// Lanes in trouble, in an order of the store's own, behind `after`, `limit` at most, each with its first kept
    /// message.
    ///
    /// # Errors
    /// As the store gave it.
    async fn troubled(&mut self, after: Option<&LaneId>, limit: usize) -> Result<Vec<KeptLane>, StoreError>;

    /// Looks at `limit` remembered ids at most, in an order of the store's own, behind `after`; forgets those that expired
    /// and are done with.
    ///
    /// # Errors
    /// As the store gave it.
    async fn purge_ids(&mut self, now: Timestamp, after: u64, limit: usize) -> Result<PurgedIds, StoreError>;

    /// What the inbox holds.
    ///
    /// # Errors
    /// As the store gave it.
    async fn totals(&mut self) -> Result<InboxTotals, StoreError>;

    /// The kept message numbered `id`, and its lane.
    ///
    /// # Errors
    /// As the store gave it.
    async fn find(&mut self, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError>;

    /// Forgets the marks and ids of `producer`; lanes in trouble keep what they keep. Gives how many were forgotten.
    ///
    /// # Errors
    /// As the store gave it.
    async fn forget(&mut self, producer: &str) -> Result<u64, StoreError>;
}

/// A store of inbox records: SQLite's file, a PostgreSQL database, memory. Cloning gives another handle to it.
pub trait InboxStore: Clone + Send + Sync + 'static {
    /// One transaction.
    type Tx<'t>: InboxTx;

    /// Runs `job` in a transaction and gives its output once that has committed durably.
    ///
    /// The store may put several jobs into one transaction, and runs them again, each for itself, if one of them
    /// cannot commit. *Order*: jobs of one caller that were awaited one after the other take effect in that order.
    /// *Cancellation*: a dropped call may take effect.
    ///
    /// # Errors
    /// [`StoreError`] if it did not commit, or, if the error is uncertain, may have.
    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static;
}

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

use std::{fmt, future::Future, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    bookkeeping::{KeptId, Lane},
    error::StoreError,
    event::Event,
    inbox::RawMessage,
    place::Place,
};

/// A lane of one producer: two producers may use the same key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The CloudEvents `source`; empty for what could not be decoded.
    pub producer: Arc<str>,
    /// The key, or the event without order.
    pub lane: Lane,
}

impl fmt::Debug for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.producer, self.lane)
    }
}

/// An event's identity over every publication: producer and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The CloudEvents `source`.
    pub producer: Arc<str>,
    /// The CloudEvents `id`.
    pub id: Arc<str>,
}

impl EventId {
    /// The identity of `event`.
    pub fn of(event: &Event) -> Self {
        Self { producer: event.source.clone(), id: event.id.clone() }
    }
}

/// Whether what the key names is there, as far as the handler's event types say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// Nothing said so.
    #[default]
    Unknown,
    /// It was created and not removed.
    Open,
    /// It was removed.
    Removed,
}

/// What the first kept event of a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleState {
    /// Its predecessor, or the event that creates what it changes.
    Waiting,
    /// Its cause.
    Cause,
    /// Its next attempt.
    Retrying,
    /// Somebody: it is a dead letter.
    Dead,
    /// The answer of whoever claimed it.
    Claimed,
}

/// A lane that keeps events: one row, however many it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What its first event waits for.
    pub state: TroubleState,
    /// Attempts at its first event that failed.
    pub attempts: u32,
    /// When the sweeper is to look at it; `None` if only an event or an operator helps.
    pub due: Option<Timestamp>,
    /// Since when its first event is in this trouble.
    pub since: Timestamp,
    /// What was said the last time, shortened, without payload.
    pub reason: String,
    /// Rises with each claim of the lane while it is in trouble.
    pub epoch: u64,
    /// Events kept, the first included.
    pub kept: u64,
}

impl Trouble {
    /// A lane that keeps nothing yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: TroubleState::Waiting,
            attempts: 0,
            due: None,
            since: now,
            reason: String::new(),
            epoch: 0,
            kept: 0,
        }
    }
}

/// What a consumer knows of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRecord {
    /// The last place applied; [`Place::ORIGIN`] if none was. Always that for an event without a key.
    pub mark: Place,
    /// Whether what the key names is there.
    pub life: Life,
    /// What is kept, if anything is.
    pub trouble: Option<Trouble>,
}

impl Default for LaneRecord {
    fn default() -> Self {
        Self { mark: Place::ORIGIN, life: Life::Unknown, trouble: None }
    }
}

/// What is kept for later: a full copy.
#[derive(Clone, Debug, PartialEq)]
pub enum KeptMessage {
    /// An event.
    Event(Event),
    /// A message that could not be decoded.
    Raw {
        /// Names it: the same bytes have the same name.
        id: Arc<str>,
        /// The message as it came.
        message: RawMessage,
    },
}

impl KeptMessage {
    /// The event's id, or the name of what could not be decoded.
    pub fn id(&self) -> &str {
        match self {
            Self::Event(event) => event.id(),
            Self::Raw { id, .. } => id,
        }
    }
}

/// A kept event or message.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxKept {
    /// Its number; never reused.
    pub id: KeptId,
    /// What orders it within its lane; [`Place::ORIGIN`] for what has no order.
    pub place: Place,
    /// When it was kept.
    pub arrived: Timestamp,
    /// What it is.
    pub message: KeptMessage,
}

/// What an inbox has done, counted durably with each transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InboxCounts {
    /// Events whose effect was applied.
    pub applied: u64,
    /// Duplicates that were suppressed.
    pub duplicates: u64,
    /// Events that a newer one made superfluous.
    pub superseded: u64,
    /// Events that were acknowledged and did nothing: markers of discarded ones, changes after a removal.
    pub ignored: u64,
    /// Events that came before their predecessor or their create, and were parked.
    pub early: u64,
    /// Times that a producer's history went back.
    pub history_back: u64,
}

impl InboxCounts {
    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        self.applied += other.applied;
        self.duplicates += other.duplicates;
        self.superseded += other.superseded;
        self.ignored += other.ignored;
        self.early += other.early;
        self.history_back += other.history_back;
    }
}

/// What an inbox holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InboxTotals {
    /// Keys with a mark.
    pub marks: u64,
    /// Ids remembered.
    pub ids: u64,
    /// Lanes that keep events.
    pub lanes: u64,
    /// Events kept that are neither retried nor dead: they wait for a predecessor, a cause, or the event before them.
    pub parked: u64,
    /// Events that will be tried again.
    pub retrying: u64,
    /// Dead letters.
    pub dead: u64,
    /// Events that wait for their cause.
    pub awaiting_cause: u64,
    /// Since when the oldest dead letter is one.
    pub oldest_dead: Option<Timestamp>,
    /// What was done so far.
    pub counts: InboxCounts,
}

/// A dead letter of a consumer, or another kept event, as an operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptLane {
    /// Its lane.
    pub lane: LaneId,
    /// What is known of the lane.
    pub record: LaneRecord,
    /// The lane's first kept event.
    pub first: InboxKept,
}

/// One transaction of an inbox store. All that is done through it, the handler's effect included, commits together.
///
/// *Isolation*: a lane that was loaded changes by nobody else until the transaction ends; a store without a lock on
/// the whole makes the lane's row and locks it. *Cancellation*: the transaction is rolled back.
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

    /// Whether the id is remembered and its event done with.
    ///
    /// # Errors
    /// As the store gave it.
    async fn is_done(&mut self, id: &EventId) -> Result<bool, StoreError>;

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

    /// The lanes that wait for something in `cause`, sorted.
    ///
    /// # Errors
    /// As the store gave it.
    async fn waiters(&mut self, cause: &LaneId) -> Result<Vec<LaneId>, StoreError>;

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

    /// Accepts everything since [`guard`](Self::guard).
    ///
    /// # Errors
    /// As the store gave it.
    async fn accept(&mut self) -> Result<(), StoreError>;

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

/// What became of some remembered ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgedIds {
    /// How many were forgotten.
    pub forgotten: u64,
    /// Behind what to go on; `None` at the end.
    pub after: Option<u64>,
}

/// How far a lane's next events take its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneStep<'a> {
    /// The lane.
    pub lane: &'a LaneId,
    /// Where the mark has to stand.
    pub from: Place,
    /// Where it goes.
    pub to: Place,
}

/// A lane as it was loaded and as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneChange {
    /// The lane.
    pub lane: LaneId,
    /// As it was loaded.
    pub before: LaneRecord,
    /// As it is to be.
    pub now: LaneRecord,
}

/// How a job's handlers are set apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Not at all: the first failure takes back the whole transaction. The fast path.
    Whole,
    /// Each by a point of its own, so that a failure takes back one effect only.
    Each,
}

/// Why a job cannot commit as it ran.
#[derive(Debug)]
pub enum Abort {
    /// A handler failed under [`Isolation::Whole`]: roll back, and run the job again under [`Isolation::Each`].
    Redo,
    /// The store failed: roll back.
    Store(StoreError),
}

impl From<StoreError> for Abort {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Something to be done in one transaction. May run several times, each time in a new transaction, of which one
/// commits.
#[expect(async_fn_in_trait, reason = "futures need not be Send: a transaction stays on the thread of its store")]
pub trait Job<Tx>: Send + 'static {
    /// What it gives once it has committed.
    type Output: Send + 'static;

    /// How many events it is about, for a store that puts several jobs into one transaction.
    fn weight(&self) -> usize {
        1
    }

    /// Whether it writes nothing, so that a store need not keep writers out.
    fn only_reads(&self) -> bool {
        false
    }

    /// Whether to run it once more, after it failed alone: it will leave out what it failed over. Asked after each such
    /// failure, until it says no.
    fn again(&mut self) -> bool {
        false
    }

    /// Does it.
    ///
    /// # Errors
    /// [`Abort`] says what has to happen instead of the commit.
    async fn run(&mut self, tx: &mut Tx, isolation: Isolation) -> Result<Self::Output, Abort>;
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

//! What an inbox store holds: lanes, trouble, kept events, and their numbers.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    bookkeeping::{KeptId, Lane},
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

    /// Nothing began later than now: if this did, the wall clock was set back since, and its times go back with it, or
    /// what it waits for would be further off by as much.
    pub(crate) fn begun_by(&mut self, now: Timestamp) {
        let ahead = self.since.duration_since(now);
        if ahead.is_positive() {
            self.since = now;
            self.due = self.due.map(|due| due.checked_sub(ahead).unwrap_or(now));
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

impl InboxTotals {
    /// Counts a lane that keeps events: its front by what that waits for, and those behind it as parked.
    pub fn count(&mut self, trouble: &Trouble) {
        self.lanes += 1;
        self.parked += trouble.kept;
        let front = match trouble.state {
            TroubleState::Waiting | TroubleState::Claimed => return,
            TroubleState::Cause => &mut self.awaiting_cause,
            TroubleState::Retrying => &mut self.retrying,
            TroubleState::Dead => {
                self.oldest_dead = self.oldest_dead.into_iter().chain([trouble.since]).min();
                &mut self.dead
            }
        };
        *front += 1;
        self.parked -= 1;
    }
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

//! What a route keeps: events that it could not deliver, and those that wait behind them.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::{
    entry::{Position, Undecodable},
    event::{Event, Key},
    source::PartitionId,
};

/// What waits together: the events of one key, or one event that has none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// All events of this key.
    Key(Key),
    /// The event with this id, which has no key.
    Event(Arc<str>),
}

impl Lane {
    /// The lane that `event` belongs to.
    pub fn of(event: &Event) -> Self {
        event.key().map_or_else(|| Self::Event(event.id.clone()), |key| Self::Key(key.clone()))
    }

    /// The lane that a row belongs to that could not be read.
    pub fn of_undecodable(row: &Undecodable) -> Self {
        row.key.clone().map_or_else(|| Self::Event(row.id.clone()), Self::Key)
    }

    /// A text that names this lane and no other: `k:` and the key, or `e:` and the event's id.
    pub fn to_text(&self) -> String {
        match self {
            Self::Key(key) => format!("k:{key}"),
            Self::Event(id) => format!("e:{id}"),
        }
    }

    /// Reads back what [`to_text`](Self::to_text) wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_at_checked(2)? {
            ("k:", key) => Key::new(key).ok().map(Self::Key),
            ("e:", id) => Some(Self::Event(id.into())),
            _ => None,
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// The number of a kept event in its bookkeeping; rises in the order of keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptId(pub u64);

/// What is kept: a full copy.
#[derive(Clone, Debug, PartialEq)]
pub enum KeptContent {
    /// An event.
    Event(Event),
    /// A row that could not be read.
    Undecodable(Undecodable),
}

impl KeptContent {
    /// The id of the event, or of the row.
    pub fn id(&self) -> &str {
        match self {
            Self::Event(event) => event.id(),
            Self::Undecodable(row) => &row.id,
        }
    }

    /// Which event of its entry it is: with partition, position and id this tells it from every other one, for a
    /// producer may give an id twice.
    pub fn index(&self) -> u32 {
        match self {
            Self::Event(event) => event.placing().map_or(0, |placing| placing.place.index),
            Self::Undecodable(_) => 0,
        }
    }

    /// The lane it belongs to.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Event(event) => Lane::of(event),
            Self::Undecodable(row) => Lane::of_undecodable(row),
        }
    }
}

/// What the front of a lane in trouble waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontState {
    /// Its next attempt, at this time.
    Retrying {
        /// When to try again.
        due: Timestamp,
    },
    /// Somebody: it is a dead letter.
    Dead,
    /// Its removal: somebody discarded it, for this reason.
    Discarded {
        /// Why.
        reason: String,
    },
}

/// How the front of a lane in trouble has fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// What it waits for.
    pub state: FrontState,
    /// Attempts that counted against it.
    pub attempts: u32,
    /// When it failed first.
    pub failed_since: Timestamp,
    /// What was said the last time.
    pub reason: String,
}

/// A lane in trouble: one row, whatever waits in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The lane.
    pub lane: Lane,
    /// Which trouble of this lane it is, in the bookkeeping's life; never reused.
    pub generation: u64,
    /// Its first event.
    pub front: Front,
    /// Events kept in this lane, the front included.
    pub kept: u64,
}

/// A kept event, with the position of its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its number.
    pub id: KeptId,
    /// What it is.
    pub content: KeptContent,
    /// Its partition.
    pub partition: PartitionId,
    /// The position behind its record.
    pub position: Position,
}

/// What a pipeline hands over of one lane: all that it holds of it, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Keep {
    /// The lane.
    pub lane: Lane,
    /// The front's state, if this opens the trouble; `None` to park behind what is kept already.
    pub front: Option<Front>,
    /// The events, each with the position behind its record.
    pub events: Vec<(KeptContent, Position)>,
}

/// What became of a [`Keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepOutcome {
    /// Durable. Events that were kept already stay as they are.
    Stored {
        /// The trouble they belong to.
        generation: u64,
    },
    /// There was nothing to park behind: the lane was released meanwhile. Nothing was stored; publish instead.
    KeyFree,
}

/// What a keeper did with the first events of a lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The lane.
    pub lane: Lane,
    /// The trouble that the keeper knows; if it is another one by now, nothing is done.
    pub generation: u64,
    /// Kept events that are done, from the front.
    pub remove: Vec<KeptId>,
    /// If the first of these is a dead letter that its key goes on without: it moves to this lane, in the same
    /// transaction, so that whatever happens it is kept once. Behind what is kept there already.
    pub apart: Option<Apart>,
    /// Of these, whether they were discarded rather than published: they leave a tombstone, so that a restart that
    /// reads them again does not publish them.
    pub discarded: bool,
    /// The state of the front that is left, if it changes.
    pub front: Option<Front>,
}

/// A lane of its own for a dead letter that its key goes on without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The lane.
    pub lane: Lane,
    /// Attempts that counted against the dead letter.
    pub attempts: u32,
    /// When it failed first.
    pub failed_since: Timestamp,
    /// What was said the last time.
    pub reason: String,
}

impl Apart {
    /// A dead letter's lane, where `front` says how it fared.
    pub fn of(lane: Lane, front: Front) -> Self {
        let Front { attempts, failed_since, reason, .. } = front;
        Self { lane, attempts, failed_since, reason }
    }

    /// How the dead letter fared.
    pub fn front(&self) -> Front {
        Front {
            state: FrontState::Dead,
            attempts: self.attempts,
            failed_since: self.failed_since,
            reason: self.reason.clone(),
        }
    }
}

/// What became of a [`Settlement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Nothing is left in the lane: it was released in the same transaction.
    Released,
    /// So many events are left.
    Left(u64),
    /// The trouble that the keeper knew is over, or somebody changed the front's state meanwhile: load it again.
    Changed,
}

/// What a route keeps, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptCounts {
    /// Fronts that will be tried again.
    pub retrying: u64,
    /// Fronts that were given up on.
    pub dead: u64,
    /// Events that wait behind a front.
    pub parked: u64,
    /// Lanes in trouble.
    pub lanes: u64,
}

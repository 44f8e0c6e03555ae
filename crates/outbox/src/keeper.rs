//! The keeper: the state machine that owns every event a route keeps.
//!
//! It retries on schedule and redrives what an operator asked for, front first: a key's events go out in their order,
//! and when none is left its lane is released to the pipeline. Like the pipeline it does no I/O and knows no clock.
//!
//! A lane in trouble is one row in the bookkeeping: releasing it and parking behind it exclude each other there, so no
//! event is stranded whichever comes first.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    bookkeeping::{Front, FrontState, Kept, KeptContent, KeptId, Lane, SettleOutcome, Trouble},
    entry::EventRef,
    pipeline::{CallId, FrontDraft, Health, WriteId},
    sink::{Fault, Outcome},
};

mod answers;
mod dispatch;
mod lanes;
mod machine;
mod settlement;
#[cfg(test)]
mod tests;

pub use machine::{Keeper, Settings};

/// Names a load from the bookkeeping, within one keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadId(pub u64);

/// A lane in trouble as the keeper is told of it: [`Trouble`] in durations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TroubleDraft {
    /// The lane.
    pub lane: Lane,
    /// Which trouble of it.
    pub generation: u64,
    /// What its front waits for.
    pub state: FrontPlan,
    /// Attempts that counted against the front.
    pub attempts: u32,
    /// Time since the front failed first.
    pub failed_for: Duration,
}

impl TroubleDraft {
    /// `trouble` as it is stored, without the wall times: it is `wall` now.
    pub fn at(trouble: &Trouble, wall: Timestamp) -> Self {
        let Front { state, attempts, failed_since, .. } = &trouble.front;
        let state = match state {
            FrontState::Retrying { due } => {
                FrontPlan::Retry(Duration::try_from(due.duration_since(wall)).unwrap_or_default())
            }
            FrontState::Dead => FrontPlan::Dead,
            FrontState::Discarded { reason } => FrontPlan::Discard(reason.clone()),
        };
        Self {
            lane: trouble.lane.clone(),
            generation: trouble.generation,
            state,
            attempts: *attempts,
            failed_for: Duration::try_from(wall.duration_since(*failed_since)).unwrap_or_default(),
        }
    }
}

/// What a front waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontPlan {
    /// Its next attempt, in so long.
    Retry(Duration),
    /// An operator.
    Dead,
    /// Its removal, for this reason.
    Discard(String),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A lane got into trouble, or an operator changed its front.
    Trouble(TroubleDraft),
    /// Events that were discarded, of a source that may bring a record twice: what is kept of them besides is dropped.
    Discarded {
        /// Their ids.
        ids: Vec<Arc<str>>,
    },
    /// All lanes in trouble, after an operator changed something.
    Troubles(Vec<TroubleDraft>),
    /// A lane as it stands, with its first kept events; nothing if it is no longer in trouble.
    Loaded {
        /// The load.
        load: LoadId,
        /// The lane.
        trouble: Option<TroubleDraft>,
        /// Its first kept events.
        kept: Vec<Kept>,
    },
    /// The lane could not be read.
    LoadFailed {
        /// The load.
        load: LoadId,
    },
    /// A call came back with one outcome for each event.
    Answered {
        /// The call.
        call: CallId,
        /// The outcomes, in the call's order.
        outcomes: Vec<Outcome>,
    },
    /// A call failed as a whole.
    CallFailed {
        /// The call.
        call: CallId,
        /// Whose fault it is.
        fault: Fault,
        /// How long the sink asked to be left alone.
        retry_after: Option<Duration>,
        /// What was said.
        reason: String,
    },
    /// A settlement is durable.
    Settled {
        /// The write.
        write: WriteId,
        /// What became of it.
        outcome: SettleOutcome,
    },
    /// Nothing was stored, or it is unknown whether it was.
    StoreFailed {
        /// The write.
        write: WriteId,
    },
    /// The pipeline had something accepted: evidence that the sink works.
    OthersAccepted,
    /// No new calls until `Resume`.
    Pause,
    /// Go on after `Pause`.
    Resume,
    /// No new calls; `Finished` once those under way are back.
    Drain,
    /// Another owner has taken over: stop at once.
    LeaseLost,
    /// The time that `WakeAt` asked for, or any other.
    Tick,
}

/// What the shell shall do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Read a lane and so many of its first kept events.
    Load {
        /// The load.
        load: LoadId,
        /// The lane.
        lane: Lane,
        /// How many events at most.
        limit: usize,
    },
    /// Publish these events of one lane in one call.
    Publish {
        /// The call.
        call: CallId,
        /// The events, in order.
        events: Vec<EventRef>,
    },
    /// Remove what is done from the front of a lane, and note how what is left fares.
    Settle {
        /// The write.
        write: WriteId,
        /// The lane.
        lane: Lane,
        /// Which trouble of it.
        generation: u64,
        /// Kept events that are done.
        remove: Vec<KeptId>,
        /// If the first of them is a dead letter that its key goes on without: a lane of its own, to which it moves, and how
        /// it fared.
        apart: Option<(Lane, FrontDraft)>,
        /// Whether they were discarded rather than published.
        discarded: bool,
        /// How the front fares that is left.
        front: Option<FrontDraft>,
    },
    /// The lane is released: tell the pipelines.
    Released {
        /// The lane.
        lane: Lane,
    },
    /// Give a `Tick` at this time. Replaces an earlier wish.
    WakeAt(crate::clock::Moment),
    /// The route began or ceased to back off.
    Health(Health),
    /// Nothing more will come: drained.
    Finished,
}

/// What goes out for a kept event: itself, or the marker in its place if it was discarded.
fn outgoing(content: &KeptContent, discarded: Option<&str>) -> Option<EventRef> {
    match (content, discarded) {
        (KeptContent::Event(event), None) => Some(EventRef::single(event.clone())),
        (KeptContent::Event(event), Some(reason)) if event.placing().is_some() => {
            Some(EventRef::single(event.skipped(reason)))
        }
        (KeptContent::Event(_) | KeptContent::Undecodable(_), _) => None,
    }
}

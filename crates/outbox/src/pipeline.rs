//! The pipeline: the state machine that publishes one partition of a source to one route.
//!
//! `step(now, input)` gives effects and does nothing else: no I/O, no clock, no randomness but a seeded one. A shell
//! carries the effects out and brings their results back as inputs; the simulator is another shell. What holds after
//! every step:
//!
//! 1. A checkpoint never passes an event that is neither accepted, nor filtered out, nor durably kept.
//! 2. A key has one publisher and is in at most one call at a time.
//! 3. While an event of a key is retried, dead or parked, no later event of it goes out.
//! 4. Window, calls in flight and pending writes stay within stated limits, whatever the sink does.
//! 5. After `LeaseLost`, no effect. After `Drain`, no new call, and a last checkpoint once the calls are back.
//! 6. Where the source does not promise the order of a key, nothing goes out before a predecessor that is missing,
//!    but for one that neither the source nor the table has.
//! 7. Same inputs, same effects, to the byte.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    bookkeeping::{Front, FrontState, KeptContent, Lane},
    clock::Moment,
    entry::{EventRef, Position, Record},
    event::{Event, Key},
    place::Place,
    route::{RetryPolicy, WindowLimits},
    sink::{Fault, Outcome, SinkLimits},
    source::Limit,
    store::Witness,
};

mod answers;
mod apart;
mod checkpoint;
mod dispatch;
pub(crate) mod health;
mod intake;
mod lanes;
mod machine;
mod marks;
mod missing;
#[cfg(test)]
mod tests;
mod trouble;
mod turns;
mod window;

pub use machine::{Pipeline, Resume};
pub use marks::FARTHEST;
pub use turns::Observed;

/// Names a call to the sink, within one pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a write to the bookkeeping, within one pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Names a fetch of missing entries, within one pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// Whether a route takes an event of a record.
pub type Takes = Arc<dyn Fn(&Record, &Event) -> bool + Send + Sync>;

/// What a pipeline works by; does not change while it lives.
#[derive(Clone)]
pub struct Settings {
    /// Which events the route takes; the others count as done. Pure and cheap.
    pub takes: Takes,
    /// Whether rows that cannot be read become dead letters; otherwise they count as done.
    pub keeps_undecodable: bool,
    /// What one call takes.
    pub sink: SinkLimits,
    /// An event's bytes by the sink's measure.
    pub size: Arc<dyn Fn(&Event) -> usize + Send + Sync>,
    /// How failures are retried.
    pub retry: RetryPolicy,
    /// What may be held in memory.
    pub window: WindowLimits,
    /// The longest time that progress goes without a checkpoint.
    pub checkpoint_after: Duration,
    /// How the order of the source is watched; `None` for one that promises it.
    pub observed: Option<Observed>,
    /// Seeds the jitter.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Answers [`Effect::Read`]: records of the partition, in its order.
    Read {
        /// The records.
        records: Vec<Arc<Record>>,
        /// Where reading goes on.
        next: Position,
        /// Whether the partition is closed and read out.
        end: bool,
    },
    /// Answers [`Effect::FetchMissing`]: for each sequence its entry, or none where the table has none.
    Fetched {
        /// The fetch.
        fetch: FetchId,
        /// The entries, in the order in which they were asked for.
        records: Vec<Option<Arc<Record>>>,
    },
    /// What is missing could not be fetched now. It is asked for again.
    FetchFailed {
        /// The fetch.
        fetch: FetchId,
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
    /// Kept events or a checkpoint are durable.
    Stored {
        /// The write.
        write: WriteId,
    },
    /// There was nothing to park behind: the lane was released meanwhile. Publish instead.
    KeyFree {
        /// The write.
        write: WriteId,
    },
    /// Nothing was stored, or it is unknown whether it was. The write is repeated.
    StoreFailed {
        /// The write.
        write: WriteId,
    },
    /// A lane got into trouble by another pipeline of the route: the keeper owns it.
    Troubled {
        /// The lane.
        lane: Lane,
    },
    /// The keeper released a lane: its events may be published again.
    Released {
        /// The lane.
        lane: Lane,
    },
    /// Events were discarded or erased while they were kept: where they are read again they do not go out. To be told
    /// before their lanes are released.
    Discarded {
        /// Their ids, each with the position behind its record.
        tombstones: Vec<(Arc<str>, Position)>,
    },
    /// No new calls and no reads until `Resume`.
    Pause,
    /// Go on after `Pause`.
    Resume,
    /// Shutdown or handoff: no new calls, a last checkpoint, `Finished`.
    Drain,
    /// Another owner has taken over: stop at once.
    LeaseLost,
    /// The time that `WakeAt` asked for, or any other.
    Tick,
}

/// What the shell shall do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Read so much at most, once. Answered by [`Input::Read`] when there is something.
    Read {
        /// What the window can still take.
        credit: Limit,
    },
    /// An entry came before its predecessors: read these from the table. Its key waits; others go on.
    FetchMissing {
        /// The fetch.
        fetch: FetchId,
        /// The key.
        key: Key,
        /// Their sequences, in order.
        sequences: Vec<u64>,
    },
    /// A record did not come in its turn.
    OutOfTurn {
        /// The key.
        key: Key,
        /// Where its entry stands.
        place: Place,
        /// What that means, and what is done about it.
        disorder: Disorder,
    },
    /// Neither the source nor the table gave these entries, though later ones of the key are there. The key goes on
    /// without them: somebody has to know.
    Gap {
        /// The key.
        key: Key,
        /// Their sequences, in order.
        sequences: Vec<u64>,
    },
    /// Publish these events in one call.
    Publish {
        /// The call.
        call: CallId,
        /// The events; of one key in order.
        events: Vec<EventRef>,
    },
    /// Store full copies of what cannot be delivered now and of what waits behind it.
    Keep {
        /// The write.
        write: WriteId,
        /// The lane.
        lane: Lane,
        /// How its front fares, if this opens the trouble; else the events are parked.
        front: Option<FrontDraft>,
        /// Everything the pipeline holds of the lane, in order, with the positions behind the records.
        events: Vec<(KeptContent, Position)>,
    },
    /// Store the end of the contiguous prefix that is accepted, filtered out, or kept.
    Checkpoint {
        /// The write.
        write: WriteId,
        /// Its end.
        position: Position,
        /// The entry before it, if one was read.
        witness: Option<Witness>,
        /// Whether the partition is closed and done.
        finished: bool,
    },
    /// Give a `Tick` at this time. Replaces an earlier wish.
    WakeAt(Moment),
    /// The route began or ceased to back off.
    Health(Health),
    /// Nothing more will come: drained, or the partition is done.
    Finished,
}

/// How a record came that did not come in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disorder {
    /// It was taken before: done without publishing it again.
    Duplicate,
    /// Later ones of its key went out before, and nothing is known of it. It is published, for it may never have been.
    Inversion,
    /// More than [`FARTHEST`] numbers lie between it and the one before: they are not waited for. It is published.
    Leap,
}

/// How a front fares, in durations: the machine knows no wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontDraft {
    /// Time until its next attempt; `None` for a dead letter.
    pub retry_in: Option<Duration>,
    /// Attempts that counted against it.
    pub attempts: u32,
    /// Time since it failed first.
    pub failed_for: Duration,
    /// What was said the last time.
    pub reason: String,
}

impl FrontDraft {
    /// The front as it is stored: with wall times, where it is `wall` now.
    pub fn at(&self, wall: Timestamp) -> Front {
        let state = match self.retry_in {
            Some(delay) => FrontState::Retrying { due: wall.saturating_add(delay).unwrap_or(wall) },
            None => FrontState::Dead,
        };
        let failed_since = wall.saturating_sub(self.failed_for).unwrap_or(wall);
        Front { state, attempts: self.attempts, failed_since, reason: self.reason.clone() }
    }
}

/// Whether a route's events flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They flow, or would.
    Flowing,
    /// The sink as a whole does not take events.
    BackingOff {
        /// What it said.
        reason: String,
    },
    /// So many keys are in trouble that nothing new is read.
    Overloaded,
}

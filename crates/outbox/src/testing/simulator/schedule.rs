//! What happens in one run: the world it happens in, and every fault, drawn from a seed before the run begins.

mod draw;
mod text;
mod words;

use std::time::Duration;

use crate::testing::Io;

/// One run, as it was drawn from its seed. Leaving incidents out gives a smaller run that can be read.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What all of it was drawn from.
    pub seed: u64,
    pub(super) scene: Scene,
    pub(super) incidents: Vec<Incident>,
}

/// The world of a run: what does not change in it.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) source: SourceScene,
    pub(super) keys: usize,
    pub(super) relays: usize,
    pub(super) routes: Vec<RouteScene>,
    pub(super) consumer: ConsumerScene,
    /// The longest that an I/O takes when nothing is wrong with it, in microseconds.
    pub(super) latency: u64,
    /// Entries that retention leaves; none if it is off.
    pub(super) retained: Option<u64>,
}

/// What relays read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceScene {
    /// A table whose rows are in the order of commits, as SQLite's.
    Table,
    /// A table whose rows become visible late, read by snapshots, as PostgreSQL's.
    Late,
    /// A stream of changes in shards, as DynamoDB's.
    Shards { shards: u32, page: usize, doubling: bool, swapping: bool, empty_pages: bool, reordering: bool },
}

impl SourceScene {
    /// Whether a record may come twice: of two copies one can be a dead letter, and the other go out.
    pub(super) const fn comes_twice(self) -> bool {
        matches!(self, Self::Shards { doubling, reordering, .. } if doubling || reordering)
    }
}

/// What becomes of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resharding {
    Split,
    Roll,
    Merge,
}

/// A route and its target.
#[derive(Clone, Debug)]
pub(super) struct RouteScene {
    pub(super) ordered_calls: bool,
    pub(super) max_events: usize,
    pub(super) max_calls: usize,
    pub(super) window: usize,
    pub(super) window_bytes: usize,
    pub(super) key_share: usize,
    pub(super) troubled_keys: usize,
    pub(super) attempts: u32,
    pub(super) quick_attempts: u32,
    pub(super) goes_on: bool,
    pub(super) rate_limit: Option<u32>,
    pub(super) filter: FilterScene,
}

/// Which events a route takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FilterScene {
    #[default]
    All,
    /// Those of the second type.
    Kind,
    /// Those that have a key.
    Key,
}

/// How the consumer behind the first route works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConsumerScene {
    pub(super) mode: ConsumerMode,
    /// Its effects are outside of the inbox's store, under claims.
    pub(super) claims: bool,
}

/// What the consumer's inbox promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerMode {
    Once,
    Latest,
    InOrder,
    AfterCause,
}

/// Something that happens at its time, or that is armed then and strikes when its turn comes.
#[derive(Clone, Debug)]
pub(super) struct Incident {
    /// Its number in the whole schedule: what is drawn for it stays the same when others are left out.
    pub(super) number: usize,
    pub(super) at: Duration,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A transaction of the service: keys and how many events each.
    Transaction { writes: Vec<(usize, u32)>, keyless: u32, commits: bool, raced: bool },
    /// A row that a foreign writer filled with rubbish.
    Rubbish { key: Option<usize> },
    /// Shards change.
    Reshard(Resharding),
    /// The stream forgets all but so many records.
    Trim { kept: u64 },
    /// The next I/O of this kind, not counting the first `skip`, suffers a fault.
    Io { io: Io, skip: u32, fault: IoFault },
    /// A call to a route's target suffers a fault, not counting the first `skip`.
    Call { route: usize, skip: u32, fault: CallFault },
    /// For so long, every call to the route's target fails.
    Outage { route: usize, lasts: Duration, fault: crate::sink::Fault },
    /// The event that comes `nth` is not wanted by the route's target.
    Unwanted { route: usize, nth: usize, how: Unwanted },
    /// A relay dies at once.
    Kill { relay: usize },
    /// A relay is stopped in order, and started again.
    Restart { relay: usize },
    /// What people do to a running relay.
    Operator { route: usize, what: Operation },
    /// Every relay stops, the store is put back to how it was `since` ago, and adopted.
    Restore { since: Duration },
    /// The consumer's next pass, not counting the first `skip`, suffers a fault.
    Pass { skip: u32, fault: PassFault },
    /// What the transport does with the next message to the consumer, not counting the first `skip`.
    Transport { skip: u32, twice: bool, late: Duration },
    /// What the handler answers about the event that comes `nth`.
    Answer { nth: usize, how: AnswerFault, times: u32 },
    /// The clock of the consumer's machine is set back.
    ClockBack { by: Duration },
    /// For so long, every I/O of this kind fails; every one there is, if none is named.
    StoreOut { io: Option<Io>, lasts: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IoFault {
    KilledBefore,
    KilledAfter,
    Fails,
    Full,
    AnswerLost,
    Hangs(Duration),
    /// It took effect, and that is answered late.
    AnswersLate(Duration),
    /// The relay stands still, and goes on as if nothing had been.
    Frozen(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallFault {
    Fails(crate::sink::Fault),
    Throttled(Option<Duration>),
    AnswerLost,
    ShortAnswer,
    HalfAccepted,
    Hangs { lasts: Duration, effect: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// Refused by name so many times.
    Refused(u32),
    /// Refused by name, and never taken before somebody mends the target.
    ForGood,
    /// Makes every call that holds it fail as a whole, until somebody mends the target.
    Bomb(crate::sink::Fault),
    /// Fails by itself, and nobody says whose fault that is, until somebody mends the target.
    Failing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Redrive,
    Discard,
    Erase,
    Pause(Duration),
    Replay(ReplayScene),
    /// Every relay stops, and the route's filter is written otherwise: it takes the same events.
    Refilter,
    Retire,
}

/// What of a route is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplayScene {
    All,
    Key(usize),
    /// The events of the second type.
    Kind,
    /// The event that comes `nth`.
    Event(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerFault {
    Retries,
    GivesUp,
    /// Takes longer than it may, its effect in place by then or not. Only outside of a transaction.
    Hangs {
        effect: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PassFault {
    KilledBefore,
    KilledAfter,
    Fails,
    AnswerLost,
}

/// The longest that something hangs or stands still.
pub(super) const LONGEST: Duration = Duration::from_secs(9);
/// How long the service goes on writing.
pub(super) const BUSY: u64 = 12_000;

impl Schedule {
    /// How many incidents it has, transactions included.
    pub fn len(&self) -> usize {
        self.incidents.len()
    }

    /// Whether nothing happens.
    pub fn is_empty(&self) -> bool {
        self.incidents.is_empty()
    }

    /// The numbers of its incidents, rising: they stay what they were in the whole schedule.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        self.incidents.iter().map(|incident| incident.number)
    }

    /// The same run with only these of its incidents, by number. Whatever the order of `kept`, they happen in their own;
    /// numbers that it does not have are passed over.
    pub fn only(&self, kept: &[usize]) -> Self {
        let incidents = self.incidents.iter().filter(|incident| kept.contains(&incident.number)).cloned().collect();
        Self { seed: self.seed, scene: self.scene.clone(), incidents }
    }
}

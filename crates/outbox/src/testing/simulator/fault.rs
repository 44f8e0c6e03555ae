//! Everything that goes wrong in a simulated world, by name, and how often it did.

use std::fmt;

use crate::testing::{Doer, Io, Side};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One kind of thing that goes wrong, or that people do in the middle of it, or a mode that has to bear it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $(#[doc = $text] $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What it is, in words.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

faults! {
    RolledBack = "a transaction is rolled back",
    Raced = "two transactions move one key",
    Rubbish = "a row that is no entry",
    Split = "a shard is split",
    Merged = "two shards are merged",
    RolledOver = "a shard is rolled over",
    Trimmed = "a stream forgets its oldest records",
    ParentTrimmed = "a stream forgets a shard that has children",
    EmptyPage = "a page comes empty, and there is more",
    LateRow = "a row becomes visible behind one with a later id",
    Recovered = "a route recovers from the table",
    RecordTwice = "a record comes twice",
    OutOfOrder = "records of a key change places",
    Fetched = "missing entries are fetched",
    KilledBefore = "relay killed before an I/O",
    KilledAfter = "relay killed after an I/O",
    Killed = "relay killed at a time",
    Restarted = "relay stopped in order and started again",
    Stalled = "relay stands still, for less than its lease",
    Frozen = "relay stands still past its lease",
    Overtaken = "a relay publishes whose place another has taken",
    Fenced = "a store refuses a write of an epoch that is over",
    StoreFails = "a store fails",
    StoreFull = "a store is full",
    StoreAnswerLost = "a store's answer is lost",
    StoreHangs = "a store hangs",
    StoreAnswersLate = "a store takes effect, and answers late",
    IoOut = "a store refuses one kind of I/O for a while",
    StoreOut = "a store refuses everything for a while",
    CallFails = "a call fails as a whole, for the target's sake",
    CallFailsUnknown = "a call fails as a whole, and nobody says why",
    CallTooFast = "a call is refused as a whole, as too much at a time",
    CallThrottled = "a call is throttled",
    CallAnswerLost = "a call's answer is lost",
    CallShortAnswer = "an answer lacks an outcome",
    CallHalfAccepted = "half of a call is accepted",
    CallHangs = "a call hangs",
    Outage = "the target is out for a while",
    OutageUnknown = "the target fails for a while, and nobody says why",
    OutageThrottled = "the target takes nothing for a while, as too much at a time",
    Refused = "an event is refused a few times",
    RefusedForGood = "an event is refused for good",
    Bomb = "an event makes its calls fail",
    BombUnknown = "an event makes its calls fail, and nobody says that it does",
    Failing = "an event fails, and nobody says whose fault that is",
    Redriven = "an operator redrives",
    Discarded = "an operator discards",
    Erased = "an operator erases a key",
    Paused = "an operator pauses a route",
    Replayed = "an operator replays",
    ReplayedInPart = "an operator replays one type or one event",
    Refiltered = "an operator changes a route's filter",
    Retired = "an operator retires a route",
    Restored = "the store is put back from a backup",
    Noticed = "a relay notices that the store went back",
    ConsumerKilledBefore = "consumer killed before its commit",
    ConsumerKilledAfter = "consumer killed after its commit",
    InboxFails = "the inbox store fails",
    InboxAnswerLost = "the inbox store's answer is lost",
    DeliveredTwice = "a message is delivered twice",
    DeliveredLate = "a message is delivered late",
    ClockSetBack = "the consumer's clock is set back",
    HandlerRetries = "a handler asks for another attempt",
    HandlerGivesUp = "a handler gives an event up",
    HandlerHangs = "a handler outside of the transaction takes too long",
    Once = "an inbox in mode `once`",
    Latest = "an inbox in mode `latest`",
    InOrder = "an inbox in mode `in_order`",
    AfterCause = "an inbox in mode `after_cause`",
    OnceClaimed = "an inbox in mode `once`, with claims",
    LatestClaimed = "an inbox in mode `latest`, with claims",
    InOrderClaimed = "an inbox in mode `in_order`, with claims",
    AfterCauseClaimed = "an inbox in mode `after_cause`, with claims",
}

impl Fault {
    /// The I/Os that faults are drawn for: all that a relay does.
    pub(super) fn ios() -> impl Iterator<Item = Io> {
        Io::ALL.iter().copied().filter(|io| io.doer() != Doer::Operators)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each fault struck, and at which I/Os relays were killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    faults: [u64; Fault::ALL.len()],
    /// Before and after each I/O.
    killed: [[u64; 2]; Io::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self { faults: [0; Fault::ALL.len()], killed: [[0; 2]; Io::ALL.len()] }
    }
}

impl Tally {
    pub(super) fn count(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub(super) fn count_killed(&mut self, io: Io, side: Side) {
        self.killed[io as usize][usize::from(side == Side::After)] += 1;
    }

    /// How often `fault` struck.
    pub fn of(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// How often a relay was killed before or after each of its I/Os.
    pub fn killed(&self) -> impl Iterator<Item = (Io, Side, u64)> {
        Fault::ios().flat_map(|io| {
            Side::BOTH.map(|side| (io, side, self.killed[io as usize][usize::from(side == Side::After)]))
        })
    }

    /// Adds what another run exercised.
    pub fn add(&mut self, other: &Self) {
        let Self { faults, killed } = other;
        for (own, other) in self.faults.iter_mut().zip(faults) {
            *own += other;
        }
        for (own, other) in self.killed.as_flattened_mut().iter_mut().zip(killed.as_flattened()) {
            *own += other;
        }
    }

    /// Before and after which I/Os no relay was killed.
    pub fn never_killed(&self) -> impl Iterator<Item = (Io, Side)> {
        self.killed().filter(|(_, _, times)| *times == 0).map(|(io, side, _)| (io, side))
    }

    /// Faults that never struck.
    pub fn never(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|&fault| self.of(fault) == 0).collect()
    }
}

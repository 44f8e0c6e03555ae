//! The points of the contract that a run can break, and what a run may not do whatever the contract says.

use std::fmt;

/// A point of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// 1: an event exists if and only if its transaction committed.
    Atomic,
    /// 2: every committed event is delivered, or a visible dead letter.
    NothingLost,
    /// 3: per key and route in the order of commits.
    InOrder,
    /// 4: an effect is applied once.
    Once,
    /// 5: after its cause.
    AfterCause,
    /// 6: what is retained can be replayed.
    Repeatable,
    /// 7: window, calls and duplicates have bounds.
    Bounded,
    /// 8: what is kept can be seen.
    Visible,
    /// 9: what cannot go on says so; nothing else gives up.
    Loud,
    /// When faults end, everything comes right in a bounded time.
    Live,
    /// Nothing panics.
    Panicked,
    /// A run comes to its end in real time, too.
    Hung,
    /// A run takes no memory without bound.
    Grown,
}

impl Rule {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Atomic => "atomic",
            Self::NothingLost => "nothing lost",
            Self::InOrder => "in order",
            Self::Once => "once",
            Self::AfterCause => "after its cause",
            Self::Repeatable => "repeatable",
            Self::Bounded => "bounded",
            Self::Visible => "visible",
            Self::Loud => "loud",
            Self::Live => "live",
            Self::Panicked => "panicked",
            Self::Hung => "hung",
            Self::Grown => "grown",
        }
    }

    /// Whether a schedule that broke it was given up on: it can be neither traced nor made smaller.
    pub const fn is_endless(self) -> bool {
        match self {
            Self::Hung | Self::Grown => true,
            Self::Atomic
            | Self::NothingLost
            | Self::InOrder
            | Self::Once
            | Self::AfterCause
            | Self::Repeatable
            | Self::Bounded
            | Self::Visible
            | Self::Loud
            | Self::Live
            | Self::Panicked => false,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the contract was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which point of it.
    pub rule: Rule,
    /// What happened.
    pub what: String,
}

impl Breach {
    pub(super) fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

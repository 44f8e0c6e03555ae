//! What happens in a run, in the words of its schedule and its trace.

use std::fmt::{self, Display, Formatter};

use super::{AnswerFault, CallFault, IoFault, Operation, PassFault, ReplayScene, Resharding, Unwanted, What};
use crate::sink;

/// "the next" one, or the one after so many others.
fn turn(skip: u32, what: impl Display) -> String {
    match skip {
        0 => format!("the next {what}"),
        1 => format!("the {what} after another one"),
        skip => format!("the {what} after {skip} others"),
    }
}

/// Whose fault a target says it is.
const fn blamed(fault: sink::Fault) -> &'static str {
    match fault {
        sink::Fault::Sink => "the sink's fault",
        sink::Fault::Event => "the event's fault",
        sink::Fault::Throttle => "too fast",
        sink::Fault::Unknown => "nobody knows whose fault",
    }
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transaction { writes, keyless, commits, raced } => {
                let mut events: Vec<String> =
                    writes.iter().map(|(key, events)| format!("{events} of key/{key}")).collect();
                events.extend((*keyless > 0).then(|| format!("{keyless} without a key")));
                let end = if *commits { "commits" } else { "rolls back" };
                let raced = if *raced { ", raced by another" } else { "" };
                write!(f, "a transaction writes {} and {end}{raced}", events.join(", "))
            }
            Self::Rubbish { key: Some(key) } => write!(f, "a row of rubbish under key/{key}"),
            Self::Rubbish { key: None } => f.write_str("a row of rubbish without a key"),
            Self::Reshard(how) => write!(f, "{how}"),
            Self::Trim { kept } => write!(f, "the stream forgets all but {kept} records"),
            Self::Io { io, skip, fault } => write!(f, "{}: {fault}", turn(*skip, io)),
            Self::Call { route, skip, fault } => {
                write!(f, "{}: {fault}", turn(*skip, format!("call of route {route}")))
            }
            Self::Outage { route, lasts, fault } => {
                write!(f, "the target of route {route} is out for {lasts:?}: {}", blamed(*fault))
            }
            Self::Unwanted { route, nth, how } => write!(f, "event {nth} on route {route}: {how}"),
            Self::Kill { relay } => write!(f, "relay {relay} is killed"),
            Self::Restart { relay } => write!(f, "relay {relay} is stopped in order and started again"),
            Self::Operator { route, what } => write!(f, "route {route}: {what}"),
            Self::Restore { since } => write!(f, "the store is put back to how it was {since:?} ago"),
            Self::Pass { skip, fault } => write!(f, "{}: {fault}", turn(*skip, "pass of the consumer")),
            Self::Transport { skip, twice, late } => {
                let twice = if *twice { "comes twice" } else { "comes" };
                write!(f, "{} {twice}, up to {late:?} late", turn(*skip, "message to the consumer"))
            }
            Self::Answer { nth, how, times } => {
                write!(f, "the consumer's handler at event {nth}, {times} times: {how}")
            }
            Self::ClockBack { by } => write!(f, "the consumer's clock is set back by {by:?}"),
            Self::StoreOut { io: Some(io), lasts } => write!(f, "every {io} fails for {lasts:?}"),
            Self::StoreOut { io: None, lasts } => write!(f, "all stores are out for {lasts:?}"),
        }
    }
}

impl Display for Resharding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Split => "a shard splits",
            Self::Roll => "a shard rolls over",
            Self::Merge => "two shards merge",
        })
    }
}

impl Display for IoFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::KilledBefore => f.write_str("its relay dies before it"),
            Self::KilledAfter => f.write_str("its relay dies when it has taken effect"),
            Self::Fails => f.write_str("it fails"),
            Self::Full => f.write_str("there is no room for it"),
            Self::AnswerLost => f.write_str("its answer is lost"),
            Self::Hangs(lasts) => write!(f, "it hangs for {lasts:?} before it takes effect"),
            Self::AnswersLate(lasts) => write!(f, "it is answered {lasts:?} late"),
            Self::Frozen(lasts) => write!(f, "its relay stands still for {lasts:?} before it"),
        }
    }
}

impl Display for CallFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fails(fault) => write!(f, "it fails as a whole, {}", blamed(*fault)),
            Self::Throttled(None) => f.write_str("it is throttled"),
            Self::Throttled(Some(after)) => write!(f, "it is throttled, again after {after:?}"),
            Self::AnswerLost => f.write_str("its answer is lost"),
            Self::ShortAnswer => f.write_str("its answer leaves out the last event"),
            Self::HalfAccepted => f.write_str("its first half is accepted"),
            Self::Hangs { lasts, effect: true } => write!(f, "it is answered {lasts:?} late"),
            Self::Hangs { lasts, effect: false } => write!(f, "it hangs for {lasts:?}, and nothing arrives"),
        }
    }
}

impl Display for Unwanted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(times) => write!(f, "refused {times} times"),
            Self::ForGood => f.write_str("refused for good"),
            Self::Bomb(fault) => write!(f, "every call with it fails as a whole, {}", blamed(*fault)),
            Self::Failing => f.write_str("fails by itself, nobody knows whose fault"),
        }
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redrive => f.write_str("its dead letters are redriven"),
            Self::Discard => f.write_str("a dead letter is discarded"),
            Self::Erase => f.write_str("a key in trouble is erased"),
            Self::Pause(lasts) => write!(f, "it is paused for {lasts:?}"),
            Self::Replay(what) => write!(f, "{what} is replayed"),
            Self::Refilter => f.write_str("its filter is written otherwise"),
            Self::Retire => f.write_str("it is retired"),
        }
    }
}

impl Display for ReplayScene {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Key(key) => write!(f, "key/{key}"),
            Self::Kind => f.write_str("every event of the second type"),
            Self::Event(nth) => write!(f, "event {nth}"),
        }
    }
}

impl Display for AnswerFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retries => "asks for another attempt",
            Self::GivesUp => "gives up",
            Self::Hangs { effect: true } => "takes effect and longer than it may",
            Self::Hangs { effect: false } => "takes longer than it may, and no effect",
        })
    }
}

impl Display for PassFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KilledBefore => "the consumer dies before its commit",
            Self::KilledAfter => "the consumer dies after its commit",
            Self::Fails => "its commit fails",
            Self::AnswerLost => "the answer to its commit is lost",
        })
    }
}

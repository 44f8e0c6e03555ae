//! What goes wrong in a run, all of it from one seed.

use std::fmt;

use fastrand::Rng;
use outbox::testing::{Io, Side, crashes::exercised};

use super::proxy::Loss;

/// Lives of a relay world.
const LIVES: usize = 9;
/// Deaths in a consumer world.
const CONSUMER_LIVES: usize = 10;
/// What a relay writes under its lease, and nobody may store for one that has lost it.
pub const FENCED: [Io; 8] = [
    Io::Renew,
    Io::NoteClaims,
    Io::Checkpoint,
    Io::Keep,
    Io::Settle,
    Io::ForgetTombstones,
    Io::NoteReplayed,
    Io::NoteHealth,
];

/// Where a process kills itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Which I/O.
    pub io: Io,
    /// Before or after it.
    pub side: Side,
    /// The how many-th, from 1.
    pub nth: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.io, self.side, self.nth)
    }
}

/// What ends one life of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It kills itself at a point.
    Point(Point),
    /// SIGKILL after so many arrivals, wherever it is then.
    Kill(usize),
    /// SIGSTOP past the lease after so many arrivals, while a standby takes over; SIGCONT; SIGKILL for both.
    Pause(usize),
    /// SIGSTOP when it is about to write, until another has taken the lease and was killed; then it goes on with that.
    HoldBack(Io),
    /// A proxy loses what is on its way to the target or back, then SIGKILL.
    Loss(Loss, usize),
    /// The wall clock jumps by so many hours, one after the other, then SIGKILL.
    Clock(Vec<i64>, usize),
}

impl Fault {
    /// How many processes it kills.
    pub const fn deaths(&self) -> usize {
        match self {
            Self::Pause(_) | Self::HoldBack(_) => 2,
            Self::Point(_) | Self::Kill(_) | Self::Loss(..) | Self::Clock(..) => 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(point) => write!(f, "killed at {point}"),
            Self::Kill(after) => write!(f, "killed after {after} arrivals"),
            Self::Pause(after) => write!(f, "stopped past the lease after {after} arrivals"),
            Self::HoldBack(io) => write!(f, "stopped past the lease before {io}"),
            Self::Loss(loss, after) => write!(f, "{loss}, killed after {after} arrivals"),
            Self::Clock(hours, after) => write!(f, "wall clock off by {hours:?} hours, killed after {after} arrivals"),
        }
    }
}

/// What kills a process of a consumer world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerFault {
    /// The consumer kills itself before or after a commit of its inbox.
    Commit(Side, u64),
    /// SIGKILL for the consumer, after so many applied events.
    Consumer(usize),
    /// SIGKILL for the relay, after so many applied events.
    Relay(usize),
    /// The consumer's wall clock jumps by so many hours while an event waits for another attempt, then SIGKILL.
    Clock(i64),
}

impl fmt::Display for ConsumerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(side, nth) => write!(f, "consumer killed at Transact:{side}:{nth}"),
            Self::Consumer(after) => write!(f, "consumer killed after {after} effects"),
            Self::Relay(after) => write!(f, "relay killed after {after} effects"),
            Self::Clock(hours) => write!(f, "consumer's wall clock off by {hours} hours, killed"),
        }
    }
}

/// What happens in a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Story {
    /// One relay after the other, and what ends each.
    Relays(Vec<Fault>),
    /// Relays and a consumer with an inbox in its database.
    Consumer(Vec<ConsumerFault>),
    /// The database is swapped for an older backup, while the relay runs or is stopped.
    Restored {
        /// Whether a relay runs meanwhile.
        running: bool,
    },
    /// The bookkeeping's file system is full.
    FullDisk,
}

impl Story {
    /// How many processes it kills.
    pub fn deaths(&self) -> usize {
        match self {
            Self::Relays(faults) => faults.iter().map(Fault::deaths).sum(),
            Self::Consumer(faults) => faults.len(),
            Self::Restored { .. } => 2,
            Self::FullDisk => 1,
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relays(faults) => faults.iter().try_for_each(|fault| writeln!(f, "    {fault}")),
            Self::Consumer(faults) => faults.iter().try_for_each(|fault| writeln!(f, "    {fault}")),
            Self::Restored { running } => {
                writeln!(f, "    an older backup in place of the database, relay running: {running}")
            }
            Self::FullDisk => writeln!(f, "    the bookkeeping's file system is full, relay killed meanwhile"),
        }
    }
}

/// A world of its own: what happens, and the seed of everything small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its number in the run.
    pub world: usize,
    /// Decides what is written when.
    pub seed: u64,
    /// What happens.
    pub story: Story,
}

/// A round of worlds with at least `crashes` deaths of processes: every point that a relay passes, on both sides, and
/// every kind of fault is among them, however few crashes are asked for.
pub fn round(seed: u64, crashes: usize) -> Vec<Plan> {
    let mut rng = Rng::with_seed(seed);
    let mut stories = vec![Story::Restored { running: false }, Story::Restored { running: true }, Story::FullDisk];
    stories.extend((0..2).map(|_| consumer(&mut rng)));
    let dealt: usize = stories.iter().map(Story::deaths).sum();
    let mut deck = deck(&mut rng, crashes.saturating_sub(dealt));
    rng.shuffle(&mut deck);
    let first = Side::BOTH.map(|side| Fault::Point(Point { io: Io::Start, side, nth: 1 }));
    let mut first = first.into_iter();
    for lives in deck.chunks(LIVES - 1) {
        // Where to start is asked until there is a checkpoint: in the first life of a world.
        let begin = first.next().unwrap_or_else(|| Fault::Kill(rng.usize(5..40)));
        stories.push(Story::Relays([&[begin], lives].concat()));
    }
    rng.shuffle(&mut stories);
    stories.into_iter().enumerate().map(|(world, story)| Plan { world, seed: rng.u64(..), story }).collect()
}

/// Ends of lives, of each kind some, at least `deaths` in all.
fn deck(rng: &mut Rng, deaths: usize) -> Vec<Fault> {
    let mut deck = Vec::new();
    for io in exercised().filter(|io| *io != Io::Start) {
        deck.extend(Side::BOTH.map(|side| Fault::Point(Point { io, side, nth: 1 })));
    }
    for loss in Loss::ALL {
        deck.extend((0..2).map(|_| Fault::Loss(loss, rng.usize(30..90))));
    }
    deck.extend(FENCED.map(Fault::HoldBack));
    deck.extend((0..4).map(|_| Fault::Pause(rng.usize(10..60))));
    deck.extend((0..4).map(|_| clock(rng)));
    while deck.iter().map(Fault::deaths).sum::<usize>() < deaths {
        deck.push(any(rng));
    }
    deck
}

fn any(rng: &mut Rng) -> Fault {
    match rng.u8(..20) {
        0..10 => {
            let all: Vec<Io> = exercised().collect();
            let io = all[rng.usize(..all.len())];
            let io = if io == Io::Start { Io::Publish } else { io };
            Fault::Point(Point { io, side: Side::BOTH[rng.usize(..2)], nth: rng.u64(1..=often(io)) })
        }
        10..15 => Fault::Kill(rng.usize(1..120)),
        15 => Fault::Pause(rng.usize(5..60)),
        16 => Fault::HoldBack(FENCED[rng.usize(..FENCED.len())]),
        17..19 => Fault::Loss(Loss::ALL[rng.usize(..Loss::ALL.len())], rng.usize(20..120)),
        _ => clock(rng),
    }
}

fn clock(rng: &mut Rng) -> Fault {
    let hours = (0..3).map(|_| rng.i64(-72..=72)).collect();
    Fault::Clock(hours, rng.usize(10..40))
}

fn consumer(rng: &mut Rng) -> Story {
    let fault = |number: usize| match number % 5 {
        0 => ConsumerFault::Commit(Side::Before, rng.u64(1..8)),
        1 => ConsumerFault::Commit(Side::After, rng.u64(1..8)),
        2 => ConsumerFault::Consumer(rng.usize(1..60)),
        3 => ConsumerFault::Relay(rng.usize(1..60)),
        _ => ConsumerFault::Clock(if number < 5 { -rng.i64(1..=72) } else { rng.i64(1..=72) }),
    };
    Story::Consumer((0..CONSUMER_LIVES).map(fault).collect())
}

/// How many times a life that is long enough passes this point, at the least.
const fn often(io: Io) -> u64 {
    match io {
        Io::Read | Io::Publish | Io::Checkpoint => 20,
        Io::Keep | Io::Settle | Io::Kept | Io::Trouble => 3,
        Io::Renew | Io::OperatorChanges => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(plans: &[Plan]) -> Vec<Fault> {
        let lives = plans.iter().filter_map(|plan| match &plan.story {
            Story::Relays(faults) => Some(faults.clone()),
            _ => None,
        });
        lives.flatten().collect()
    }

    #[test]
    fn a_round_has_every_point_on_both_sides_and_as_many_crashes_as_asked_for() {
        for crashes in [0, 200, 500] {
            let plans = round(1, crashes);
            assert!(plans.iter().map(|plan| plan.story.deaths()).sum::<usize>() >= crashes);
            let faults = faults(&plans);
            for io in exercised() {
                for side in Side::BOTH {
                    assert!(faults.contains(&Fault::Point(Point { io, side, nth: 1 })), "{io} {side}");
                }
            }
            let back = |plan: &Plan| matches!(&plan.story, Story::Consumer(faults) if faults.iter().any(|fault| matches!(fault, ConsumerFault::Clock(..0))));
            assert!(plans.iter().any(back), "a consumer's clock is set back");
            assert!(FENCED.iter().all(|io| faults.contains(&Fault::HoldBack(*io))));
            for loss in Loss::ALL {
                assert!(faults.iter().any(|fault| matches!(fault, Fault::Loss(found, _) if *found == loss)), "{loss}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_round_and_another_one_another() {
        assert_eq!(round(7, 200), round(7, 200));
        assert_ne!(round(7, 200), round(8, 200));
    }
}

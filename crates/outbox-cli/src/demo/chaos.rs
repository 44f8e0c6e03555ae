//! What goes wrong and when: decided by the seed alone, before anything starts.
//!
//! When something happens to a process is a matter of how far that process has come, not of the time of day: a slower
//! machine sees the same chaos, and nothing is killed that has nothing to do.

use std::{fmt, time::Duration};

use clap::ValueEnum;

/// How much goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Nothing.
    None,
    /// Each process is killed two or three times, and a consumer refuses everything for a while.
    #[default]
    Some,
    /// Each process is killed five to seven times, and each consumer refuses everything for a while.
    Lots,
}

impl Level {
    /// The fewest and the most kills of each process.
    const fn kills(self) -> (u64, u64) {
        match self {
            Self::None => (0, 0),
            Self::Some => (2, 3),
            Self::Lots => (5, 7),
        }
    }

    /// How many orders the ledger's rule is to refuse, about.
    pub(crate) const fn refusals(self) -> usize {
        match self {
            Self::None => 0,
            Self::Some => 5,
            Self::Lots => 10,
        }
    }
}

/// A process of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Role {
    /// The service that takes orders and writes events.
    Orders,
    /// The relay.
    Relay,
    /// The consumer that keeps totals.
    Ledger,
    /// The consumer that notifies.
    Notifications,
}

impl Role {
    /// In the order in which they are started.
    pub(crate) const ALL: [Self; 4] = [Self::Orders, Self::Ledger, Self::Notifications, Self::Relay];

    /// The consumers.
    pub(crate) const CONSUMERS: [Self; 2] = [Self::Ledger, Self::Notifications];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Relay => "relay",
            Self::Ledger => "ledger",
            Self::Notifications => "notifications",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// SIGKILL, and a new start at once.
    Kill,
    /// The consumer's webhook answers 503 to everything, for [`OUTAGE`].
    Break,
}

/// How long a broken webhook stays so.
pub(crate) const OUTAGE: Duration = Duration::from_secs(2);

/// One of them, once the process is so far: the orders service has placed so many orders, the relay has published so
/// many events, so many have reached the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incident {
    pub at: u64,
    pub action: Action,
}

/// Everything that will go wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    incidents: Vec<(Role, Vec<Incident>)>,
}

impl Plan {
    /// The plan for a run in which each process does as much as `work` says.
    pub(crate) fn new(seed: u64, level: Level, work: impl Fn(Role) -> u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let broken: &[Role] = match level {
            Level::None => &[],
            Level::Some => &Role::CONSUMERS[random.usize(0..2)..][..1],
            Level::Lots => &Role::CONSUMERS,
        };
        let incidents = Role::ALL.map(|role| {
            let mut incidents = kills(&mut random, level, work(role));
            if broken.contains(&role) {
                incidents.push(Incident { at: work(role) * random.u64(100..=900) / 1000, action: Action::Break });
            }
            incidents.sort_unstable();
            (role, incidents)
        });
        Self { incidents: incidents.into() }
    }

    /// What goes wrong with one process, in order.
    pub(crate) fn of(&self, role: Role) -> &[Incident] {
        self.incidents.iter().find(|(of, _)| *of == role).map_or(&[], |(_, incidents)| incidents)
    }
}

/// Kills, spread over the run: each somewhere in its own share of it, so that they don't all fall together.
pub(crate) fn kills(random: &mut fastrand::Rng, level: Level, work: u64) -> Vec<Incident> {
    let (fewest, most) = level.kills();
    let count = random.u64(fewest..=most);
    (0..count)
        .map(|kill| {
            let permille = 30 + (kill * 940 + random.u64(0..940)) / count;
            Incident { at: work * permille / 1000, action: Action::Kill }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kills_of(plan: &Plan, role: Role) -> usize {
        plan.of(role).iter().filter(|incident| incident.action == Action::Kill).count()
    }

    fn plan(seed: u64, level: Level) -> Plan {
        Plan::new(seed, level, |role| if role == Role::Ledger { 1500 } else { 2000 })
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_another() {
        assert_eq!(plan(7, Level::Lots), plan(7, Level::Lots));
        assert_ne!(plan(7, Level::Lots), plan(8, Level::Lots));
    }

    #[test]
    fn every_process_is_killed_as_often_as_the_level_says() {
        for seed in 0..200 {
            for role in Role::ALL {
                assert_eq!(kills_of(&plan(seed, Level::None), role), 0);
                assert!((2..=3).contains(&kills_of(&plan(seed, Level::Some), role)));
                assert!((5..=7).contains(&kills_of(&plan(seed, Level::Lots), role)));
            }
        }
    }

    #[test]
    fn incidents_are_in_order_and_happen_while_their_process_has_work() {
        for seed in 0..200 {
            let plan = plan(seed, Level::Lots);
            for role in Role::ALL {
                let incidents = plan.of(role);
                let end = if role == Role::Ledger { 1500 } else { 2000 };
                assert!(incidents.is_sorted_by_key(|incident| incident.at));
                assert!(incidents.iter().all(|incident| (1..end).contains(&incident.at)));
            }
        }
    }

    #[test]
    fn webhooks_break_at_one_consumer_or_at_both() {
        let outages = |level, seed| {
            let plan = plan(seed, level);
            Role::ALL.map(|role| plan.of(role).iter().filter(|incident| incident.action == Action::Break).count())
        };
        for seed in 0..50 {
            assert_eq!(outages(Level::None, seed), [0; 4]);
            assert_eq!(outages(Level::Some, seed).iter().sum::<usize>(), 1);
            assert_eq!(outages(Level::Lots, seed), [0, 1, 1, 0]);
        }
    }
}

//! Who takes part, and what goes wrong with whom.

use clap::ValueEnum;

use crate::demo::chaos::{Incident, Level, kills};

/// A process of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Role {
    /// Looks after the emulator of AWS.
    Emulator,
    /// The service with the carts.
    Carts,
    /// The relay.
    Relay,
    /// The consumer that keeps totals.
    Totals,
}

impl Role {
    /// In the order in which they are started.
    pub(crate) const ALL: [Self; 4] = [Self::Emulator, Self::Carts, Self::Totals, Self::Relay];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Emulator => "emulator",
            Self::Carts => "carts",
            Self::Relay => "relay",
            Self::Totals => "totals",
        }
    }

    /// Whether it is killed: what AWS keeps survives a machine, and the emulator keeps it in memory.
    const fn is_killed(self) -> bool {
        match self {
            Self::Emulator => false,
            Self::Carts | Self::Relay | Self::Totals => true,
        }
    }
}

/// What goes wrong with each, in a run of so many events: decided by the seed alone.
pub(crate) fn incidents(seed: u64, level: Level, events: u64) -> Vec<(Role, Vec<Incident>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let of = |role: Role| (role, if role.is_killed() { kills(&mut random, level, events) } else { Vec::new() });
    Role::ALL.map(of).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_emulator_are_killed_and_the_same_by_the_same_seed() {
        let plan = incidents(7, Level::Some, 3_000);
        assert_eq!(plan, incidents(7, Level::Some, 3_000));
        for (role, incidents) in plan {
            let most = if role == Role::Emulator { 0..=0 } else { 2..=3 };
            assert!(most.contains(&incidents.len()), "{role:?}: {incidents:?}");
        }
    }
}

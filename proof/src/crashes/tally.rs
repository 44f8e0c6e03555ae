//! What a run did, and how often.

use std::{collections::BTreeMap, fmt};

use outbox::testing::{Io, Side, crashes::exercised};

use super::{
    plan::{FENCED, Fault},
    proxy::Loss,
};

/// What was struck, and how much came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Deaths at points.
    pub points: BTreeMap<(Io, Side), u64>,
    /// Faults of each kind.
    pub faults: BTreeMap<String, u64>,
    /// Processes that were killed.
    pub deaths: u64,
    /// Worlds.
    pub worlds: u64,
    /// Events committed.
    pub committed: u64,
    /// Events accepted, repetitions included.
    pub accepted: u64,
    /// Repetitions.
    pub duplicates: u64,
    /// The most repetitions between two crashes, and how many were allowed there.
    pub most_duplicates: (u64, u64),
}

/// What strikes besides the points.
fn kinds() -> Vec<String> {
    let losses = Loss::ALL.iter().map(ToString::to_string);
    let others = [KILL, PAUSE, CLOCK, BACKUP, BACKUP_RUNNING, FULL_DISK, COMMIT, CONSUMER, CONSUMER_CLOCK];
    others.into_iter().map(str::to_owned).chain(losses).chain(FENCED.map(held_back)).collect()
}

/// A relay was stopped past its lease when it was about to do this.
fn held_back(io: Io) -> String {
    format!("held back past the lease: {io}")
}

const POINT: &str = "relay killed at a named point";
const KILL: &str = "relay killed from outside";
const PAUSE: &str = "relay stopped past its lease";
const CLOCK: &str = "wall clock jumped";
/// The database was swapped for an older backup.
pub(super) const BACKUP: &str = "database swapped for a backup";
/// The same, while a relay ran.
pub(super) const BACKUP_RUNNING: &str = "database swapped under a running relay";
/// No room for the bookkeeping.
pub(super) const FULL_DISK: &str = "file system full";
/// The consumer killed itself at a commit.
pub(super) const COMMIT: &str = "consumer killed at a commit of its inbox";
/// The consumer was killed.
pub(super) const CONSUMER: &str = "consumer killed from outside";
/// The consumer's wall clock jumped.
pub(super) const CONSUMER_CLOCK: &str = "wall clock of a consumer jumped";

impl Tally {
    /// Notes a fault that struck.
    pub fn strike(&mut self, fault: &Fault) {
        self.deaths += fault.deaths() as u64;
        match fault {
            Fault::Point(point) => {
                *self.points.entry((point.io, point.side)).or_default() += 1;
                self.note(POINT);
            }
            Fault::Kill(_) => self.note(KILL),
            Fault::Pause(_) => self.note(PAUSE),
            Fault::HoldBack(io) => self.note(&held_back(*io)),
            Fault::Clock(..) => self.note(CLOCK),
            Fault::Loss(loss, _) => self.note(&loss.to_string()),
        }
    }

    /// Notes that a relay was killed.
    pub fn kill(&mut self) {
        self.deaths += 1;
        self.note(KILL);
    }

    /// Notes a fault that has struck.
    pub fn note(&mut self, fault: &str) {
        *self.faults.entry(fault.to_owned()).or_default() += 1;
    }

    /// Notes repetitions between two crashes, and how many were allowed.
    pub fn repeat(&mut self, duplicates: usize, allowed: usize) {
        self.duplicates += duplicates as u64;
        self.most_duplicates = self.most_duplicates.max((duplicates as u64, allowed as u64));
    }

    /// Adds what another world did.
    pub fn add(&mut self, other: Self) {
        let Self { points, faults, deaths, worlds, committed, accepted, duplicates, most_duplicates } = other;
        for (point, count) in points {
            *self.points.entry(point).or_default() += count;
        }
        for (fault, count) in faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.deaths += deaths;
        self.worlds += worlds;
        self.committed += committed;
        self.accepted += accepted;
        self.duplicates += duplicates;
        self.most_duplicates = self.most_duplicates.max(most_duplicates);
    }

    /// Points and kinds of faults that never struck: as long as there are any, a run has proven nothing of them.
    pub fn missing(&self) -> Vec<String> {
        let points = exercised().flat_map(|io| Side::BOTH.map(|side| (io, side)));
        let points = points.filter(|point| !self.points.contains_key(point));
        let points = points.map(|(io, side)| format!("{side} {io}"));
        points.chain(kinds().into_iter().filter(|kind| !self.faults.contains_key(kind))).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deaths, worlds, committed, accepted, duplicates, most_duplicates: (most, allowed), .. } = self;
        writeln!(f, "{deaths} processes killed in {worlds} worlds")?;
        writeln!(f, "{committed} events committed, {accepted} accepted, {duplicates} of them again")?;
        writeln!(f, "at most {most} again between two crashes, where {allowed} were allowed\n")?;
        for (fault, count) in &self.faults {
            writeln!(f, "{count:>6}  {fault}")?;
        }
        writeln!(f, "\n{:>6} {:>6}  killed at", "before", "after")?;
        for io in exercised() {
            let count = |side| self.points.get(&(io, side)).copied().unwrap_or(0);
            writeln!(f, "{:>6} {:>6}  {io}", count(Side::Before), count(Side::After))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crashes::plan::Point;

    #[test]
    fn a_point_or_fault_that_never_struck_is_missing_until_it_has() {
        let mut tally = Tally::default();
        let missing = tally.missing();
        assert!(missing.contains(&"after Settle".to_owned()) && missing.contains(&FULL_DISK.to_owned()));
        tally.strike(&Fault::Point(Point { io: Io::Settle, side: Side::After, nth: 1 }));
        tally.note(FULL_DISK);
        assert_eq!(tally.missing().len(), missing.len() - 2);
        assert_eq!(tally.deaths, 1);
    }
}

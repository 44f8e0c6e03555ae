//! What has become of events on a route.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    super::{
        schedule::{FilterScene, RouteScene},
        worker::DOUBT,
    },
    Known, SECOND_KIND,
};
use crate::{bookkeeping, clock::Moment, event::Key, source::PartitionId};

/// What has become of events on a route.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is true of a route by itself")]
pub(in super::super) struct RouteTruth {
    pub(super) filter: FilterScene,
    pub(super) goes_on: bool,
    /// How often an event is tried that is refused by name.
    pub(super) attempts: u32,
    /// Whether order can be judged no more: where a source reorders, a relay that begins anew does not know what went out
    /// before.
    pub(super) unordered: bool,
    /// Whether what was discarded may come again: the route has recovered, and read the table within the slack; or the store
    /// was put back from a backup, and is read from where histories part.
    pub(in super::super) reads_again: bool,
    pub(in super::super) rewritten: Rewritten,
    pub(in super::super) retired: bool,
    /// How often each event arrived, by its number; markers included.
    pub(in super::super) arrivals: Vec<u32>,
    /// Given up by an operator, and when, so that a marker comes in its place.
    pub(in super::super) given_up: BTreeMap<usize, Moment>,
    /// Erased, or given up where no marker comes: nothing comes in its place.
    pub(in super::super) erased: BTreeMap<usize, Moment>,
    /// What a route that goes on need not wait for: rows that are no entry, what was refused as often as makes a dead letter,
    /// or is one.
    pub(super) passed_over: BTreeSet<usize>,
    pub(super) lanes: BTreeMap<Key, Lane>,
    /// What the target has said no to, and what failed, since it was last redriven.
    refused: BTreeMap<usize, Refusals>,
    /// When anything was accepted the last time.
    pub(super) accepted: Option<Moment>,
    /// What was in calls that failed for no named reason, and since when.
    pub(in super::super) doubted: BTreeMap<usize, Moment>,
    /// Dead letters that were found to have a reason, as they were then: what is said of another copy later changes
    /// nothing about them.
    pub(in super::super) judged: BTreeMap<bookkeeping::KeptId, bookkeeping::Front>,
    /// What a marker has come in place of.
    pub(super) markers: BTreeMap<usize, Moment>,
    /// How much of each partition is known to be behind the checkpoint rightly.
    pub(in super::super) checked: BTreeMap<PartitionId, usize>,
    /// What each replay brought, in order of first arrival.
    pub(in super::super) replays: BTreeMap<Arc<str>, Vec<usize>>,
}

/// Whether an operator has written a route's filter otherwise.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) enum Rewritten {
    #[default]
    No,
    /// The store knows of no other.
    Unregistered,
    /// The route was registered with another: it is not gapless any more.
    Registered,
}

/// What speaks against an event.
#[derive(Clone, Copy, Default)]
struct Refusals {
    /// How often the target said no to it by name.
    named: u32,
    /// How often it failed otherwise, though others were accepted.
    unnamed: u32,
    for_good: bool,
    /// When it failed otherwise the last time.
    failed: Option<Moment>,
}

/// The events of a key that the route takes, in order of commits.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) events: Vec<usize>,
    /// All before have arrived, or never will.
    pub(super) next: usize,
}

impl RouteTruth {
    pub(super) fn new(scene: &RouteScene) -> Self {
        let RouteScene { filter, goes_on, attempts, .. } = *scene;
        Self { filter, goes_on, attempts, ..Self::default() }
    }

    pub(in super::super) fn takes(&self, known: &Known) -> bool {
        known.event.as_ref().is_none_or(|event| match self.filter {
            FilterScene::All => true,
            FilterScene::Kind => event.kind() == SECOND_KIND,
            FilterScene::Key => event.key().is_some(),
        })
    }

    /// Whether a checkpoint may be past the event, and nothing is kept of it: of what was given up its marker has to come.
    pub(in super::super) fn is_done(&self, number: usize) -> bool {
        self.arrivals[number] > 0 || self.erased.contains_key(&number)
    }

    /// The target refused the event by name.
    pub(in super::super) fn refuses(&mut self, number: usize, for_good: bool) {
        let refusals = self.refused.entry(number).or_default();
        refusals.named += 1;
        refusals.for_good |= for_good;
        if self.is_condemned(number) {
            self.is_dead(number);
        }
    }

    /// The event was in a call that failed, and nobody said whose fault that was.
    pub(in super::super) fn fails(&mut self, number: usize, now: Moment) {
        let refusals = self.refused.entry(number).or_default();
        let before = refusals.failed.replace(now);
        if before.is_none_or(|before| self.accepted.is_some_and(|accepted| accepted >= before)) {
            refusals.unnamed += 1;
        }
        self.doubted.entry(number).or_insert(now);
    }

    /// Whether the event was refused for good, or has failed as often as it is tried, and was refused.
    pub(in super::super) fn is_condemned(&self, number: usize) -> bool {
        let spent = |refusals: &Refusals| refusals.named > 0 && refusals.named + refusals.unnamed >= self.attempts;
        self.refused.get(&number).is_some_and(|refusals| refusals.for_good || spent(refusals))
    }

    /// Whether the event has failed for long, and as often as it is tried while others were accepted, though nobody knows
    /// whose fault that is.
    pub(in super::super) fn is_doubtful(&self, number: usize, now: Moment) -> bool {
        let is_spent = |refusals: &Refusals| refusals.named + refusals.unnamed >= self.attempts;
        self.doubted.get(&number).is_some_and(|since| now.since(*since) >= DOUBT)
            && self.refused.get(&number).is_some_and(is_spent)
    }

    /// An operator had its dead letter published again: it has a full set of attempts.
    pub(in super::super) fn redriven(&mut self, number: usize, letter: bookkeeping::KeptId) {
        self.refused.remove(&number);
        self.doubted.remove(&number);
        self.judged.remove(&letter);
    }

    /// The event is a dead letter.
    pub(in super::super) fn is_dead(&mut self, number: usize) {
        if self.goes_on {
            self.passed_over.insert(number);
        }
    }

    /// Whether its key need not wait for the event.
    pub(in super::super) fn is_passed_over(&self, number: usize) -> bool {
        self.passed_over.contains(&number)
    }
}

//! What is known to be true: every committed event, and what has become of it on each route.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;

use super::{
    rule::{Breach, Rule},
    schedule::{FilterScene, Scene, SourceScene},
};
use crate::{
    bookkeeping,
    clock::Moment,
    entry::{Position, Record},
    event::{Event, Key, SKIPPED},
    source::PartitionId,
};

/// The type that a filtered route takes.
pub(super) const SECOND_KIND: &str = "second";

/// How long a relay may go on with what it loaded before somebody discarded it: it looks for that every second.
const NOTICED: Duration = Duration::from_secs(2);

/// A committed event, or a row that is none.
pub(super) struct Known {
    pub(super) id: Arc<str>,
    pub(super) key: Option<Key>,
    /// The event, unless it is a row that is no entry.
    pub(super) event: Option<Event>,
    /// What it was caused by.
    pub(super) cause: Option<usize>,
    /// A restored backup has no such event.
    pub(super) lost: bool,
    /// Nor had one that was adopted before.
    pub(super) gone_before: bool,
    /// The position behind its record in the store.
    pub(super) position: Position,
}

impl Known {
    /// The lane that it belongs to.
    pub(super) fn lane(&self) -> bookkeeping::Lane {
        let alone = || bookkeeping::Lane::Event(self.id.clone());
        self.key.clone().map_or_else(alone, bookkeeping::Lane::Key)
    }
}

#[derive(Default)]
pub(super) struct Truth {
    pub(super) events: Vec<Known>,
    by_id: FxHashMap<Arc<str>, usize>,
    pub(super) routes: Vec<RouteTruth>,
    /// Whether order can be judged no more: where a source reorders, a relay that begins anew does not know what went out
    /// before.
    unordered: bool,
    owners: u64,
    /// Whether what was discarded may come again: a route has recovered, and read the table within the slack; or the store
    /// was put back from a backup, and is read from where histories part.
    reads_again: bool,
    /// Whether the source reorders.
    reorders: bool,
    /// What was read of each partition, in its order.
    pub(super) read: BTreeMap<PartitionId, Vec<(Position, Arc<Record>)>>,
}

/// What has become of events on a route.
#[derive(Default)]
pub(super) struct RouteTruth {
    filter: FilterScene,
    goes_on: bool,
    /// How often an event is tried that is refused by name.
    attempts: u32,
    pub(super) rewritten: Rewritten,
    pub(super) retired: bool,
    /// How often each event arrived, by its number; markers included.
    pub(super) arrivals: Vec<u32>,
    /// Given up by an operator, and when, so that a marker comes in its place.
    pub(super) given_up: BTreeMap<usize, Moment>,
    /// Erased, or given up where no marker comes: nothing comes in its place.
    pub(super) erased: BTreeMap<usize, Moment>,
    /// What a route that goes on need not wait for: rows that are no entry, what was refused as often as makes a dead letter,
    /// or is one.
    passed_over: BTreeSet<usize>,
    lanes: BTreeMap<Key, Lane>,
    /// What the target has said no to, and what failed, since it was last redriven.
    refused: BTreeMap<usize, Refusals>,
    /// When anything was accepted the last time.
    accepted: Option<Moment>,
    /// What was in calls that failed for no named reason, and since when.
    pub(super) doubted: BTreeMap<usize, Moment>,
    /// Dead letters that were found to have a reason, as they were then: what is said of another copy later changes
    /// nothing about them.
    pub(super) judged: BTreeMap<bookkeeping::KeptId, bookkeeping::Front>,
    /// What a marker has come in place of.
    markers: BTreeMap<usize, Moment>,
    /// How much of each partition is known to be behind the checkpoint rightly.
    pub(super) checked: BTreeMap<PartitionId, usize>,
    /// What each replay brought, in order of first arrival.
    pub(super) replays: BTreeMap<Arc<str>, Vec<usize>>,
}

/// Whether an operator has written a route's filter otherwise.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Rewritten {
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
struct Lane {
    events: Vec<usize>,
    /// All before have arrived, or never will.
    next: usize,
}

impl Truth {
    pub(super) fn new(scene: &Scene) -> Self {
        let route = |route: &super::schedule::RouteScene| RouteTruth {
            filter: route.filter,
            goes_on: route.goes_on,
            attempts: route.attempts,
            ..RouteTruth::default()
        };
        let reorders = matches!(scene.source, SourceScene::Shards { reordering: true, .. });
        Self { routes: scene.routes.iter().map(route).collect(), reorders, ..Self::default() }
    }

    /// A relay owns the source from now on.
    pub(super) fn owned(&mut self) {
        self.owners += 1;
        self.unordered |= self.reorders && self.owners > 1;
    }

    /// A route reads the table again.
    pub(super) fn recovers(&mut self) {
        self.reads_again = true;
        self.begins_anew();
    }

    /// A pipeline of a route begins anew.
    pub(super) fn begins_anew(&mut self) {
        self.unordered |= self.reorders;
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The number of the event `id`.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Notes a record that was committed.
    pub(super) fn committed(&mut self, record: &Record) {
        match &record.content {
            crate::entry::Content::Events(events) => {
                for event in events.iter() {
                    let cause =
                        event.extension_text(crate::event::extension::CAUSATION_ID).and_then(|id| self.find(id));
                    self.add(Known {
                        id: event.id.clone(),
                        key: event.key().cloned(),
                        event: Some(event.clone()),
                        cause,
                        lost: false,
                        gone_before: false,
                        position: record.position.clone(),
                    });
                }
            }
            crate::entry::Content::Undecodable(row) => self.add(Known {
                id: row.id.clone(),
                key: row.key.clone(),
                event: None,
                cause: None,
                lost: false,
                gone_before: false,
                position: record.position.clone(),
            }),
        }
    }

    fn add(&mut self, known: Known) {
        let number = self.events.len();
        for route in &mut self.routes {
            route.arrivals.push(0);
            if known.event.is_none() {
                route.is_dead(number);
            }
            if let (Some(key), true) = (&known.key, route.takes(&known)) {
                route.lanes.entry(key.clone()).or_default().events.push(number);
            }
        }
        self.by_id.insert(known.id.clone(), number);
        self.events.push(known);
    }

    /// A backup took the store's place that ends at `last`: what came after is gone.
    pub(super) fn restored(&mut self, is_lost: impl Fn(&Position) -> bool) {
        for known in &mut self.events {
            known.gone_before = known.lost;
        }
        for known in self.events.iter_mut().filter(|known| !known.lost && is_lost(&known.position)) {
            known.lost = true;
        }
        let events = &self.events;
        for route in &mut self.routes {
            for lane in route.lanes.values_mut() {
                lane.events.retain(|&number| !events[number].lost);
                lane.next = 0;
            }
            route.checked.clear();
        }
        self.read.clear();
        self.reads_again = true;
    }

    /// An event arrived at a route's target `now`, in a call that `began` then. Says what is wrong with that.
    /// Gives its number if it came again.
    pub(super) fn arrived(
        &mut self,
        route: usize,
        event: &Event,
        began: Moment,
        now: Moment,
    ) -> Result<Option<usize>, Breach> {
        let Some(number) = self.find(event.id()) else {
            return Err(Breach::new(Rule::Atomic, format!("{} arrived, and nobody committed it", event.id())));
        };
        let marker = event.kind() == SKIPPED;
        if !marker {
            self.is_as_committed(number, event)?;
        }
        let truth = &mut self.routes[route];
        if !marker && !truth.takes(&self.events[number]) {
            let what = format!("{} arrived at a route that does not take it", event.id());
            return Err(Breach::new(Rule::Atomic, what));
        }
        if marker && !truth.given_up.contains_key(&number) {
            let what = format!("a marker arrived for {}, which nobody discarded", event.id());
            return Err(Breach::new(Rule::NothingLost, what));
        }
        if marker {
            truth.markers.entry(number).or_insert(now);
        } else if truth.markers.get(&number).is_some_and(|came| *came <= began) && !self.reads_again {
            let what =
                format!("{} arrived in a call that began when it was discarded and its marker had come", event.id());
            return Err(Breach::new(Rule::InOrder, what));
        }
        let given_up = truth.given_up.get(&number).or_else(|| truth.erased.get(&number));
        // Without a key, a record that came twice is two letters, and each is discarded by itself.
        let is_one = self.events[number].key.is_some() || !self.reorders;
        if !marker && !self.reads_again && is_one && given_up.is_some_and(|at| began.since(*at) > NOTICED) {
            let what = format!("{} arrived in a call that began long after it was discarded", event.id());
            return Err(Breach::new(Rule::InOrder, what));
        }
        truth.arrivals[number] += 1;
        truth.accepted = Some(now);
        if truth.arrivals[number] > 1 {
            return Ok(Some(number));
        }
        self.in_order(route, number).map(|()| None)
    }

    fn is_as_committed(&self, number: usize, event: &Event) -> Result<(), Breach> {
        if self.events[number].event.as_ref() == Some(event) {
            return Ok(());
        }
        Err(Breach::new(Rule::Atomic, format!("{} arrived otherwise than it was committed", event.id())))
    }

    /// Whether what comes again can be judged: where a source reorders, a relay that begins anew does not know what went
    /// out before.
    pub(super) fn knows_duplicates(&self) -> bool {
        !self.unordered
    }

    /// Whether the table was read again, or the store put back.
    pub(super) fn reads_again(&self) -> bool {
        self.reads_again
    }

    /// A replay brought an event. Says what is wrong with that.
    pub(super) fn replayed(&mut self, route: usize, replay: &Arc<str>, event: &Event) -> Result<(), Breach> {
        let Some(number) = self.find(event.id()) else {
            return Err(Breach::new(Rule::Atomic, format!("{} was replayed, and nobody committed it", event.id())));
        };
        self.is_as_committed(number, event)?;
        if !self.routes[route].takes(&self.events[number]) {
            let what = format!("{} was replayed on a route that does not take it", event.id());
            return Err(Breach::new(Rule::Atomic, what));
        }
        // Its pipelines begin anew, and know nothing of what went out before; nor does what is read again.
        let goes_on = self.routes[route].goes_on || self.reorders || self.reads_again;
        let brought = self.routes[route].replays.entry(replay.clone()).or_default();
        if !brought.contains(&number) {
            let key = &self.events[number].key;
            // Where a route goes on without a dead letter, so do its replays.
            let same_key = |other: &&usize| !goes_on && key.is_some() && self.events[**other].key == *key;
            if let Some(&later) = brought.iter().filter(same_key).find(|&&other| other > number) {
                let what = format!("replay {replay} brought {} after {}", event.id(), self.events[later].id);
                return Err(Breach::new(Rule::InOrder, what));
            }
            brought.push(number);
        }
        Ok(())
    }

    /// Whether the event that arrived for the first time overtook none of its key.
    fn in_order(&mut self, route: usize, number: usize) -> Result<(), Breach> {
        let known = &self.events[number];
        let (Some(key), false) = (&known.key, known.lost || self.unordered) else { return Ok(()) };
        let truth = &mut self.routes[route];
        let Some(lane) = truth.lanes.get_mut(key) else { return Ok(()) };
        let overtaken = lane.events.iter().skip(lane.next).take_while(|&&earlier| earlier != number).find(|earlier| {
            // A row that is no entry has no place: where a source reorders, nothing tells what it came before.
            (self.events[**earlier].event.is_some() || !self.reorders)
                && truth.arrivals[**earlier] == 0
                && !truth.erased.contains_key(earlier)
                && !truth.passed_over.contains(earlier)
        });
        // A key of which nothing came before cannot be judged: it may have gone out long ago.
        let is_known = |overtaken: usize| {
            let before = lane.events.iter().take_while(|&&earlier| earlier != overtaken);
            !self.reorders || before.into_iter().any(|&earlier| truth.arrivals[earlier] > 0)
        };
        if let Some(&overtaken) = overtaken.filter(|&&overtaken| is_known(overtaken)) {
            let (behind, ahead) = (&self.events[overtaken].id, &known.id);
            let what = format!("{ahead} arrived before {behind}, which was committed before it");
            return Err(Breach::new(Rule::InOrder, what));
        }
        while lane.events.get(lane.next).is_some_and(|number| truth.arrivals[*number] > 0) {
            lane.next += 1;
        }
        Ok(())
    }

    /// How many events have arrived on all routes, duplicates included.
    pub(super) fn arrived_in_all(&self) -> u64 {
        self.routes.iter().flat_map(|route| &route.arrivals).map(|&times| u64::from(times)).sum()
    }

    /// What the route has neither delivered nor given up.
    pub(super) fn missing(&self, route: usize) -> impl Iterator<Item = usize> {
        let truth = &self.routes[route];
        let is_missing = move |number: &usize| {
            let known = &self.events[*number];
            !known.lost && truth.takes(known) && !truth.is_done(*number)
        };
        (0..self.events.len()).filter(is_missing)
    }
}

impl RouteTruth {
    pub(super) fn takes(&self, known: &Known) -> bool {
        known.event.as_ref().is_none_or(|event| match self.filter {
            FilterScene::All => true,
            FilterScene::Kind => event.kind() == SECOND_KIND,
            FilterScene::Key => event.key().is_some(),
        })
    }

    /// Whether a checkpoint may be past the event, and nothing is kept of it.
    pub(super) fn is_done(&self, number: usize) -> bool {
        self.arrivals[number] > 0 || self.given_up.contains_key(&number) || self.erased.contains_key(&number)
    }

    /// The target refused the event by name.
    pub(super) fn refuses(&mut self, number: usize, for_good: bool) {
        let refusals = self.refused.entry(number).or_default();
        refusals.named += 1;
        refusals.for_good |= for_good;
        if self.is_condemned(number) {
            self.is_dead(number);
        }
    }

    /// The event was in a call that failed, and nobody said whose fault that was.
    pub(super) fn fails(&mut self, number: usize, now: Moment) {
        let refusals = self.refused.entry(number).or_default();
        let before = refusals.failed.replace(now);
        if before.is_none_or(|before| self.accepted.is_some_and(|accepted| accepted >= before)) {
            refusals.unnamed += 1;
        }
        self.doubted.entry(number).or_insert(now);
    }

    /// Whether the event was refused for good, or has failed as often as it is tried, and was refused.
    pub(super) fn is_condemned(&self, number: usize) -> bool {
        let spent = |refusals: &Refusals| refusals.named > 0 && refusals.named + refusals.unnamed >= self.attempts;
        self.refused.get(&number).is_some_and(|refusals| refusals.for_good || spent(refusals))
    }

    /// An operator had its dead letter published again: it has a full set of attempts.
    pub(super) fn redriven(&mut self, number: usize, letter: bookkeeping::KeptId) {
        self.refused.remove(&number);
        self.doubted.remove(&number);
        self.judged.remove(&letter);
    }

    /// The event is a dead letter.
    pub(super) fn is_dead(&mut self, number: usize) {
        if self.goes_on {
            self.passed_over.insert(number);
        }
    }

    /// Whether its key need not wait for the event.
    pub(super) fn is_passed_over(&self, number: usize) -> bool {
        self.passed_over.contains(&number)
    }
}

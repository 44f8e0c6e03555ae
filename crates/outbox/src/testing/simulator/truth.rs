//! What is known to be true: every committed event, and what has become of it on each route.

mod route;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

pub(super) use self::route::{Rewritten, RouteTruth};

use super::{
    rule::{Breach, Rule},
    schedule::{Scene, SourceScene},
};
use crate::{
    bookkeeping,
    clock::Moment,
    entry::{Position, Record},
    event::{Event, Key, SKIPPED, extension},
    source::PartitionId,
};

/// The type that a filtered route takes.
pub(super) const SECOND_KIND: &str = "second";

/// How long a relay may go on, with what it had loaded too, before it notices what an operator did: it looks for that every
/// second.
pub(super) const NOTICED: Duration = Duration::from_secs(2);

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
    owners: u64,
    /// Whether the source reorders.
    reorders: bool,
    /// What was read of each partition, in its order.
    pub(super) read: BTreeMap<PartitionId, Vec<(Position, Arc<Record>)>>,
}

impl Truth {
    pub(super) fn new(scene: &Scene) -> Self {
        let reorders = matches!(scene.source, SourceScene::Shards { reordering: true, .. });
        Self { routes: scene.routes.iter().map(RouteTruth::new).collect(), reorders, ..Self::default() }
    }

    /// A relay owns the source from now on.
    pub(super) fn owned(&mut self) {
        self.owners += 1;
        if self.owners > 1 {
            self.begins_anew();
        }
    }

    /// A route reads the table again.
    pub(super) fn recovers(&mut self, route: usize) {
        self.routes[route].reads_again = true;
        self.routes[route].unordered |= self.reorders;
    }

    /// A pipeline of each route begins anew.
    pub(super) fn begins_anew(&mut self) {
        for route in &mut self.routes {
            route.unordered |= self.reorders;
        }
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
            route.reads_again = true;
        }
        self.read.clear();
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
        if marker {
            self.is_in_its_place(number, event)?;
        } else {
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
        } else if truth.markers.get(&number).is_some_and(|came| *came <= began) && !truth.reads_again {
            let what =
                format!("{} arrived in a call that began when it was discarded and its marker had come", event.id());
            return Err(Breach::new(Rule::InOrder, what));
        }
        let given_up = truth.given_up.get(&number).or_else(|| truth.erased.get(&number));
        // Without a key, a record that came twice is two letters, and each is discarded by itself.
        let is_one = self.events[number].key.is_some() || !self.reorders;
        if !marker && !truth.reads_again && is_one && given_up.is_some_and(|at| began.since(*at) > NOTICED) {
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
        Err(Breach::new(Rule::Atomic, format!("{} is otherwise than it was committed", event.id())))
    }

    /// Whether a marker says of which event it is: of which key, at which place, and nothing of what was in it.
    fn is_in_its_place(&self, number: usize, marker: &Event) -> Result<(), Breach> {
        let given_up = self.events[number].event.as_ref();
        let says = |event: &Event| (event.key().cloned(), event.placing().copied());
        if marker.data().is_none() && given_up.is_some_and(|event| says(event) == says(marker)) {
            return Ok(());
        }
        Err(Breach::new(Rule::Atomic, format!("the marker of {} does not stand in its place", marker.id())))
    }

    /// The number of an event that the consumer's handler is given. Says what is wrong with that.
    pub(super) fn handed(&self, event: &Event) -> Result<usize, Breach> {
        let Some(number) = self.find(event.id()) else {
            return Err(Breach::new(Rule::Atomic, format!("{} is handled, and nobody committed it", event.id())));
        };
        if event.kind() == SKIPPED {
            return Err(Breach::new(Rule::Once, format!("the marker of {} is handled as an event", event.id())));
        }
        // What its call said of it is not the event's.
        let mut plain = event.clone();
        plain.extensions.retain(|name, _| ![extension::GAPLESS, extension::REPLAY_ID].contains(&&**name));
        self.is_as_committed(number, &plain).map(|()| number)
    }

    /// Whether what comes again can be judged: where a source reorders, a relay that begins anew does not know what went
    /// out before.
    pub(super) fn knows_duplicates(&self, route: usize) -> bool {
        !self.routes[route].unordered
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
        let goes_on = self.routes[route].goes_on || self.reorders || self.routes[route].reads_again;
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
        let (Some(key), false) = (&known.key, known.lost || self.routes[route].unordered) else { return Ok(()) };
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

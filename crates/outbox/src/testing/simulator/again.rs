//! What may rightly come again: an event of which nobody could know that it had arrived, once for each time that was so.
//!
//! A call is cut off, or its answer is lost: its events. A relay takes the source over: what
//! had arrived by then and was not yet behind a stored checkpoint, or was kept still. A relay that stopped in order and
//! had nothing left to send leaves nothing of that; nor does a checkpoint of what is before it and not kept.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    checks::{at_once, ids, is_kept},
    rule::Rule,
    schedule::SourceScene,
    world::World,
};
use crate::{bookkeeping::Bookkeeping as _, entry::Position};

/// The largest entry that is written.
pub(super) const LARGEST_ENTRY: usize = 6;

/// What is excused at this moment.
pub(super) struct Excuses {
    /// How often each event may come again on each route.
    times: Vec<BTreeMap<usize, u32>>,
    /// Whether something went wrong since a relay took the source over.
    disturbed: bool,
    /// How many events there were when everything of each route was last excused.
    recovered: Vec<usize>,
}

impl Excuses {
    pub(super) fn new(routes: usize) -> Self {
        Self { times: vec![BTreeMap::new(); routes], disturbed: false, recovered: vec![0; routes] }
    }

    pub(super) fn add(&mut self, route: usize, number: usize) {
        *self.times[route].entry(number).or_default() += 1;
    }

    /// Whether the event may come again. If so it may once less.
    pub(super) fn use_up(&mut self, route: usize, number: usize) -> bool {
        match self.times[route].get_mut(&number) {
            Some(times) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }
}

impl World {
    /// Something went wrong after which a relay may have to begin again.
    pub(super) fn disturb(&self) {
        self.state().excuses.disturbed = true;
    }

    fn reads_again(&self, route: usize) -> bool {
        self.state().truth.routes[route].reads_again
    }

    /// These events may come again on the route.
    pub(super) fn excuse(&self, route: usize, numbers: &[usize]) {
        let mut state = self.state();
        for &number in numbers {
            state.excuses.add(route, number);
        }
    }

    /// Nobody may know that those of these events arrived that did: they may come again on the route. Gives
    /// which.
    pub(super) fn excuse_arrived(&self, route: usize, numbers: &[usize]) -> Vec<usize> {
        let has_arrived = |number: &usize| self.state().truth.routes[route].arrivals[*number] > 0;
        let arrived: Vec<usize> = numbers.iter().copied().filter(has_arrived).collect();
        self.excuse(route, &arrived);
        arrived
    }

    /// It is known now that they arrived.
    pub(super) fn excuse_no_more(&self, route: usize, numbers: &[usize]) {
        let mut state = self.state();
        for &number in numbers {
            let _known = state.excuses.use_up(route, number);
        }
    }

    /// Whether something excuses that the event comes again.
    pub(super) fn may_come_again(&self, route: usize, number: usize) -> bool {
        self.state().excuses.times[route].get(&number).is_some_and(|&times| times > 0)
    }

    /// The event is stored as done: nothing that happened before excuses that it comes again. Where a record comes twice, or
    /// the table is read again, that is not told by one of them; and of what was erased one that the relay had loaded before
    /// may still go out.
    pub(super) fn comes_no_more(&self, route: usize, number: usize) {
        let mut state = self.state();
        let comes_once = matches!(self.scene.source, SourceScene::Table | SourceScene::Late);
        let own = &state.truth.routes[route];
        if comes_once && !own.reads_again && !own.erased.contains_key(&number) {
            state.excuses.times[route].remove(&number);
        }
    }

    /// Everything may come again on the route, whether it has arrived by now or not: once from the table that is read again,
    /// and once from the stream behind it, within the slack.
    pub(super) fn excuse_all(&self, route: usize) {
        self.excuse_since(route, 0);
        self.excuse_since(route, 0);
    }

    /// What was committed since a recovery began is read from the table, and from the stream behind it.
    pub(super) fn recovered(&self) {
        for route in 0..self.routes.len() {
            let since = self.state().excuses.recovered[route];
            self.excuse_since(route, since);
        }
    }

    fn excuse_since(&self, route: usize, first: usize) {
        let mut state = self.state();
        let events = state.truth.len();
        for number in first..events {
            state.excuses.add(route, number);
        }
        state.excuses.recovered[route] = events;
    }

    /// A relay has stopped in order, and nothing went wrong: what it sent is stored, if nothing was left to send.
    pub(super) fn stopped_in_order(&self) {
        // A record that comes twice may have come once by now, its double still unread.
        if self.state().excuses.disturbed || self.scene.source.comes_twice() {
            return;
        }
        for (route, name) in self.routes.iter().enumerate() {
            // What a recovery read is read again in the stream, within the slack.
            if self.reads_again(route) {
                continue;
            }
            let missing: Vec<usize> = self.state().truth.missing(route).collect();
            let lane = |number: usize| self.state().truth.events[number].lane();
            if missing.into_iter().any(|number| !is_kept(self, route, number, &lane(number))) {
                continue;
            }
            let unsettled = self.unsettled(route).read;
            // Of a call that nobody answered it does not know that there is nothing left to send.
            if unsettled.iter().any(|&number| self.may_come_again(route, number)) {
                continue;
            }
            let unsettled = unsettled.len();
            if unsettled > 0 {
                let what =
                    format!("route `{name}`: a relay that stopped in order leaves {unsettled} events to send again");
                self.breach(Rule::Bounded, what);
            }
        }
    }

    /// A relay takes the source over, and begins where its checkpoints are.
    pub(super) fn taken_over(&self) {
        self.state().excuses.disturbed = false;
        self.excuse_unsettled();
    }

    /// What has arrived and is not stored as done may come again.
    pub(super) fn excuse_unsettled(&self) {
        for route in 0..self.routes.len() {
            let unsettled = self.unsettled(route);
            if self.scene.source == SourceScene::Table && !self.reads_again(route) {
                let window = self.scene.routes[route].window;
                let held = unsettled.read.difference(&unsettled.kept).count();
                if held > window + LARGEST_ENTRY {
                    let name = &self.routes[route];
                    let what = format!("route `{name}` has {held} events to send again, in a window of {window}");
                    self.breach(Rule::Bounded, what);
                }
            }
            let mut state = self.state();
            // What is kept and read again may be sent twice: by the keeper, and once its key is free.
            for number in unsettled.read.into_iter().chain(unsettled.kept) {
                state.excuses.add(route, number);
            }
        }
    }

    /// What has arrived on the route, and what is stored does not say so.
    fn unsettled(&self, route: usize) -> Unsettled {
        let name = &self.routes[route];
        let stored = at_once(self.books.checkpoints(name));
        let lanes = at_once(self.books.troubles(name, None, usize::MAX)).into_iter().map(|trouble| trouble.lane);
        let kept: Vec<_> = lanes.flat_map(|lane| at_once(self.books.kept(name, &lane, usize::MAX))).collect();
        let source = self.supply.watch();
        let state = self.state();
        let truth = &state.truth;
        let own = &truth.routes[route];
        let has_arrived = |number: &usize| own.arrivals[*number] > 0;
        let mut open = BTreeSet::new();
        for (partition, read) in &truth.read {
            let checkpoint = stored.iter().find(|stored| stored.partition == *partition);
            let is_behind = |at: &Position| checkpoint.is_some_and(|stored| source.order(at, &stored.position).is_le());
            let to = match checkpoint {
                Some(_) => read.partition_point(|(at, _)| is_behind(at)),
                // Its checkpoint was forgotten once it was done; or it is a replay's, or not yet begun.
                None if own.checked.contains_key(partition) || partition.is_recovery() => read.len(),
                None => 0,
            };
            let events = read[to..].iter().flat_map(|(_, record)| ids(record));
            open.extend(events.filter_map(|(id, _)| truth.find(&id)));
        }
        let kept: BTreeSet<usize> = kept.iter().filter_map(|kept| truth.find(kept.content.id())).collect();
        Unsettled {
            read: open.into_iter().filter(|number| has_arrived(number) || kept.contains(number)).collect(),
            kept: kept.iter().copied().filter(has_arrived).collect(),
        }
    }
}

struct Unsettled {
    /// What has arrived or is kept, and is not behind a checkpoint.
    read: BTreeSet<usize>,
    /// What has arrived and is kept still.
    kept: BTreeSet<usize>,
}

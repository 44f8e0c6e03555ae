//! How long a relay waits before it tries an event again, how often it does, and how fast it goes.
//!
//! Judged is only a life in which nothing went wrong, by what was told to it since it took the source over, and by what
//! was stored then: another life knows of no more.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    checks::at_once,
    process::Around,
    rule::{Breach, Rule},
    truth::NOTICED,
    world::{State, World},
};
use crate::{
    bookkeeping::Bookkeeping as _,
    clock::Moment,
    event::SKIPPED,
    sink::{Batch, Outcome},
};

/// No delay between two attempts is shorter, whatever is drawn.
const SHORTEST: Duration = Duration::from_millis(1);
/// A second, less by what sleeping takes longer: timers are as fine as a millisecond.
const SECOND: Duration = Duration::from_millis(998);

/// What a route's target has asked for, and what the owner of the source has done since it took it over.
#[derive(Default)]
pub(super) struct Patience {
    /// Since when an operator has paused the route.
    pub(super) paused: Option<Moment>,
    /// When operators last changed what is kept.
    changed: Option<Moment>,
    /// Before when an event may not be tried again, by its number.
    not_before: BTreeMap<usize, Moment>,
    /// How often each was refused by name, what was stored of that included.
    refused: BTreeMap<usize, u32>,
    /// What was refused by name too often, and is a dead letter from then on.
    spent: BTreeSet<usize>,
    /// The calls of the last second and the events in each: the route's own, and each replay's.
    sent: BTreeMap<Option<Arc<str>>, VecDeque<(Moment, usize)>>,
}

impl Patience {
    /// Operators changed what is kept: who was given up on may be tried again.
    pub(super) fn begins_anew(&mut self, now: Moment) {
        self.changed = Some(now);
        self.not_before.clear();
        self.refused.clear();
        self.spent.clear();
    }

    /// `attempts` makes a dead letter of it.
    fn told(&mut self, now: Moment, number: usize, outcome: &Outcome, attempts: u32) {
        // What it is told before it notices that, it forgets when it does.
        let is_forgotten = self.changed.is_some_and(|changed| now.since(changed) <= NOTICED);
        match outcome {
            Outcome::Accepted => {
                self.refused.remove(&number);
                self.not_before.remove(&number);
            }
            Outcome::Throttled { after: Some(after) } if !is_forgotten => {
                self.not_before.insert(number, now + *after);
            }
            Outcome::Throttled { .. } | Outcome::Failed { .. } => {}
            Outcome::Refused { permanent, .. } => {
                let times = self.refused.entry(number).or_default();
                *times += 1;
                if *permanent || *times >= attempts {
                    self.spent.insert(number);
                }
                self.not_before.insert(number, now + SHORTEST);
            }
        }
    }

    /// Whether the calls before this one were already more than a second may have.
    fn goes_too_fast(&mut self, now: Moment, batch: &Batch, rate: u32) -> bool {
        let sent = self.sent.entry(batch.replay.clone()).or_default();
        while sent.front().is_some_and(|(at, _)| now.since(*at) >= SECOND) {
            sent.pop_front();
        }
        let before: usize = sent.iter().map(|(_, events)| events).sum();
        sent.push_back((now, batch.events.len()));
        before > rate as usize
    }

    /// Why the event may not be tried now.
    fn too_early(&self, now: Moment, number: usize, comes_once: bool) -> Option<String> {
        if let Some(until) = self.not_before.get(&number).filter(|until| now < **until) {
            return Some(format!("is tried {:?} before the time that its target's answer left it", until.since(now)));
        }
        let is_spent = comes_once && self.spent.contains(&number);
        is_spent.then(|| "is tried again, though it was refused by name as often as makes a dead letter".to_owned())
    }
}

/// A relay took the source over: it knows what is stored, and nothing else.
pub(super) fn taken_over(world: &World) {
    for (route, name) in world.routes.iter().enumerate() {
        let troubles = at_once(world.books.troubles(name, None, usize::MAX));
        let mut fronts = Vec::new();
        for trouble in troubles.into_iter().filter(|trouble| trouble.front.attempts > 0) {
            let front = at_once(world.books.kept(name, &trouble.lane, 1)).into_iter().next();
            fronts.extend(front.map(|front| (front, trouble.front.attempts)));
        }
        let mut state = world.state();
        let State { truth, patience, .. } = &mut *state;
        let refused = fronts.iter().filter_map(|(front, times)| Some((truth.find(front.content.id())?, *times)));
        patience[route] =
            Patience { refused: refused.collect(), paused: patience[route].paused, ..Patience::default() };
    }
}

/// A call begins. Says what it does too early, too often or too fast.
pub(super) fn begins(around: &Around, route: usize, batch: &Batch) -> Option<Breach> {
    let world = &*around.world;
    let (now, scene) = (world.now(), &world.scene.routes[route]);
    let mut state = world.state();
    let State { truth, patience, .. } = &mut *state;
    let own = &mut patience[route];
    let too_fast = scene.rate_limit.is_some_and(|rate| own.goes_too_fast(now, batch, rate));
    if around.life.is_disturbed() {
        return None;
    }
    if own.paused.is_some_and(|since| now.since(since) > NOTICED) {
        return Some(Breach::new(Rule::Loud, "a call of a route that was paused long ago"));
    }
    if too_fast {
        return Some(Breach::new(Rule::Bounded, "more events in a second than the route's limit, and one call"));
    }
    // What the table was read again for goes out whatever was said of it before; so does what a replay brings.
    if truth.routes[route].reads_again || batch.replay.is_some() {
        return None;
    }
    // What goes on has a letter beside what its key brings.
    let comes_once = !world.scene.source.comes_twice() && !scene.goes_on;
    let mut events = batch.events.iter().filter(|event| event.kind() != SKIPPED);
    let (id, why) = events.find_map(|event| {
        let why = own.too_early(now, truth.find(event.id())?, comes_once)?;
        Some((event.id(), why))
    })?;
    Some(Breach::new(Rule::Bounded, format!("{id} {why}")))
}

/// A relay is told what became of its call.
pub(super) fn answered(around: &Around, route: usize, batch: &Batch, outcomes: &[Outcome]) {
    if batch.replay.is_some() || around.life.is_disturbed() {
        return;
    }
    let (now, attempts) = (around.world.now(), around.world.scene.routes[route].attempts);
    let mut state = around.world.state();
    let State { truth, patience, .. } = &mut *state;
    for (event, outcome) in batch.events.iter().zip(outcomes).filter(|(event, _)| event.kind() != SKIPPED) {
        if let Some(number) = truth.find(event.id()) {
            patience[route].told(now, number, outcome, attempts);
        }
    }
}

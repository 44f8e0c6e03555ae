//! What the handler has done, and what is wrong with that.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{
        fault::Fault,
        rule::{Breach, Rule},
        schedule::{AnswerFault, ConsumerMode, ConsumerScene},
        truth::Truth,
        world::{State, World},
    },
    letters::Blame,
};
use crate::{clock::Moment, event::Key};

/// By when it is stored that an effect outside of the store took place, if nothing goes wrong: the other handlers of its
/// batch have their time limit.
const SOON: Duration = Duration::from_secs(2);

/// What the handler writes: the numbers of the events it applied, in order.
pub(in super::super) type Effects = Vec<usize>;

/// What is known of the consumer.
#[derive(Default)]
pub(in super::super) struct Consumed {
    /// When the consumer was first handed each event.
    pub(super) handed: BTreeMap<usize, Moment>,
    /// How much of the effects has been looked at.
    looked_at: usize,
    /// Events that have taken effect, and when.
    applied: BTreeMap<usize, Moment>,
    /// The newest event of each key that has taken effect.
    latest: BTreeMap<Key, usize>,
    /// What the handler answers about an event before it applies it, and how often.
    pub(in super::super) answers: BTreeMap<usize, (AnswerFault, u32)>,
    /// When it became uncertain whether an effect outside of the store took place: crashes, failures of the store, handlers
    /// that took too long.
    pub(super) disturbances: Vec<Moment>,
    /// Why it may give events up.
    pub(in super::super) blame: Blame,
}

/// Looks at what the handler has newly done.
pub(super) fn look(world: &World) {
    let effects = world.inbox.state();
    let mut state = world.state();
    let State { truth, consumer, .. } = &mut *state;
    let mut breaches = Vec::new();
    for &number in &effects[consumer.looked_at..] {
        if let Err(breach) = consumer.applies(world.scene.consumer.mode, truth, number, world.now()) {
            breaches.push(breach);
        }
    }
    consumer.looked_at = effects.len();
    drop(state);
    for breach in breaches {
        world.broken(breach);
    }
}

impl Consumed {
    /// What has just taken effect outside of the store may rightly do so a second time.
    pub(in super::super) fn is_disturbed(&mut self, now: Moment) {
        self.disturbances.push(now);
    }

    /// Whether the event has taken effect.
    pub(in super::super) fn has_applied(&self, number: usize) -> bool {
        self.applied.contains_key(&number)
    }

    /// Whether the event took effect before `now`.
    pub(super) fn has_applied_before(&self, number: usize, now: Moment) -> bool {
        self.applied.get(&number).is_some_and(|at| *at < now)
    }

    /// The mode that was exercised, if anything took effect.
    pub(in super::super) fn exercised(&self, scene: ConsumerScene) -> Option<Fault> {
        let fault = match (scene.mode, scene.claims) {
            (ConsumerMode::Once, false) => Fault::Once,
            (ConsumerMode::Latest, false) => Fault::Latest,
            (ConsumerMode::InOrder, false) => Fault::InOrder,
            (ConsumerMode::AfterCause, false) => Fault::AfterCause,
            (ConsumerMode::Once, true) => Fault::OnceClaimed,
            (ConsumerMode::Latest, true) => Fault::LatestClaimed,
            (ConsumerMode::InOrder, true) => Fault::InOrderClaimed,
            (ConsumerMode::AfterCause, true) => Fault::AfterCauseClaimed,
        };
        (!self.applied.is_empty()).then_some(fault)
    }

    /// An effect took place outside of the store. Says what is wrong with that.
    ///
    /// It may come again where nobody could know of the first time, but never behind a later one of its key.
    pub(super) fn applies_outside(
        &mut self,
        mode: ConsumerMode,
        truth: &Truth,
        number: usize,
        now: Moment,
    ) -> Result<(), Breach> {
        let known = &truth.events[number];
        let Some(applied) = self.applied.get(&number).copied() else {
            return self.applies(mode, truth, number, now);
        };
        if !self.disturbances.iter().any(|at| *at >= applied && at.since(applied) <= SOON) {
            let what = format!("the consumer applied {} a second time, and nothing had gone wrong", known.id);
            return Err(Breach::new(Rule::Once, what));
        }
        self.applied.insert(number, now);
        let newest = known.key.as_ref().and_then(|key| self.latest.get(key));
        match newest {
            Some(&newer) if newer > number && mode != ConsumerMode::Once => {
                let newer = &truth.events[newer].id;
                let what = format!("the consumer applied {} again after {newer}, which is behind it", known.id);
                Err(Breach::new(Rule::InOrder, what))
            }
            _ => Ok(()),
        }
    }

    /// An effect was committed. Says what is wrong with that.
    fn applies(&mut self, mode: ConsumerMode, truth: &Truth, number: usize, now: Moment) -> Result<(), Breach> {
        let known = &truth.events[number];
        let id = &known.id;
        let came =
            truth.routes[0].arrivals[number] > 0 || truth.routes[0].replays.values().any(|r| r.contains(&number));
        if !came {
            return Err(Breach::new(Rule::Atomic, format!("the consumer applied {id}, which never arrived")));
        }
        if self.applied.insert(number, now).is_some() {
            return Err(Breach::new(Rule::Once, format!("the consumer applied {id} a second time")));
        }
        let newest = known.key.clone().map(|key| self.latest.entry(key).or_insert(number));
        let newer = newest.and_then(|newest| {
            let newer = (*newest > number).then_some(*newest);
            *newest = number.max(*newest);
            newer
        });
        match mode {
            ConsumerMode::Once => Ok(()),
            ConsumerMode::Latest => newer.map_or(Ok(()), |newer| {
                let newer = &truth.events[newer].id;
                Err(Breach::new(Rule::InOrder, format!("the consumer applied {id} over the newer {newer}")))
            }),
            ConsumerMode::InOrder => self.in_turn(truth, number),
            ConsumerMode::AfterCause => self.in_turn(truth, number).and_then(|()| self.after_cause(truth, number)),
        }
    }

    /// Whether nothing before it in its key is still to come.
    fn in_turn(&self, truth: &Truth, number: usize) -> Result<(), Breach> {
        let known = &truth.events[number];
        if known.key.is_none() || known.lost {
            return Ok(());
        }
        let earlier = truth.events[..number].iter().enumerate().find(|(earlier, other)| {
            other.key == known.key && !other.lost && other.event.is_some() && !self.is_over(truth, *earlier)
        });
        match earlier {
            Some((_, earlier)) => {
                let what = format!("the consumer applied {} before {}", known.id, earlier.id);
                Err(Breach::new(Rule::InOrder, what))
            }
            None => Ok(()),
        }
    }

    fn after_cause(&self, truth: &Truth, number: usize) -> Result<(), Breach> {
        let known = &truth.events[number];
        match known.cause {
            Some(cause) if !truth.events[cause].lost && !self.is_over(truth, cause) => {
                let cause = &truth.events[cause].id;
                let what = format!("the consumer applied {} before {cause}, which caused it", known.id);
                Err(Breach::new(Rule::AfterCause, what))
            }
            _ => Ok(()),
        }
    }

    /// Whether the event was applied, or nobody need wait for it.
    pub(in super::super) fn is_over(&self, truth: &Truth, number: usize) -> bool {
        let route = &truth.routes[0];
        self.has_applied(number) || route.given_up.contains_key(&number) || route.erased.contains_key(&number)
    }
}

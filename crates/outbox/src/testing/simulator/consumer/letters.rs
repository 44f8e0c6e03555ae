//! Why the consumer gives events up: what its handler answered about them, what became of its claims, and how long a cause
//! was waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::{
    super::{
        checks::at_once,
        rule::Rule,
        schedule::{AnswerFault, ConsumerMode},
        truth::Truth,
        world::{State, World},
    },
    effects::Consumed,
    handlers::{ATTEMPTS, MAX_WAIT},
};
use crate::{
    bookkeeping::KeptId,
    clock::Moment,
    inbox::InboxOperator,
    inbox_store::{KeptLane, TroubleState},
};

/// What speaks against events, since each was last redriven.
#[derive(Default)]
pub(in super::super) struct Blame {
    /// How the handler failed at an event, in the transaction or under the claim that is under way.
    answered: BTreeMap<usize, AnswerFault>,
    /// How many attempts failed and were recorded.
    failed: BTreeMap<usize, u32>,
    /// What the handler gave up.
    given_up: BTreeSet<usize>,
    /// The claims that are held, by the number of the event.
    claims: BTreeMap<usize, Held>,
    /// Dead letters, as they were last seen.
    dead: BTreeSet<KeptId>,
}

/// A claim.
struct Held {
    kept: KeptId,
    epoch: u64,
    /// When it was first seen.
    since: Moment,
}

/// Looks at what the consumer keeps after a transaction, which committed or did not.
pub(super) fn look(world: &World, committed: bool) {
    let kept = at_once(InboxOperator::new(world.inbox.clone()).kept(None, usize::MAX));
    let now = world.now();
    let mut state = world.state();
    let State { truth, consumer, .. } = &mut *state;
    let fronts = kept.iter().filter_map(|lane| Some((truth.find(lane.first.message.id())?, lane)));
    let fronts: Vec<(usize, &KeptLane)> = fronts.collect();
    if world.scene.consumer.claims {
        let Consumed { blame, disturbances, .. } = consumer;
        blame.follows(&fronts, disturbances, now);
    } else {
        consumer.blame.records(committed);
    }
    let dead = fronts.iter().filter(|(_, lane)| state_of(lane) == Some(TroubleState::Dead));
    let dead: Vec<_> = dead.collect();
    let before = mem::replace(&mut consumer.blame.dead, dead.iter().map(|(_, lane)| lane.first.id).collect());
    let wrongly = dead.into_iter().filter(|(number, lane)| {
        let by_cause = world.scene.consumer.mode == ConsumerMode::AfterCause;
        let waited =
            || by_cause && consumer.is_awaited(truth, &fronts, *number, now) && consumer.has_waited(*number, now);
        !before.contains(&lane.first.id) && !consumer.blame.is_condemned(*number) && !waited()
    });
    let wrongly: Vec<_> = wrongly.map(|(_, lane)| *lane).collect();
    drop(state);
    for KeptLane { record, first, .. } in wrongly {
        let (id, reason) = (first.message.id(), record.trouble.as_ref().map_or("", |trouble| &trouble.reason));
        world.breach(Rule::Loud, format!("the consumer gave {id} up, which was not to blame: {reason}"));
    }
}

fn state_of(lane: &KeptLane) -> Option<TroubleState> {
    lane.record.trouble.as_ref().map(|trouble| trouble.state)
}

impl Consumed {
    /// Whether the consumer has had the event for as long as it waits for a cause, whatever its clock says.
    fn has_waited(&self, number: usize, now: Moment) -> bool {
        self.handed.get(&number).is_some_and(|at| now.since(*at) >= MAX_WAIT)
    }

    /// Whether the event's cause had not come when a transaction that is over `now` looked for it: it may have been applied
    /// later in the same. What took effect outside of the store and is kept all the same has not come for the store.
    fn is_awaited(&self, truth: &Truth, fronts: &[(usize, &KeptLane)], number: usize, now: Moment) -> bool {
        let is_kept = |cause| fronts.iter().any(|(front, _)| *front == cause);
        truth.events[number].cause.is_some_and(|cause| !self.has_applied_before(cause, now) || is_kept(cause))
    }
}

impl Blame {
    /// What the handler is about to answer about an event: how it fails at it, if it does.
    pub(super) fn answers(&mut self, number: usize, fault: Option<AnswerFault>) {
        match fault {
            Some(fault) => self.answered.insert(number, fault),
            None => self.answered.remove(&number),
        };
    }

    /// An operator had the event's dead letter tried again.
    pub(in super::super) fn redriven(&mut self, number: usize, letter: KeptId) {
        self.failed.remove(&number);
        self.given_up.remove(&number);
        self.dead.remove(&letter);
    }

    /// Whether the handler gave the event up, or it was tried as often as it may be.
    fn is_condemned(&self, number: usize) -> bool {
        self.given_up.contains(&number) || self.failed.get(&number).is_some_and(|&times| times >= ATTEMPTS)
    }

    /// A transaction has ended with its handlers. Of those that were called in it more than once the last answer counts,
    /// and none if it was taken back.
    fn records(&mut self, committed: bool) {
        let answered = mem::take(&mut self.answered);
        for (number, fault) in answered.into_iter().filter(|_| committed) {
            self.fails(number, Some(fault));
        }
    }

    /// A claim that ended is an attempt that failed, if its handler did, or if it may not have been heard of or survived.
    fn follows(&mut self, fronts: &[(usize, &KeptLane)], disturbances: &[Moment], now: Moment) {
        let claimed = |lane: &KeptLane| {
            let trouble = lane.record.trouble.as_ref()?;
            (trouble.state == TroubleState::Claimed).then_some((lane.first.id, trouble.epoch))
        };
        let held: BTreeMap<usize, (KeptId, u64)> =
            fronts.iter().filter_map(|(number, lane)| Some((*number, claimed(lane)?))).collect();
        let goes_on = |number: usize, claim: &Held| held.get(&number) == Some(&(claim.kept, claim.epoch));
        let (going_on, over): (BTreeMap<_, _>, BTreeMap<_, _>) =
            mem::take(&mut self.claims).into_iter().partition(|(number, claim)| goes_on(*number, claim));
        self.claims = going_on;
        for (number, Held { since, .. }) in over {
            let answered = self.answered.remove(&number);
            if answered.is_some() || disturbances.iter().any(|at| *at >= since) {
                self.fails(number, answered);
            }
        }
        for (number, (kept, epoch)) in held {
            self.claims.entry(number).or_insert_with(|| {
                // What it said under a claim that is over was not recorded.
                self.given_up.remove(&number);
                Held { kept, epoch, since: now }
            });
        }
    }

    fn fails(&mut self, number: usize, fault: Option<AnswerFault>) {
        *self.failed.entry(number).or_default() += 1;
        if fault == Some(AnswerFault::GivesUp) {
            self.given_up.insert(number);
        }
    }
}

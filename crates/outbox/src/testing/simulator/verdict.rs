//! Whether the contract was kept, all in all.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::FutureExt as _;

use super::{checks::at_once, operator, rule::Rule, schedule::ConsumerMode, truth::Truth, world::World};
use crate::{
    bookkeeping::{Bookkeeping as _, Checkpoint, KeptCounts, Operator as _},
    error::StoreError,
    inbox::{Chosen, InboxOperator},
    route::RouteName,
    source::PartitionId,
};

/// The routes that are configured still, by number.
fn active(world: &World) -> Vec<usize> {
    let state = world.state();
    (0..world.routes.len()).filter(|&route| !state.truth.routes[route].retired).collect()
}

/// The active routes and the temporary ones of their replays.
fn names(world: &World) -> Vec<RouteName> {
    let active = active(world);
    let state = world.state();
    let replays = state.replays.iter().filter(|asked| active.contains(&asked.route));
    let replays = replays.map(|asked| world.routes[asked.route].replay(&asked.id));
    active.iter().map(|&route| world.routes[route].clone()).chain(replays).collect()
}

/// Whether everything has arrived everywhere, and nothing is kept.
pub(super) fn is_done(world: &World) -> bool {
    active(world).iter().all(|&route| world.state().truth.missing(route).next().is_none())
        && world.is_delivered()
        && names(world).iter().all(|name| at_once(world.books.kept_counts(name)) == KeptCounts::default())
        && at_once(world.books.replays()).iter().all(|replay| replay.finished)
        && checkpoints_are_at_the_end(world)
        && not_applied(world).is_empty()
}

fn checkpoints_are_at_the_end(world: &World) -> bool {
    let source = world.supply.watch();
    let partitions = at_once(source.partitions());
    active(world).iter().all(|&route| {
        let checkpoints = at_once(world.books.checkpoints(&world.routes[route]));
        let is_at_the_end = |partition: &PartitionId| {
            let checkpoint = checkpoints.iter().find(|checkpoint| checkpoint.partition == *partition);
            let backlog = |checkpoint: &Checkpoint| source.backlog(partition, &checkpoint.position).now_or_never();
            checkpoint.is_some_and(|checkpoint| {
                checkpoint.finished || matches!(backlog(checkpoint), Some(Ok(backlog)) if backlog.entries == 0)
            })
        };
        world.state().learned.is_none() || partitions.iter().all(|partition| is_at_the_end(&partition.id))
    })
}

/// What people do again and again until all is well.
pub(super) async fn mend(world: &World) {
    for route in active(world) {
        operator::discard_rubbish(world, route);
    }
    for name in names(world) {
        operator::redrive(world, &name);
    }
    if let Err(error) = redrive_consumer(world).await {
        world.breach(Rule::Loud, format!("a consumer's dead letters cannot be redriven: {error}"));
    }
}

/// Redrives the consumer's dead letters but for those whose cause is still to come: a redriven one goes without it.
async fn redrive_consumer(world: &World) -> Result<(), StoreError> {
    let inbox = InboxOperator::new(world.inbox.clone()).clock(Arc::new(world.clock));
    for letter in inbox.dead_letters(&Chosen::default(), usize::MAX).await? {
        let id = letter.first.message.id();
        let number = world.state().truth.find(id);
        let waits = {
            let state = world.state();
            let (truth, consumer) = (&state.truth, &state.consumer);
            let cause = number.and_then(|number| truth.events[number].cause);
            let cause = cause.filter(|_| world.scene.consumer.mode == ConsumerMode::AfterCause);
            cause.is_some_and(|cause| !truth.events[cause].lost && !consumer.is_over(truth, cause))
        };
        if !waits {
            inbox.redrive(&Chosen { id: Some(letter.first.id), ..Chosen::default() }).await?;
            if let Some(number) = number {
                world.state().consumer.blame.redriven(number, letter.first.id);
            }
        }
    }
    Ok(())
}

/// Events that arrived and that the consumer has not applied though it should have.
fn not_applied(world: &World) -> Vec<usize> {
    let state = world.state();
    let (truth, consumer) = (&state.truth, &state.consumer);
    let is_due = |number: &usize| {
        let known = &truth.events[*number];
        known.event.is_some() && !known.lost && !consumer.is_over(truth, *number)
    };
    let due = (0..truth.len()).filter(is_due);
    match world.scene.consumer.mode {
        ConsumerMode::Once => due.collect(),
        // Only the newest of a key has to be there.
        ConsumerMode::Latest => due
            .filter(|&number| {
                let key = &truth.events[number].key;
                // A newer one that a restored backup lost may have come before.
                let is_newer = |other: &usize| {
                    let newer = &truth.events[*other];
                    let comes = !newer.lost && newer.event.is_some() && !consumer.is_over(truth, *other);
                    let counts = comes || consumer.has_applied(*other);
                    newer.key == *key && counts
                };
                key.is_none() || !(number + 1..truth.len()).any(|other| is_newer(&other))
            })
            .collect(),
        // Behind what was erased, a consumer waits until its operator skips it; so does what that caused.
        ConsumerMode::InOrder | ConsumerMode::AfterCause => {
            let waits = behind_what_was_erased(world, truth);
            due.filter(|number| !waits.contains(number)).collect()
        }
    }
}

/// What comes in its key behind something that was erased, and what that caused, if the consumer waits for causes.
fn behind_what_was_erased(world: &World, truth: &Truth) -> BTreeSet<usize> {
    // A row that is no entry has no place in its key: nobody waits for it.
    let is_waited_for = |number: &usize| truth.events[*number].event.is_some();
    let erased: BTreeSet<usize> = truth.routes[0].erased.keys().copied().filter(is_waited_for).collect();
    let by_cause = world.scene.consumer.mode == ConsumerMode::AfterCause;
    let (mut keys, mut waits) = (BTreeSet::new(), BTreeSet::new());
    for (number, known) in truth.events.iter().enumerate() {
        let cause_waits =
            by_cause && known.cause.is_some_and(|cause| waits.contains(&cause) || erased.contains(&cause));
        if erased.contains(&number) || cause_waits || known.key.as_ref().is_some_and(|key| keys.contains(key)) {
            waits.insert(number);
            keys.extend(known.key.as_ref());
        }
    }
    waits
}

fn ids(world: &World, numbers: impl IntoIterator<Item = usize>) -> String {
    let state = world.state();
    let ids: Vec<_> = numbers.into_iter().take(6).map(|number| state.truth.events[number].id.to_string()).collect();
    ids.join(", ")
}

/// Everything should have come right long ago.
pub(super) fn say_what_is_missing(world: &World) {
    for route in active(world) {
        let missing: Vec<usize> = world.state().truth.missing(route).collect();
        if !missing.is_empty() {
            let ids = ids(world, missing);
            world.breach(Rule::NothingLost, format!("never arrived at route `{}`: {ids}", world.routes[route]));
        }
    }
    for name in names(world) {
        let kept = at_once(world.books.kept_counts(&name));
        if kept != KeptCounts::default() {
            world.breach(Rule::Live, format!("still kept by `{name}`: {kept:?}"));
        }
    }
    for replay in at_once(world.books.replays()).iter().filter(|replay| !replay.finished) {
        world.breach(Rule::Repeatable, format!("replay {} does not end", replay.id));
    }
    if !world.is_delivered() {
        world.breach(Rule::Live, "the consumer does not take its messages".to_owned());
    }
    let waiting = not_applied(world);
    if !waiting.is_empty() {
        let ids = ids(world, waiting);
        world.breach(Rule::NothingLost, format!("never applied by the consumer: {ids}"));
    }
    if !checkpoints_are_at_the_end(world) {
        world.breach(Rule::Live, "a checkpoint is not at the end".to_owned());
    }
    if world.is_sound() {
        world.breach(Rule::Live, "it took too long".to_owned());
    }
}

/// What has to hold once every relay has stopped in order.
pub(super) fn at_the_end(world: &World) {
    let asked: Vec<_> = {
        let state = world.state();
        let asked = state.replays.iter().filter(|asked| !asked.cut_off);
        asked
            .map(|asked| {
                let brought = state.truth.routes[asked.route].replays.get(&asked.id);
                let missing = asked.events.iter().filter(|number| !brought.is_some_and(|b| b.contains(number)));
                (asked.id.clone(), missing.copied().collect::<Vec<_>>())
            })
            .collect()
    };
    for (id, missing) in asked.into_iter().filter(|(_, missing)| !missing.is_empty()) {
        let ids = ids(world, missing);
        world.breach(Rule::Repeatable, format!("{id} did not bring {ids}"));
    }
}

//! What is looked at after each I/O.

use futures_util::FutureExt as _;

use super::{
    again::LARGEST_ENTRY,
    patience,
    rule::Rule,
    schedule::{RouteScene, SourceScene},
    worker::{FAILOVER, LEASE},
    world::World,
};
use crate::{
    bookkeeping::{Bookkeeping as _, Lane, Operator as _, Selector},
    entry::{Content, Position, Record},
    sink::Batch,
    testing::Io,
};

/// What has to hold after an I/O of this kind took effect.
pub(super) fn after(world: &World, io: Io) {
    if io == Io::Claim {
        world.state().truth.owned();
        world.taken_over();
        patience::taken_over(world);
    }
    if matches!(io, Io::Take | Io::Renew | Io::Release) {
        only_a_silent_owner_is_replaced(world);
    }
    if matches!(io, Io::Checkpoint | Io::Settle | Io::ForgetTombstones) {
        checkpoints_pass_nothing(world);
    }
    if matches!(io, Io::Keep | Io::Settle) {
        dead_letters_have_a_reason(world);
    }
}

/// What a store in memory says to who looks at it from outside: at once, and never that it failed.
///
/// # Panics
/// If it does not, which tells of a mistake of the simulator.
#[expect(clippy::expect_used, reason = "what could not be looked at must not count as well")]
pub(super) fn at_once<T>(future: impl Future<Output = Result<T, crate::StoreError>>) -> T {
    future.now_or_never().expect("memory answers at once").expect("memory does not fail")
}

/// A lease is taken only where its owner gave it back, or has not renewed it for the failover time.
fn only_a_silent_owner_is_replaced(world: &World) {
    let (lease, now) = (at_once(world.books.lease(LEASE)), world.now());
    let mut state = world.state();
    let before = state.lease.take().filter(|(before, _)| before.epoch <= lease.epoch);
    // What changed nothing was no success.
    let is_same = before.as_ref().is_some_and(|(before, _)| {
        (before.epoch, before.beat, before.released) == (lease.epoch, lease.beat, lease.released)
    });
    let stolen = before
        .as_ref()
        .filter(|(before, since)| before.epoch < lease.epoch && !before.released && now.since(*since) < FAILOVER);
    let stolen = stolen.map(|(before, since)| {
        format!("{} took the lease {:?} after {} had renewed it", lease.holder, now.since(*since), before.holder)
    });
    state.lease = if is_same { before } else { Some((lease, now)) };
    drop(state);
    if let Some(what) = stolen {
        world.breach(Rule::Bounded, what);
    }
}

/// Nothing is given up on but what the target refused for good, or as often as the route tries, or what failed for long
/// though nobody knows whose fault that is: not for an outage. From then on a route that goes on need not wait for it.
fn dead_letters_have_a_reason(world: &World) {
    let now = world.now();
    for (route, name) in world.routes.iter().enumerate() {
        for letter in at_once(world.books.dead_letters(name, &Selector::default(), None, usize::MAX)) {
            let (id, number) = (letter.kept.content.id(), letter.kept.id);
            let mut state = world.state();
            let truth = &mut state.truth;
            if let Some(number) = truth.find(id) {
                truth.routes[route].is_dead(number);
            }
            if truth.routes[route].judged.get(&number) == Some(&letter.front) {
                continue;
            }
            let own = &truth.routes[route];
            let is_condemned = |number: usize| {
                own.is_condemned(number) || own.is_doubtful(number, now) || truth.events[number].event.is_none()
            };
            let has_a_reason = truth.find(id).is_none_or(is_condemned);
            truth.routes[route].judged.insert(number, letter.front.clone());
            drop(state);
            if !has_a_reason {
                let reason = &letter.front.reason;
                world.breach(Rule::Loud, format!("route `{name}` gave {id} up, which was not to blame: {reason}"));
            }
        }
    }
}

/// No event goes out that is further behind its route's checkpoint than the window is wide, in events and in bytes, but for
/// one entry.
pub(super) fn window_is_bounded(world: &World, route: usize, batch: &Batch) {
    // In shards a record may stand at several positions, and a recovery be read beside them.
    if batch.replay.is_some() || matches!(world.scene.source, SourceScene::Shards { .. }) {
        return;
    }
    let source = world.supply.watch();
    let stored = at_once(world.books.checkpoints(&world.routes[route])).pop();
    let is_stored = |at: &Position| stored.as_ref().is_some_and(|stored| source.order(at, &stored.position).is_le());
    let is_sent =
        |record: &Record| record.events().iter().any(|own| batch.events.iter().any(|sent| sent.id() == own.id()));
    let state = world.state();
    let Some(read) = state.truth.read.values().next() else { return };
    let behind = &read[read.partition_point(|(at, _)| is_stored(at))..];
    let held = &behind[..behind.iter().rposition(|(_, record)| is_sent(record)).map_or(0, |furthest| furthest + 1)];
    let (events, bytes) =
        held.iter().fold((0, 0), |(events, bytes), (_, record)| (events + record.len(), bytes + record.weight()));
    let largest = held.iter().map(|(_, record)| record.weight()).max().unwrap_or_default();
    drop(state);
    let RouteScene { window, window_bytes, .. } = world.scene.routes[route];
    if events > window + LARGEST_ENTRY || bytes > window_bytes + largest {
        let name = &world.routes[route];
        let what = format!(
            "route `{name}` holds {events} events of {bytes} bytes in a window of {window} events and {window_bytes} bytes"
        );
        world.breach(Rule::Bounded, what);
    }
}

/// No checkpoint is past an event that is neither delivered, nor given up, nor kept.
fn checkpoints_pass_nothing(world: &World) {
    for (route, name) in world.routes.iter().enumerate() {
        for checkpoint in at_once(world.books.checkpoints(name)) {
            let passed = newly_passed(world, route, &checkpoint.partition, &checkpoint.position);
            for (number, lane) in passed {
                let is_done = world.state().truth.routes[route].is_done(number);
                if is_done && !world.may_come_again(route, number) {
                    continue;
                }
                match (is_kept(world, route, number, &lane), is_done) {
                    (true, _) => {}
                    (false, true) => world.comes_no_more(route, number),
                    (false, false) => {
                        let id = world.state().truth.events[number].id.clone();
                        let at = &checkpoint.position;
                        let what = format!("route `{name}`: checkpoint {at} is past {id}, neither delivered nor kept");
                        world.breach(Rule::NothingLost, what);
                    }
                }
            }
        }
    }
}

/// Events before the checkpoint that were not yet seen to be.
fn newly_passed(
    world: &World,
    route: usize,
    partition: &crate::source::PartitionId,
    position: &Position,
) -> Vec<(usize, Lane)> {
    let mut state = world.state();
    let truth = &mut state.truth;
    let Some(read) = truth.read.get(partition) else { return Vec::new() };
    let from = truth.routes[route].checked.get(partition).copied().unwrap_or(0);
    let passed =
        read[from.min(read.len())..].iter().take_while(|(at, _)| world.supply.watch().order(at, position).is_le());
    let records: Vec<_> = passed.map(|(_, record)| record.clone()).collect();
    let to = from + records.len();
    let own = &truth.routes[route];
    let numbers = records.iter().flat_map(|record| ids(record)).filter_map(|(id, lane)| Some((truth.find(&id)?, lane)));
    let passed = numbers
        .filter(|(number, _)| {
            let known = &truth.events[*number];
            own.takes(known) && !known.lost
        })
        .collect();
    truth.routes[route].checked.insert(partition.clone(), to);
    passed
}

pub(super) fn ids(record: &Record) -> Vec<(String, Lane)> {
    match &record.content {
        Content::Events(events) => events.iter().map(|event| (event.id().to_owned(), Lane::of(event))).collect(),
        Content::Undecodable(row) => vec![(row.id.to_string(), Lane::of_undecodable(row))],
    }
}

/// Whether the route keeps the event, in its key's lane or in one of its own.
pub(super) fn is_kept(world: &World, route: usize, number: usize, lane: &Lane) -> bool {
    let id = world.state().truth.events[number].id.clone();
    let name = &world.routes[route];
    let alone = Lane::Event(id.clone());
    [lane, &alone]
        .into_iter()
        .any(|lane| at_once(world.books.kept(name, lane, usize::MAX)).iter().any(|kept| kept.content.id() == &*id))
}

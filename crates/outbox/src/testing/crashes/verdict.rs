//! Whether the contract was kept.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    lives::{Killed, LEASE, RETAINED, WINDOW},
    scenario::{DISCARDED, REPLAYED},
    target::{Arrival, LIMITS},
    world::World,
};
use crate::{bookkeeping::KeptCounts, error::StoreError};

/// The most events of one commit: the last entry read may exceed the window.
const LARGEST_ENTRY: usize = 3;
/// Duplicates that one kill may make: the window, and what the keeper had under way.
const BOUND: usize = WINDOW + LARGEST_ENTRY - 1 + LIMITS.max_calls.div_ceil(2) * LIMITS.max_events;

/// An event that arrived again.
pub(super) struct Duplicate {
    arrival: Arrival,
    /// The last kill before this arrival.
    kill: Option<usize>,
    /// Whether it was repeated no more often than kills before had left it unsettled. Not necessarily between the two
    /// arrivals: what a kill left both kept and before the checkpoint comes from the keeper, and once it is settled
    /// there, from the pipeline, too, so that it may have arrived three times for one kill.
    excused: bool,
}

/// Everything that is wrong once the scenario has come to its end.
pub(super) async fn at_the_end(world: &World, kills: &[Killed]) -> Vec<String> {
    let mut breaches = world.target.breaches();
    let arrivals = world.target.arrivals();
    let (replayed, published): (Vec<Arrival>, Vec<Arrival>) =
        arrivals.into_iter().partition(|arrival| arrival.replay.is_some());
    arrived(world, &published, &mut breaches);
    replay(world, &replayed, &mut breaches);
    repeated(world, kills, &mut breaches);
    if let Err(error) = left(world, &mut breaches).await {
        breaches.push(format!("the stores cannot be looked at: {error}"));
    }
    breaches
}

/// First arrivals by lane: each key in one, each event without a key in one of its own.
fn by_lane(world: &World, ids: impl Iterator<Item = String>) -> BTreeMap<String, Vec<String>> {
    let keys: BTreeMap<String, Option<String>> =
        world.committed().into_iter().map(|event| (event.id, event.key)).collect();
    let mut seen = BTreeSet::new();
    let mut lanes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in ids.filter(|id| seen.insert(id.clone())) {
        let lane = keys.get(&id).cloned().flatten().unwrap_or_else(|| format!("without a key: {id}"));
        lanes.entry(lane).or_default().push(id);
    }
    lanes
}

/// Every committed event, in the order of its key.
fn arrived(world: &World, published: &[Arrival], breaches: &mut Vec<String>) {
    let expected = by_lane(world, world.committed().into_iter().map(|event| event.id));
    let found = by_lane(world, published.iter().map(|arrival| arrival.id.clone()));
    for lane in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (expected, found) = (expected.get(lane), found.get(lane));
        if expected != found {
            breaches.push(format!("`{lane}`: committed {expected:?}, first arrivals {found:?}"));
        }
    }
    for arrival in published.iter().filter(|arrival| arrival.marker != DISCARDED.contains(&&*arrival.id)) {
        breaches.push(format!("arrived as if it were or were not discarded: {arrival:?}"));
    }
}

/// All that was retained of the replayed key.
fn replay(world: &World, replayed: &[Arrival], breaches: &mut Vec<String>) {
    let of_key = world.to_replay().into_iter().filter(|event| event.key.as_deref() == Some(REPLAYED));
    let expected = by_lane(world, of_key.map(|event| event.id));
    let found = by_lane(world, replayed.iter().map(|arrival| arrival.id.clone()));
    if expected.is_empty() || found != expected {
        breaches.push(format!("to be replayed {expected:?}, replayed {found:?}"));
    }
}

/// What arrived again, in the order of arrival.
pub(super) fn duplicates(world: &World, kills: &[Killed]) -> Vec<Duplicate> {
    let mut times: BTreeMap<_, usize> = BTreeMap::new();
    let mut duplicates = Vec::new();
    for (index, arrival) in world.target.arrivals().into_iter().enumerate() {
        let name = (arrival.replay.is_some(), arrival.id.clone());
        let repeated = *times.entry(name.clone()).and_modify(|times| *times += 1).or_default();
        if repeated == 0 {
            continue;
        }
        let before = || kills.iter().take_while(|kill| kill.arrivals <= index);
        // What was just being committed lay before every checkpoint.
        let left = |kill: &Killed| kill.unsettled[usize::from(name.0)].get(&name.1).copied().unwrap_or(1);
        let unsettled = before().map(left).sum();
        let (kill, excused) = (before().count().checked_sub(1), repeated <= unsettled);
        duplicates.push(Duplicate { arrival, kill, excused });
    }
    duplicates
}

fn repeated(world: &World, kills: &[Killed], breaches: &mut Vec<String>) {
    let duplicates = duplicates(world, kills);
    for Duplicate { arrival, kill, .. } in duplicates.iter().filter(|duplicate| !duplicate.excused) {
        let since = kill.map_or_else(|| "without a kill".to_owned(), |kill| format!("after kill {kill}"));
        breaches.push(format!("arrived again {since}, though no kill had left it unsettled so often: {arrival:?}"));
    }
    for (index, kill) in kills.iter().enumerate() {
        let made = duplicates.iter().filter(|duplicate| duplicate.kill == Some(index)).count();
        if made > BOUND {
            breaches.push(format!("{made} duplicates, more than {BOUND}, after the kill at {:?}", kill.step));
        }
    }
}

/// What the stores hold at the end.
async fn left(world: &World, breaches: &mut Vec<String>) -> Result<(), StoreError> {
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            breaches.push(what.to_owned());
        }
    };
    for route in [&world.route, &world.replay] {
        demand(world.books.kept_counts(route).await? == KeptCounts::default(), "something is still counted as kept");
        demand(world.books.troubles(route, None, 1000).await?.is_empty(), "a lane is still in trouble");
    }
    let tombstones = world.books.tombstones(&world.route).await?;
    demand(
        tombstones.iter().all(|(id, ..)| DISCARDED.contains(&&**id)),
        "a tombstone of an event that was not discarded",
    );
    demand(world.is_through().await?, "the checkpoint is not at the end");
    demand(world.books.lease(LEASE).await?.released, "the lease is not given up");
    let entries: BTreeSet<String> = world.retained().await?.iter().map(|event| event.position.to_string()).collect();
    demand(entries.len() as u64 >= RETAINED, "retention removed more than it may");
    Ok(())
}

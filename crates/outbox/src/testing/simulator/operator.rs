//! People in the middle of it: redrives, discards, erasures, pauses, replays, a retired route, a restored backup.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    checks::at_once,
    fault::Fault,
    play::Workers,
    rule::{Breach, Rule},
    schedule::Operation,
    service,
    source::Supply,
    world::{State, World},
};
use crate::{
    bookkeeping::{Bookkeeping as _, Lane, Operator as _, Replay, Selector},
    clock::Clock as _,
    entry::Position,
    error::ErrorKind,
    event::{Event, Key, SKIPPED},
    filter::Filter,
    memory::Snapshot,
    relay::{RelayError, adoption},
    route::RouteName,
    source::{PartitionId, Source as _},
    store::BusinessStore as _,
};

/// A replay that was asked for.
pub(super) struct Asked {
    pub(super) route: usize,
    pub(super) id: Arc<str>,
    /// What it has to bring, by number.
    pub(super) events: BTreeSet<usize>,
    /// Where it ends, by partition.
    ends: Vec<(PartitionId, Position)>,
    /// The key that it is for, if it is for one.
    key: Option<Key>,
    /// A restored backup cut it off.
    pub(super) cut_off: bool,
}

/// Does what people do to a relay that runs.
pub(super) async fn operate(world: &Arc<World>, workers: &Workers, route: usize, what: Operation) {
    if world.state().truth.routes[route].retired {
        return;
    }
    match what {
        Operation::Redrive | Operation::Discard | Operation::Erase => {
            let world = world.clone();
            tokio::spawn(async move { see_to_trouble(&world, route, what).await });
        }
        Operation::Pause(lasts) => {
            world.state().strikes(Fault::Paused);
            at_once(world.books.pause(&world.routes[route], true));
            let world = world.clone();
            tokio::spawn(async move {
                sleep(lasts).await;
                at_once(world.books.pause(&world.routes[route], false));
            });
        }
        Operation::Replay { key } => replay(world, route, key),
        Operation::Retire => retire(world, workers, route).await,
    }
}

/// Waits until the route has something to see to, for a while.
async fn see_to_trouble(world: &World, route: usize, what: Operation) {
    const LOOKS: u32 = 30;
    for _ in 0..LOOKS {
        if world.state().healed || world.state().truth.routes[route].retired {
            return;
        }
        let (done, fault) = match what {
            Operation::Redrive => (redrive(world, &world.routes[route]) > 0, Fault::Redriven),
            Operation::Discard => (discard_first(world, route), Fault::Discarded),
            _ => (erase_first(world, route), Fault::Erased),
        };
        if done {
            world.state().strikes(fault);
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Has every dead letter of a route, or of a replay's, published again. Gives how many there were.
pub(super) fn redrive(world: &World, name: &RouteName) -> u64 {
    let redriven = at_once(world.books.redrive(name, &Selector::default(), world.clock.wall()));
    if redriven > 0 {
        world.note(|| format!("an operator redrives {redriven} of `{name}`"));
    }
    redriven
}

/// Gives up the first dead letter of a route.
fn discard_first(world: &World, route: usize) -> bool {
    let name = &world.routes[route];
    let letters = at_once(world.books.dead_letters(name, &Selector::default(), None, 1));
    let Some(letter) = letters.into_iter().next() else { return false };
    note_discarded(world, route, letter.kept.content.id());
    let only = Selector { id: Some(letter.kept.id), ..Selector::default() };
    at_once(world.books.discard(name, &only, "simulated")) > 0
}

/// Rows that are no entries can be delivered to nobody.
pub(super) fn discard_rubbish(world: &World, route: usize) {
    let name = &world.routes[route];
    for letter in at_once(world.books.dead_letters(name, &Selector::default(), None, usize::MAX)) {
        if let crate::bookkeeping::KeptContent::Undecodable(row) = &letter.kept.content {
            note_discarded(world, route, &row.id);
            let only = Selector { id: Some(letter.kept.id), ..Selector::default() };
            at_once(world.books.discard(name, &only, "simulated"));
        }
    }
}

fn note_discarded(world: &World, route: usize, id: &str) {
    world.note(|| format!("an operator discards {id} on `{}`", world.routes[route]));
    let (gapless, now) = (is_gapless(world, route), world.now());
    let mut state = world.state();
    let truth = &mut state.truth;
    let Some(number) = truth.find(id) else { return };
    let leaves_marker = gapless && truth.events[number].event.is_some();
    let own = &mut truth.routes[route];
    if leaves_marker {
        own.given_up.insert(number, now)
    } else {
        own.erased.insert(number, now)
    };
}

fn is_gapless(world: &World, route: usize) -> bool {
    !world.scene.routes[route].filtered && !world.scene.routes[route].goes_on
}

/// Erases the first key that the route keeps something of, in every route.
fn erase_first(world: &World, route: usize) -> bool {
    let troubles = at_once(world.books.troubles(&world.routes[route], None, usize::MAX));
    let kept = troubles.iter().flat_map(|trouble| at_once(world.books.kept(&world.routes[route], &trouble.lane, 1)));
    let lanes = kept.map(|kept| kept.content.lane());
    let Some(key) = lanes.into_iter().find_map(|lane| match lane {
        Lane::Key(key) => Some(key),
        Lane::Event(_) => None,
    }) else {
        return false;
    };
    erase(world, &key)
}

fn erase(world: &World, key: &Key) -> bool {
    let now = world.now();
    for (route, name) in world.routes.iter().enumerate() {
        // Where a route goes on without a dead letter, that is a lane of its own.
        let lanes = at_once(world.books.troubles(name, None, usize::MAX)).into_iter().map(|trouble| trouble.lane);
        let kept: Vec<_> = lanes.flat_map(|lane| at_once(world.books.kept(name, &lane, usize::MAX))).collect();
        let mut state = world.state();
        let truth = &mut state.truth;
        for kept in kept {
            match truth.find(kept.content.id()) {
                Some(number) if truth.events[number].key.as_ref() == Some(key) => {
                    truth.routes[route].erased.insert(number, now);
                }
                _ => {}
            }
        }
    }
    for asked in &mut world.state().replays {
        asked.cut_off = true;
    }
    world.note(|| format!("an operator erases {key}"));
    at_once(world.books.erase(key)) > 0
}

/// Asks for all that is retained before the route's checkpoints.
fn replay(world: &World, route: usize, key: Option<usize>) {
    let name = &world.routes[route];
    let ends: Vec<_> = at_once(world.books.checkpoints(name))
        .into_iter()
        .filter(|checkpoint| !checkpoint.partition.is_recovery())
        .map(|checkpoint| (checkpoint.partition, checkpoint.position))
        .collect();
    if ends.is_empty() {
        return;
    }
    let key = key.and_then(service::key);
    let retained = within_retention(world);
    let mut state = world.state();
    let id: Arc<str> = format!("replay-{}", state.replays.len()).into();
    let truth = &state.truth;
    let is_meant = |number: &usize| {
        let known = &truth.events[*number];
        let event = known.event.as_ref().filter(|event| event.kind() != SKIPPED);
        event.is_some()
            && !known.lost
            && truth.routes[route].takes(known)
            && key.as_ref().is_none_or(|key| known.key.as_ref() == Some(key))
            && retained.contains(&known.position)
    };
    let source = world.supply.watch();
    let read = ends.iter().flat_map(|(partition, end)| {
        let read = truth.read.get(partition).map(Vec::as_slice).unwrap_or_default();
        read.iter().filter(|(position, _)| source.order(position, end).is_le())
    });
    let numbers = read.flat_map(|(_, record)| record.events()).filter_map(|event| truth.find(event.id()));
    let events = numbers.filter(is_meant).collect();
    let asked = Asked { route, id: id.clone(), events, ends: ends.clone(), key: key.clone(), cut_off: false };
    state.replays.push(asked);
    state.strikes(Fault::Replayed);
    drop(state);
    world.note(|| format!("an operator replays `{name}` up to {ends:?}: {id}"));
    let keys = key.iter().map(ToString::to_string).collect();
    at_once(world.books.put_replay(&Replay {
        id: id.to_string(),
        route: name.clone(),
        filter: Filter { keys, ..Filter::default() },
        event: None,
        since: None,
        until: None,
        ends,
        finished: false,
    }));
}

/// Whether the event is one that the replay was asked for. Says what is wrong if not.
pub(super) fn within(world: &World, state: &State, replay: &str, event: &Event) -> Result<(), Breach> {
    let asked = state.replays.iter().find(|asked| *asked.id == *replay && !asked.cut_off);
    let (Some(asked), Some(number)) = (asked, state.truth.find(event.id())) else { return Ok(()) };
    let source = world.supply.watch();
    let is_before_its_end = asked.ends.iter().any(|(partition, end)| {
        let read = state.truth.read.get(partition).map(Vec::as_slice).unwrap_or_default();
        let mut of_it = read.iter().filter(|(_, record)| record.events().iter().any(|own| own.id() == event.id()));
        of_it.any(|(position, _)| source.order(position, end).is_le())
    });
    let is_before_its_end = match &world.supply {
        // What was read before a restored backup is not known any more, but positions are the store's own.
        Supply::Table(store) => {
            let position = &state.truth.events[number].position;
            asked.ends.iter().any(|(_, end)| store.order(position, end).is_le())
        }
        Supply::Late(_) => is_before_its_end,
        // Where a stream has forgotten something, a recovery reads the table again, and brings more.
        Supply::Shards(_) => true,
    };
    let is_of_its_key = asked.key.is_none() || asked.key == state.truth.events[number].key;
    if is_before_its_end && is_of_its_key {
        return Ok(());
    }
    Err(Breach::new(Rule::Repeatable, format!("{replay} brought {}, which it was not asked for", event.id())))
}

/// The positions of what retention promises: more may be there still.
fn within_retention(world: &World) -> Vec<crate::entry::Position> {
    let all: Vec<_> = service::retained(world).iter().map(|record| record.position.clone()).collect();
    let promised = world.scene.retained.map_or(all.len(), |newest| usize::try_from(newest).unwrap_or(usize::MAX));
    all[all.len().saturating_sub(promised)..].to_vec()
}

/// Takes a route out of the configuration for good.
async fn retire(world: &Arc<World>, workers: &Workers, route: usize) {
    if route == 0 || !workers.stop_all(world).await {
        workers.start_all();
        return;
    }
    let name = &world.routes[route];
    world.note(|| format!("an operator retires `{name}`"));
    world.state().strikes(Fault::Retired);
    world.state().truth.routes[route].retired = true;
    at_once(world.store.retire_route(name));
    at_once(world.books.forget_route(name));
    for asked in world.state().replays.iter_mut().filter(|asked| asked.route == route) {
        asked.cut_off = true;
    }
    workers.start_all();
}

/// Stops everything, puts an older copy in the store's place, sees that a relay notices, and adopts it.
pub(super) async fn restore(world: &Arc<World>, workers: &Workers, backup: &Snapshot) {
    if !workers.stop_all(world).await {
        workers.start_all();
        return;
    }
    world.state().strikes(Fault::Restored);
    world.store.restore(backup);
    service::restored(world);
    world.note(|| "the store is put back from a backup".to_owned());
    let found = at_once(adoption::losses(&world.store, &world.store, &*world.books));
    if !found.is_empty() {
        a_relay_notices(world, workers).await;
    }
    // Where nothing shows that anything is gone, the operator knows.
    let found = if found.is_empty() { at_once(adoption::unseen_losses(&world.store, &*world.books)) } else { found };
    for loss in &found {
        at_once(adoption::settle(&world.store, &world.store, &*world.books, loss, false));
    }
    for asked in &mut world.state().replays {
        asked.cut_off = true;
    }
    world.excuse_all();
    workers.start_all();
}

/// A relay that finds another history stops, and says so, and publishes nothing of it.
async fn a_relay_notices(world: &Arc<World>, workers: &Workers) {
    let before = world.state().truth.arrived_in_all();
    let ended = workers.run_one_to_its_end(world, Duration::from_secs(30)).await;
    let noticed = matches!(&ended, Some(Err(RelayError::Store(error))) if error.kind() == ErrorKind::HistoryChanged);
    if !noticed {
        world.breach(Rule::Loud, format!("a relay on a store that went backwards ended with {ended:?}"));
    }
    if world.state().truth.arrived_in_all() != before {
        world.breach(Rule::Loud, "a relay published from a store that went backwards, before it noticed");
    }
}

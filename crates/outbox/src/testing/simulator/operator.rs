//! People in the middle of it: redrives, discards, erasures, pauses, replays, a retired route, a restored backup.

mod replay;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::sleep;

pub(super) use self::replay::{Asked, within};
use super::{
    checks::at_once,
    fault::Fault,
    play::Workers,
    rule::Rule,
    schedule::{FilterScene, Operation},
    service,
    truth::Rewritten,
    world::World,
};
use crate::{
    bookkeeping::{Bookkeeping as _, Lane, Operator as _, Selector},
    clock::Clock as _,
    entry::Position,
    error::ErrorKind,
    event::{Event, Key},
    memory::Snapshot,
    relay::{RelayError, adoption},
    route::RouteName,
    source::Source as _,
    store::BusinessStore as _,
};

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
            if workers.own() {
                world.state().strikes(Fault::Paused);
            }
            at_once(world.books.pause(&world.routes[route], true));
            let now = world.now();
            world.state().patience[route].paused.get_or_insert(now);
            let world = world.clone();
            tokio::spawn(async move {
                sleep(lasts).await;
                world.state().patience[route].paused = None;
                at_once(world.books.pause(&world.routes[route], false));
            });
        }
        Operation::Replay(what) => replay::replay(world, route, what),
        Operation::Refilter => refilter(world, workers, route).await,
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
    let letters = at_once(world.books.dead_letters(name, &Selector::default(), None, usize::MAX));
    let redriven = at_once(world.books.redrive(name, &Selector::default(), world.clock.wall()));
    let route = world.routes.iter().position(|route| route == name);
    // What is said of another copy stays said.
    if let Some(route) = route.filter(|_| !world.scene.source.comes_twice()) {
        let truth = &mut world.state().truth;
        for letter in letters {
            if let Some(number) = truth.find(letter.kept.content.id()) {
                truth.routes[route].redriven(number, letter.kept.id);
            }
        }
    }
    if redriven > 0 {
        world.note(|| format!("an operator redrives {redriven} of `{name}`"));
        world.kept_is_changed();
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
    world.kept_is_changed();
    let (gapless, now) = (is_gapless(world, route, None), world.now());
    let mut state = world.state();
    let truth = &mut state.truth;
    let Some(number) = truth.find(id) else { return };
    let has_a_place = |event: &Event| event.placing().is_some();
    let leaves_marker = gapless && truth.events[number].event.as_ref().is_some_and(has_a_place);
    let own = &mut truth.routes[route];
    if leaves_marker {
        own.given_up.insert(number, now)
    } else {
        own.erased.insert(number, now)
    };
}

/// Whether the route's events, or those of its replay, come with nothing of their keys left out.
pub(super) fn is_gapless(world: &World, route: usize, replay: Option<&str>) -> bool {
    let scene = &world.scene.routes[route];
    let state = world.state();
    let replay = replay.and_then(|id| state.replays.iter().find(|asked| *asked.id == *id));
    scene.filter != FilterScene::Kind
        && !scene.goes_on
        && state.truth.routes[route].rewritten != Rewritten::Registered
        && replay.is_none_or(Asked::keeps_keys_whole)
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
    for asked in world.state().replays.iter_mut().filter(|asked| asked.is_of(key)) {
        asked.cut_off = true;
    }
    world.note(|| format!("an operator erases {key}"));
    world.kept_is_changed();
    at_once(world.books.erase(key)) > 0
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
    // Before its first run the store knows nothing of it.
    if is_registered(world, route) {
        at_once(world.store.retire_route(name));
    }
    at_once(world.books.forget_route(name));
    for asked in world.state().replays.iter_mut().filter(|asked| asked.route == route) {
        asked.cut_off = true;
    }
    workers.start_all();
}

/// Writes a route's filter otherwise, which ends that it is gapless if a relay has run with the other.
async fn refilter(world: &Arc<World>, workers: &Workers, route: usize) {
    if workers.stop_all(world).await {
        let name = &world.routes[route];
        world.note(|| format!("an operator changes the filter of `{name}`"));
        let registered = is_registered(world, route);
        let mut state = world.state();
        state.strikes(Fault::Refiltered);
        let own = &mut state.truth.routes[route];
        own.rewritten = if registered { Rewritten::Registered } else { Rewritten::Unregistered };
        if registered {
            // Whose markers have not come by now is left out.
            own.erased.extend(own.given_up.clone());
        }
    }
    workers.start_all();
}

fn is_registered(world: &World, route: usize) -> bool {
    at_once(world.store.routes()).iter().any(|known| known.route == world.routes[route])
}

/// Stops everything, puts an older copy in the store's place, sees that every relay notices, and adopts it.
pub(super) async fn restore(world: &Arc<World>, workers: &Workers, backup: &Snapshot) {
    if !workers.stop_all(world).await {
        workers.start_all();
        return;
    }
    world.state().strikes(Fault::Restored);
    world.store.restore(backup);
    service::restored(world);
    for route in 0..world.routes.len() {
        // A store that has never heard of the route knows of no other filter.
        let registered = is_registered(world, route);
        let rewritten = &mut world.state().truth.routes[route].rewritten;
        if *rewritten == Rewritten::Registered && !registered {
            *rewritten = Rewritten::Unregistered;
        }
    }
    world.note(|| "the store is put back from a backup".to_owned());
    let found = match adoption::losses(&world.store, &world.store, &*world.books).now_or_never() {
        Some(Ok(found)) => found,
        other => return world.breach(Rule::Loud, format!("what was lost cannot be found out: {other:?}")),
    };
    let is_plain = is_behind_a_checkpoint_lost(world);
    if is_plain && found.is_empty() {
        world.breach(Rule::Loud, "a store that has lost what is behind a checkpoint is taken for whole");
    }
    if !found.is_empty() {
        for relay in 0..world.scene.relays {
            a_relay_notices(world, workers, relay).await;
        }
    }
    // Where nothing shows that anything is gone, the operator knows.
    let found = if found.is_empty() {
        at_once(adoption::unseen_losses(&world.store, &world.store, &*world.books))
    } else {
        found
    };
    for loss in &found {
        if !matches!(
            adoption::settle(&world.store, &world.store, &*world.books, loss, false).now_or_never(),
            Some(Ok(_))
        ) {
            world.breach(Rule::Loud, "a store that was put back cannot be adopted");
        }
    }
    for asked in &mut world.state().replays {
        asked.cut_off = true;
    }
    (0..world.routes.len()).for_each(|route| world.excuse_all(route));
    workers.start_all();
}

/// Whether something that is gone was behind a stored checkpoint: then nobody may go on as if nothing had been.
fn is_behind_a_checkpoint_lost(world: &World) -> bool {
    let stored: Vec<_> = world.routes.iter().flat_map(|route| at_once(world.books.checkpoints(route))).collect();
    let state = world.state();
    let lost = state.truth.events.iter().filter(|known| known.lost && !known.gone_before);
    let is_behind = |at: &Position| stored.iter().any(|stored| world.store.order(at, &stored.position).is_le());
    lost.into_iter().any(|known| is_behind(&known.position))
}

/// A relay that finds another history stops, and says so, and publishes nothing of it.
async fn a_relay_notices(world: &Arc<World>, workers: &Workers, relay: usize) {
    let before = world.state().truth.arrived_in_all();
    let ended = workers.run_to_its_end(world, relay, Duration::from_secs(30)).await;
    let noticed = matches!(&ended, Some(Err(RelayError::Store(error))) if error.kind() == ErrorKind::HistoryChanged);
    if noticed {
        world.state().strikes(Fault::Noticed);
    } else {
        world.breach(Rule::Loud, format!("a relay on a store that went backwards ended with {ended:?}"));
    }
    if world.state().truth.arrived_in_all() != before {
        world.breach(Rule::Loud, "a relay published from a store that went backwards, before it noticed");
    }
}

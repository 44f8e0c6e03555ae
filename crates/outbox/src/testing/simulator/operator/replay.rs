//! Replays: what each was asked for, and whether it brings that and nothing else.

use std::{collections::BTreeSet, sync::Arc};

use super::super::{
    checks::at_once,
    fault::Fault,
    rule::{Breach, Rule},
    schedule::ReplayScene,
    service,
    source::Supply,
    truth::{Known, SECOND_KIND},
    world::{State, World},
};
use crate::{
    bookkeeping::{Bookkeeping as _, Operator as _, Replay},
    entry::Position,
    event::{Event, Key, SKIPPED},
    filter::Filter,
    source::{PartitionId, Source as _},
};

/// A replay that was asked for.
pub(in super::super) struct Asked {
    pub(in super::super) route: usize,
    pub(in super::super) id: Arc<str>,
    /// What it has to bring, by number.
    pub(in super::super) events: BTreeSet<usize>,
    /// Where it ends, by partition.
    ends: Vec<(PartitionId, Position)>,
    wanted: Wanted,
    /// A restored backup cut it off.
    pub(in super::super) cut_off: bool,
}

/// What of the route it is to bring.
enum Wanted {
    All,
    Key(Key),
    Kind,
    Event(Arc<str>),
}

impl Wanted {
    /// `None` if there is nothing of the kind.
    fn new(world: &World, what: ReplayScene) -> Option<Self> {
        Some(match what {
            ReplayScene::All => Self::All,
            ReplayScene::Key(number) => Self::Key(service::key(number)?),
            ReplayScene::Kind => Self::Kind,
            ReplayScene::Event(nth) => Self::Event(world.state().truth.events.get(nth)?.id.clone()),
        })
    }

    /// As the relay is asked for it: a filter, and an event's id.
    fn asked(&self) -> (Filter, Option<String>) {
        match self {
            Self::All => (Filter::default(), None),
            Self::Key(key) => (Filter { keys: vec![key.to_string()], ..Filter::default() }, None),
            Self::Kind => (Filter { types: vec![SECOND_KIND.to_owned()], ..Filter::default() }, None),
            Self::Event(id) => (Filter::default(), Some(id.to_string())),
        }
    }

    fn takes(&self, known: &Known) -> bool {
        match self {
            Self::All => true,
            Self::Key(key) => known.key.as_ref() == Some(key),
            Self::Kind => known.event.as_ref().is_some_and(|event| event.kind() == SECOND_KIND),
            Self::Event(id) => known.id == *id,
        }
    }
}

impl Asked {
    /// Whether it may bring something of `key`.
    pub(super) fn is_of(&self, key: &Key) -> bool {
        !matches!(&self.wanted, Wanted::Key(own) if own != key)
    }

    /// Whether it brings all of each key that it brings something of.
    pub(super) fn keeps_keys_whole(&self) -> bool {
        matches!(self.wanted, Wanted::All | Wanted::Key(_))
    }
}

/// Asks for what is retained before the route's checkpoints, or for a part of that.
pub(super) fn replay(world: &World, route: usize, what: ReplayScene) {
    let name = &world.routes[route];
    let ends: Vec<_> = at_once(world.books.checkpoints(name))
        .into_iter()
        .filter(|checkpoint| !checkpoint.partition.is_recovery())
        .map(|checkpoint| (checkpoint.partition, checkpoint.position))
        .collect();
    if ends.is_empty() {
        return;
    }
    let Some(wanted) = Wanted::new(world, what) else { return };
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
            && wanted.takes(known)
            && retained.contains(&known.position)
    };
    let source = world.supply.watch();
    let read = ends.iter().flat_map(|(partition, end)| {
        let read = truth.read.get(partition).map(Vec::as_slice).unwrap_or_default();
        read.iter().filter(|(position, _)| source.order(position, end).is_le())
    });
    let numbers = read.flat_map(|(_, record)| record.events()).filter_map(|event| truth.find(event.id()));
    let events = numbers.filter(is_meant).collect();
    let (filter, event) = wanted.asked();
    let asked = Asked { route, id: id.clone(), events, ends: ends.clone(), wanted, cut_off: false };
    state.strikes(if asked.keeps_keys_whole() { Fault::Replayed } else { Fault::ReplayedInPart });
    state.replays.push(asked);
    drop(state);
    world.note(|| format!("an operator replays `{name}` up to {ends:?}: {id}"));
    at_once(world.books.put_replay(&Replay {
        id: id.to_string(),
        route: name.clone(),
        filter,
        event,
        since: None,
        until: None,
        ends,
        finished: false,
    }));
}

/// Whether the event is one that the replay was asked for. Says what is wrong if not.
pub(in super::super) fn within(world: &World, state: &State, replay: &str, event: &Event) -> Result<(), Breach> {
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
    if is_before_its_end && asked.wanted.takes(&state.truth.events[number]) {
        return Ok(());
    }
    Err(Breach::new(Rule::Repeatable, format!("{replay} brought {}, which it was not asked for", event.id())))
}

/// The positions of what retention promises: more may be there still.
fn within_retention(world: &World) -> Vec<Position> {
    let all: Vec<_> = service::retained(world).iter().map(|record| record.position.clone()).collect();
    let promised = world.scene.retained.map_or(all.len(), |newest| usize::try_from(newest).unwrap_or(usize::MAX));
    all[all.len().saturating_sub(promised)..].to_vec()
}

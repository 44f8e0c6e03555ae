//! The service whose events are published: its transactions, kept, rolled back, or lost to another's.

use std::sync::Arc;

use fastrand::Rng;
use futures_util::FutureExt as _;

use super::{checks, fault::Fault, rule::Rule, truth::SECOND_KIND, world::World};
use crate::{
    entry::{Content, Position, Record},
    event::{Event, Key, NewEvent},
    memory::PARTITION,
    source::{Limit, PartitionId, Source as _},
    writer::WriteError,
};

/// One transaction of the service.
pub(super) fn transaction(
    world: &World,
    rng: &mut Rng,
    writes: &[(usize, u32)],
    keyless: u32,
    commits: bool,
    raced: bool,
) {
    let mut events = events(world, rng, writes, keyless);
    let mut transaction = world.store.transaction();
    if let Err(error) = transaction.write(events.clone()) {
        world.breach(Rule::Atomic, format!("a transaction was refused: {error}"));
        return;
    }
    if !commits {
        world.state().strikes(Fault::RolledBack);
        world.note(|| {
            let keys: Vec<String> = writes.iter().map(|(key, _)| format!("key/{key}")).collect();
            format!("a transaction on {} is rolled back", keys.join(", "))
        });
        drop(transaction);
        learn_written(world, Vec::new());
        return;
    }
    if raced && !writes.is_empty() {
        events = race(world, rng, writes[0].0);
        let lost = transaction.commit();
        if !matches!(lost, Err(WriteError::RetryTransaction { .. })) {
            world.breach(Rule::Atomic, format!("the transaction that came second on a key was answered {lost:?}"));
        }
        world.state().strikes(Fault::Raced);
    } else if let Err(error) = transaction.commit() {
        world.breach(Rule::Atomic, format!("a transaction did not commit: {error}"));
    }
    learn_written(world, events);
}

/// Another transaction on the key commits first. Gives what it wrote.
fn race(world: &World, rng: &mut Rng, key: usize) -> Vec<NewEvent> {
    let events = events(world, rng, &[(key, 1)], 0);
    if let Err(error) = world.store.write(events.clone()) {
        world.breach(Rule::Atomic, format!("a transaction that came first was refused: {error}"));
    }
    events
}

/// A row that somebody wrote who does not know the layout.
pub(super) fn rubbish(world: &World, key: Option<usize>) {
    world.state().strikes(Fault::Rubbish);
    let key = key.and_then(self::key);
    world.store.write_undecodable(key.clone(), "simulated: no entry", "rubbish");
    let found = learn(world);
    let is_it = |record: &Arc<Record>| matches!(&record.content, Content::Undecodable(row) if row.key == key);
    if found.len() != 1 || !found.iter().all(is_it) {
        world.breach(Rule::Atomic, format!("a row that is no entry was written, and {} found", ids(&found)));
    }
}

fn name(key: usize) -> String {
    format!("key/{key}")
}

/// Keys by number.
pub(super) fn key(number: usize) -> Option<Key> {
    Key::new(name(number)).ok()
}

fn events(world: &World, rng: &mut Rng, writes: &[(usize, u32)], keyless: u32) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for &(key, count) in writes {
        events.extend((0..count).filter_map(|_| event(world, rng, Some(key))));
    }
    events.extend((0..keyless).filter_map(|_| event(world, rng, None)));
    events
}

fn event(world: &World, rng: &mut Rng, key: Option<usize>) -> Option<NewEvent> {
    let state = world.state();
    let truth = &state.truth;
    let number = rng.u64(..);
    let kind = if rng.bool() { "first" } else { SECOND_KIND };
    let mut event = NewEvent::builder(kind).json(&number);
    event = match key {
        Some(key) => event.key(name(key)),
        None => event.id(format!("keyless-{number:016x}")),
    };
    if !truth.events.is_empty() && rng.u8(0..3) == 0 {
        let cause = &truth.events[rng.usize(..truth.events.len())];
        if let (Some(cause), false) = (&cause.event, cause.lost) {
            event = event.caused_by(cause);
        }
    }
    event.build().ok()
}

/// Takes over what one transaction left, which has to be what it wrote: each event as it was, an entry for each key, and
/// nothing if it was rolled back. Otherwise what a store loses, alters or brings back would be the truth.
fn learn_written(world: &World, mut written: Vec<NewEvent>) {
    let found = learn(world);
    // Of one key in the order in which it was written.
    written.sort_by(|one, other| one.key().cmp(&other.key()));
    let mut events: Vec<&Event> = found.iter().flat_map(|record| record.events()).collect();
    events.sort_by(|one, other| one.key().cmp(&other.key()));
    let entries = written.chunk_by(|one, other| one.key().is_some() && one.key() == other.key()).count();
    let is_whole = (found.len(), events.len()) == (entries, written.len());
    if !is_whole || !events.iter().zip(&written).all(|(event, written)| is_of(event, written)) {
        let (ids, all) = (ids(&found), written.len());
        world.breach(Rule::Atomic, format!("a transaction wrote {all} events in {entries} entries, and left {ids}"));
    }
}

/// Whether the event says what was written. The store adds its place, and its id if it was given none.
fn is_of(event: &Event, written: &NewEvent) -> bool {
    let NewEvent { id, kind, key, subject, time: _, content_type, schema: _, extensions, data } = written;
    event.kind() == &**kind
        && event.key() == key.as_ref()
        && event.subject() == subject.as_deref()
        && event.content_type() == content_type.as_deref()
        && event.data() == data.as_ref()
        && id.as_deref().is_none_or(|id| event.id() == id)
        && extensions.iter().all(|(name, value)| event.extension(name) == Some(value))
}

/// Takes over what was committed since the last look, and gives it.
fn learn(world: &World) -> Vec<Arc<Record>> {
    let after = world.state().learned.clone().unwrap_or_else(|| Position::new("0"));
    let records = read(world, &after);
    if !records.is_empty() {
        world.note(|| format!("committed: {}", ids(&records)));
    }
    let mut state = world.state();
    for record in &records {
        state.truth.committed(record);
    }
    if let Some(last) = records.last() {
        state.learned = Some(last.position.clone());
    }
    drop(state);
    records
}

fn ids(records: &[Arc<Record>]) -> String {
    let ids = records.iter().flat_map(|record| checks::ids(record)).map(|(id, _)| id);
    ids.collect::<Vec<_>>().join(" ")
}

/// Everything that retention has left.
pub(super) fn retained(world: &World) -> Vec<Arc<Record>> {
    read(world, &Position::new("0"))
}

fn read(world: &World, after: &Position) -> Vec<Arc<Record>> {
    const ALL: Limit = Limit { events: usize::MAX, bytes: usize::MAX };
    if let Some(Ok(page)) = world.store.read(&PartitionId::new(PARTITION), after, ALL).now_or_never() {
        return page.records;
    }
    world.breach(Rule::Atomic, format!("what was committed behind {after} cannot be read"));
    Vec::new()
}

/// The store is an older copy of itself: what was committed since is gone.
pub(super) fn restored(world: &World) {
    let end = retained(world).last().map_or_else(|| Position::new("0"), |record| record.position.clone());
    let mut state = world.state();
    state.truth.restored(|position| world.store.order(position, &end).is_gt());
    state.learned = (end.as_str() != "0").then_some(end);
}

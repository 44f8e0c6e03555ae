//! Events and bookkeeping entries for the suites.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    bookkeeping::{Bookkeeping, Front, FrontState, Keep, KeptContent, Lane, Lease, Settlement, Trouble},
    entry::{CommitId, Position},
    event::{Event, Identity, Key, NewEvent},
    filter::Filter,
    place::{Place, Placing},
    route::{RouteName, Start},
    source::PartitionId,
    store::{Registration, Witness},
};

pub(super) fn key(name: &str) -> Key {
    Key::new(name).expect("a sample key is valid")
}

pub(super) fn new_event(name: &str) -> NewEvent {
    NewEvent::builder("sample.happened").key(name).json(&name).build().expect("a sample event is valid")
}

pub(super) fn keyless(id: Option<&str>) -> NewEvent {
    let builder = NewEvent::builder("sample.happened").json(&id);
    let builder = match id {
        Some(id) => builder.id(id),
        None => builder,
    };
    builder.build().expect("a sample event is valid")
}

/// Event `sequence` of a key, as a source gives it: `name@1.sequence.0`.
pub(super) fn event(name: &str, sequence: u64) -> Event {
    event_of(new_event(name), sequence)
}

/// An event without a key.
pub(super) fn event_without_key(id: &str) -> Event {
    event_of(keyless(Some(id)), 1)
}

pub(super) fn event_of(new: NewEvent, sequence: u64) -> Event {
    let after = if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN };
    let placing = new.key().map(|_| Placing { place: Place::new(1, sequence, 0), count: 1, after });
    let identity = Identity { source: &"/samples".into(), placing, recorded: Some(at(0)), fallback_id: "fallback" };
    Event::from_new(new, identity).expect("a sample event is valid")
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a sample time is valid")
}

pub(super) fn route(name: &str) -> RouteName {
    RouteName::new(name).expect("a sample route's name is valid")
}

pub(super) fn partition() -> PartitionId {
    PartitionId::new("entries")
}

pub(super) fn position(number: u64) -> Position {
    Position::new(number.to_string())
}

pub(super) fn witness(number: u64) -> Witness {
    let commit = CommitId((u128::from(number) + 1).to_be_bytes());
    Witness { position: position(number), commit }
}

pub(super) fn lane(name: &str) -> Lane {
    Lane::Key(key(name))
}

pub(super) fn retrying(attempts: u32) -> Front {
    let state = FrontState::Retrying { due: at(60) };
    Front { state, attempts, failed_since: at(0), reason: "said no".to_owned() }
}

pub(super) fn dead(attempts: u32) -> Front {
    Front { state: FrontState::Dead, ..retrying(attempts) }
}

/// Keeps events `sequences` of a key: opens a trouble with `front`, or parks behind one.
pub(super) fn keep(name: &str, front: Option<Front>, sequences: impl IntoIterator<Item = u64>) -> Keep {
    let content = |sequence| (KeptContent::Event(event(name, sequence)), position(sequence));
    Keep { lane: lane(name), front, events: sequences.into_iter().map(content).collect() }
}

pub(super) fn registration(name: &str, start: Start) -> Registration {
    Registration {
        route: route(name),
        filter: Filter::default(),
        start,
        start_position: None,
        max_event_bytes: 1 << 20,
        gapless: true,
        registered: at(0),
    }
}

/// Takes a lease that nobody holds, or takes it away from whoever does.
pub(super) async fn take(bookkeeping: &dyn Bookkeeping, name: &str) -> Lease {
    let seen = bookkeeping.lease(name).await.expect("a lease can be looked at");
    let taken = bookkeeping.take(name, &seen, "suite", std::time::Duration::from_secs(10)).await;
    taken.expect("a lease can be taken").expect("a lease that is as it was seen can be taken")
}

/// The ids of all events kept in a lane, in their order.
pub(super) async fn kept_ids(bookkeeping: &dyn Bookkeeping, route: &RouteName, lane: &Lane) -> Vec<String> {
    let kept = bookkeeping.kept(route, lane, usize::MAX >> 1).await.expect("kept events can be read");
    kept.iter().map(|kept| kept.content.id().to_owned()).collect()
}

/// A lane that is in trouble.
pub(super) async fn trouble(bookkeeping: &dyn Bookkeeping, route: &RouteName, lane: &Lane) -> Trouble {
    let trouble = bookkeeping.trouble(route, lane).await.expect("a trouble can be looked at");
    trouble.expect("a lane with kept events is in trouble")
}

/// Settles the first `done` events of a lane as it stands now.
pub(super) async fn settlement(
    bookkeeping: &Arc<dyn Bookkeeping>,
    route: &RouteName,
    lane: &Lane,
    done: usize,
    front: Option<Front>,
) -> Settlement {
    let Trouble { generation, .. } = trouble(&**bookkeeping, route, lane).await;
    let kept = bookkeeping.kept(route, lane, done).await.expect("kept events can be read");
    let remove = kept.iter().map(|kept| kept.id).collect();
    Settlement { lane: lane.clone(), generation, remove, apart: None, discarded: false, front }
}
